"""The model card: everything that a model's weights do not say themselves.

A card is JSON. It is read without torch, so that listing models stays quick.
"""

import dataclasses
import importlib.metadata
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from geores import plugins
from geores.card_fields import ACTIVATIONS, COLUMNS, FIELDS
from geores.card_values import (
    FORMAT_VERSION,
    DataSource,
    Intervals,
    SplitParameters,
    Units,
    known_names,
    upgrade,
)
from geores.errors import BundleError
from geores.io.whole_files import write_whole

CARD_FILE = 'card.json'
WEIGHTS = Path(__file__).parent / 'weights'

# Fields that a card may leave out; they then have their default.
_OPTIONAL = frozenset(
    {
        'alignment',
        'answer_encoding',
        'calibration',
        'colours',
        'context',
        'display_range',
        'display_stretch',
        'domain',
        'encoder',
        'intervals',
        'limits',
        'log_scale',
        'split',
        'tiles',
        'tokenizer',
    }
)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model takes, what it answers, and where it comes from.

    Args:
        name: short name, usable in file names.
        description: one or two sentences for people.
        architecture: name of the network in `geores.models`.
        architecture_kwargs: its keyword arguments, plain JSON values.
        activation: function from logits to probabilities ('sigmoid', 'softmax'), or to values ('sigmoid' for
            shares of 0 to 1, else 'identity').
        task: 'multi-label' (any number of labels per tile), 'single-label' (one label per tile),
            'segmentation' (one label per pixel), 'regression' (a value for each label) or 'vqa' (answers to
            questions).
        sensor: what the images were taken with.
        processing_level: such as 'L2A'.
        bands: names in the order of the network's input: 'B02' ... or 'red', 'green', 'blue'.
        units: units of pixel values, one of `geores.card_values.Units`, or its text: 'reflectance*10000'
            (Sentinel-2 digital numbers without offset), which with ', dB' behind it has Sentinel-1 in dB
            beside it, '8-bit', 'dB' or 'other'.
        gsd: smallest and largest ground sampling distance it was made for, in metres.
        input_size: height and width of its input in pixels.
        resampling: how coarser bands are brought to its resolution; shrinking is by average.
        mean: mean per band, in `units`; of the logarithm where `log_scale` is set.
        std: standard deviation per band, likewise.
        labels: label names in the order of the logits; for a regression, what each value is; for VQA, the
            answers.
        thresholds: decision threshold per label, or None where the best label counts or there are values.
        split_id: identifier of the split between training and validation.
        split: how that split was made, by which `geores evaluate --split val` makes it again; None where
            it is not known.
        training_data: the data sets that trained the model, weights that it started from and bundles among
            them included: name, licence, places, and other names that they go by. A text is kept as one
            source that is described in words, by which data that trained the model are not recognised.
        licence: licence of the weights, which is not the code's.
        metrics: data source -> name of the metric -> value; 'split' says on what.
        display_stretch: low and high percentile by which other imagery is brought to 8 bits.
        display_range: reflectances times 10,000 that become 0 and 255 instead, as in its training images.
        log_scale: where set, pixel values v become ln(1 + log_scale * v) before `mean` and `std` apply.
        context: for a segmentation, the margin in pixels around a pixel on which its label depends. Labels
            that lie at least that far from the edge of a window do not depend on the window.
        alignment: for a segmentation, windows start at multiples of that many pixels, and their sides are
            multiples of it, because the network halves its maps; 1 where it does not.
        colours: one per label, as '#rrggbb'; None takes the palette that knows the labels.
        domain: where and when its training images were taken, as far as known: `latitudes` (lowest and
            highest in degrees) and `months` (1 to 12). Scenes outside are said to be so.
        calibration: `{'temperature': value}` by which logits are divided, if calibrated; where known with the
            expected calibration error without and with it, `ece_uncalibrated` and `ece`, and what they were
            `measured_on`. By data source the same figures are in `metrics`.
        limits: where the model fails: `figure` (name of a figure), the labels or kinds of questions with the
            `worst` values of it (name -> value), what it was `measured_on`, and sentences on what its
            training has not seen (`unseen`).
        intervals: for a segmentation, how often intervals of areas on its maps held the ground truth
            (`geores.card_values.Intervals`), which `geores ask` says; None where it was not measured.
        tiles: how tiles of scenes were cut for training: options of `geores.datasets.SceneTiles` (`stride`,
            `placement`, `resolution`, `min_share`, `min_valid`, `layer`, `linear_s1`), by which `split_id`
            can be made again; and `dropped`, the classes that had too few tiles to be learnt.
        tokenizer: for VQA, how questions become tokens (`geores.vqa.network`).
        answer_encoding: for VQA, style and variant of the answers' texts (`geores.vqa.answers`).
        encoder: for VQA, whose feature maps the head takes. Either another bundle's, with `name`, `sha256`,
            `bands` (band of the image -> band of that bundle which takes its place: normalised by `mean`
            and `std` of this card it counts as normalised there; other bands stay at their mean) and
            `grid` (height and width to which maps are averaged, or None), where wanted `scale` (by which
            images are resized first) and `looks` (channels of colour and texture follow); or its own, with
            `architecture`, `architecture_kwargs` and `grid`.
        sha256: hash of the weights file; filled in by `save_bundle`.
        geores_version: version of geores that wrote it; filled in by `save_bundle`.
        format_version: version of the card's format.

    Raises:
        BundleError: if a field is of another type or out of range, or two contradict each other.
    """

    name: str
    description: str
    architecture: str
    architecture_kwargs: Mapping[str, Any]
    activation: Literal['sigmoid', 'softmax', 'identity']
    task: Literal['multi-label', 'single-label', 'segmentation', 'regression', 'vqa']
    sensor: str
    processing_level: str
    bands: tuple[str, ...]
    units: Units
    gsd: tuple[float, float]
    input_size: int
    resampling: Literal['nearest', 'bilinear']
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    thresholds: tuple[float, ...] | None
    split_id: str
    training_data: tuple[DataSource, ...]
    licence: str
    metrics: Mapping[str, Mapping[str, Any]]
    display_stretch: tuple[float, float] | None = (2.0, 98.0)
    display_range: tuple[float, float] | None = None
    log_scale: float | None = None
    context: int | None = None
    alignment: int = 1
    colours: tuple[str, ...] | None = None
    split: SplitParameters | None = None
    domain: Mapping[str, tuple[float, ...]] | None = None
    calibration: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] | None = None
    intervals: Intervals | None = None
    tiles: Mapping[str, Any] | None = None
    tokenizer: Mapping[str, Any] | None = None
    answer_encoding: Mapping[str, str] | None = None
    encoder: Mapping[str, Any] | None = None
    sha256: str = ''
    geores_version: str = ''
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for field, parse in FIELDS.items():
            try:
                object.__setattr__(self, field, parse(getattr(self, field)))
            except ValueError as error:
                raise BundleError(f'field {field!r} {error}') from None
        problem = _contradiction(self)
        if problem:
            raise BundleError(problem)

    @property
    def fill(self) -> tuple[float, ...]:
        """Value of invalid pixels per band, in `units`: it becomes 0 by the normalisation."""
        if self.log_scale is None:
            return self.mean
        return tuple(math.expm1(mean) / self.log_scale for mean in self.mean)

    def trained_on(self, names: Iterable[str]) -> list[str]:
        """Those of some names that the card gives as names of its training or evaluation data."""
        return known_names(self.training_names, names)

    @property
    def training_names(self) -> tuple[str, ...]:
        """All names of the card's training and evaluation data."""
        sources = [source for source in self.training_data if not source.in_words]
        return (*(name for source in sources for name in (source.name, *source.also)), *self.metrics)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make a card of parsed JSON, of this or an older format version.

        Raises:
            BundleError: if a field is missing, unknown, of another type, or contradicts another, or
                the card is of a newer format.
        """
        data = upgrade(dict(data))
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in fields.keys() - _OPTIONAL:
            if name not in data:
                raise BundleError(f'field {name!r} is missing')
        unknown = sorted(data.keys() - fields.keys())
        if unknown:
            raise BundleError(f'field {unknown[0]!r} is not one that geores knows')
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Give the card as plain JSON values."""
        data = {'format_version': self.format_version} | dataclasses.asdict(self)
        data['units'] = self.units.value
        data['training_data'] = [
            {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in source.items()
                if value
            }
            for source in data['training_data']
        ]
        if self.split is not None:
            data['split'] = {'method': self.split.method} | self.split.given
        return data

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a card.

        Raises:
            BundleError: if it is missing or not a valid card; the file and the field are named.
        """
        if Path(path).exists() and not Path(path).is_file():  # a named pipe would be waited for
            raise BundleError(f'{path}: the card cannot be read: is not a file')
        try:
            data = json.loads(Path(path).read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, 'strerror', None) or 'is not JSON'
            raise BundleError(f'{path}: the card cannot be read: {reason}') from error
        if not isinstance(data, dict):
            raise BundleError(f'{path}: the card has to be a JSON object')
        try:
            return cls.from_dict(data)
        except BundleError as error:
            raise BundleError(f'{path}: {error}') from error

    def save(self, path: str | Path) -> None:
        """Write the card as JSON."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(Path(path), text + '\n')


def _lengths(card: ModelCard) -> Iterable[tuple[str, int, str, int]]:
    bands, labels = len(card.bands), len(card.labels)
    yield 'mean', len(card.mean), 'bands', bands
    yield 'std', len(card.std), 'bands', bands
    if card.thresholds is not None:
        yield 'thresholds', len(card.thresholds), 'labels', labels
    if card.colours is not None:
        yield 'colours', len(card.colours), 'labels', labels


def _contradiction(card: ModelCard) -> str | None:
    """Say which two fields of a card, each of its right type, contradict each other; None where none do."""
    for field, count, other, wanted in _lengths(card):
        if count != wanted:
            return f'field {field!r} has {count} values for {wanted} {other}'
    taken = sorted(set(card.labels) & COLUMNS)
    if taken:
        return f"field 'labels' holds {taken[0]!r}, which is a column of its own in tables of tiles"
    if card.activation not in ACTIVATIONS[card.task]:
        return f"field 'activation' is {card.activation!r}, which does not fit {card.task!r}"
    for name in ('tokenizer', 'answer_encoding', 'encoder'):
        if (getattr(card, name) is None) == (card.task == 'vqa'):
            return f'field {name!r} has to be {"there" if card.task == "vqa" else "null"} for {card.task!r}'
    if card.intervals is not None and card.task != 'segmentation':
        return f"field 'intervals' has to be null for {card.task!r}, which makes no class map"
    if (card.context is None) == (card.task == 'segmentation'):
        needed = 'there' if card.task == 'segmentation' else 'null'
        return f"field 'context' has to be {needed} for {card.task!r}"
    if card.task == 'segmentation' and card.thresholds is not None:
        return "field 'thresholds' has to be null for 'segmentation', where the best label of a pixel counts"
    if card.task == 'vqa' and card.thresholds is not None:
        return "field 'thresholds' has to be null for 'vqa', where the best answer counts"
    if card.task == 'regression':
        for name in ('thresholds', 'calibration'):
            if getattr(card, name) is not None:
                return f'field {name!r} has to be null for a regression, which answers in values'
    if card.task == 'multi-label' and card.thresholds is None:
        return "field 'thresholds' is missing, and multi-label models need one a label"
    return None


class Bundle(NamedTuple):
    """A bundle that is known by name: its card, its folder and the package that holds it."""

    card: ModelCard
    folder: Path
    package: str


def list_models() -> list[ModelCard]:
    """List the cards of the models that `load_model` knows by name: those that ship, then other packages'."""
    return [bundle.card for bundle in list_bundles()[0]]


def shipped_models() -> list[ModelCard]:
    """List the cards of the models that ship with geores, by name."""
    return [bundle.card for bundle in _shipped()]


def list_bundles() -> tuple[list[Bundle], list[str]]:
    """List the bundles that are known by name, and say what is wrong with those of other packages.

    Returns:
        Those that ship and then other packages', each by name; one sentence on each bundle of another
        package that is not usable by its name.
    """
    bundles = _shipped()
    shipped = {bundle.folder.name for bundle in bundles}
    offered, problems = plugins.bundle_folders()
    for name, (folder, package) in sorted(offered.items()):
        try:
            bundles.append(_offered(folder, package, hidden=name in shipped))
        except BundleError as error:
            problems.append(f'package {package}: {error}')
    return bundles, problems


def _shipped() -> list[Bundle]:
    package = f'geores {importlib.metadata.version("geores")}'
    paths = sorted(WEIGHTS.glob(f'*/{CARD_FILE}'))
    return [Bundle(ModelCard.load(path), path.parent, package) for path in paths]


def _offered(folder: Path, package: str, *, hidden: bool) -> Bundle:
    if hidden:
        raise BundleError(f'{folder}: hidden by the model of that name that ships: load it by its path')
    card = ModelCard.load(folder / CARD_FILE)
    if card.name != folder.name:
        raise BundleError(f'{folder}: its card is named {card.name!r}: name card and folder alike')
    return Bundle(card, folder, package)
