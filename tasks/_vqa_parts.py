"""Parts of the VQA task: encoder, input statistics, cached features, and validation predictions."""

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, distributed, nn

from geores.bundle import load_model
from geores.card_values import Units
from geores.datasets._sampling import process_count
from geores.errors import UsageError
from geores.model import Model
from geores.models.features import FeatureMap
from geores.models.vqa import VQAHead
from geores.runtime.base import exact_float32
from geores.tasks.start import start_from
from geores.vqa.answers import UNKNOWN
from geores.vqa.comparison import (
    MAJORITY,
    MODEL,
    NUMBERS,
    QUESTION_ONLY,
    Majority,
    ModelComparison,
    compare_models,
    forms_of,
)
from geores.vqa.model import TURNS, FeatureCache, feature_key
from geores.vqa.network import own_encoder, shared_encoder

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = [
    'Predictions',
    'TaskEncoder',
    'freeze_unused',
    'image_identities',
    'make_cache',
    'make_encoder',
    'numbers_told',
    'statistics',
]

_logger = logging.getLogger(__name__)

LOG_WIDTH = 110
"""Characters of a line of a table in a log."""

_COLOURS = {'red': 'B04', 'green': 'B03', 'blue': 'B02'}
_IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


@dataclass(frozen=True)
class TaskEncoder:
    """An image encoder and its description on a card.

    Attributes:
        features: network that gives the feature maps.
        spec: the card's `encoder`.
        shared: the bundle it is part of; None where it is the task's own.
    """

    features: FeatureMap
    spec: Mapping[str, Any]
    shared: Model | None


def make_encoder(
    bundle: str | None,
    architecture: str | None,
    kwargs: Mapping[str, Any],
    start: str | None,
    places: Mapping[str, str] | None,
    bands: Sequence[str],
    grid: int | None,
    scale: float = 1.0,
    looks: bool = False,
) -> TaskEncoder:
    """Take another bundle's encoder, or build one.

    Args:
        bundle: name or folder of the bundle; None builds.
        architecture: name of the architecture to build.
        kwargs: arguments of the architecture; `pretrained` may be among them.
        start: weights that the encoder starts from, as in `geores.tasks.start`.
        places: band of the images -> band of the bundle; None finds those of the same name or colour.
        bands: bands of the images.
        grid: grid to which maps are averaged; None leaves them.
        scale: factor by which images are resized for a shared encoder.
        looks: append channels of colour and texture to a shared encoder's.

    Raises:
        UsageError: if there is neither or both, or a band is missing.
    """
    if (bundle is None) == (architecture is None):
        raise UsageError('a VQA task takes either encoder, a bundle, or architecture')
    if bundle is None:
        if scale != 1 or looks:
            raise UsageError('scale and looks are for a shared encoder: name one, or drop them')
        assert architecture is not None  # noqa: S101 - for the type alone
        own = own_encoder(architecture, kwargs, tuple(bands), grid)
        if start is not None:
            start_from(own.network, start, bands)
        kept = {name: value for name, value in kwargs.items() if name != 'pretrained'}
        return TaskEncoder(
            own, {'architecture': architecture, 'architecture_kwargs': kept, 'grid': grid}, None
        )
    model = load_model(bundle)
    if places is None:
        known = set(model.card.bands)
        places = {band: band if band in known else _COLOURS.get(band, band) for band in bands}
    features = shared_encoder(model, places, tuple(bands), grid, scale, looks)
    spec: dict[str, Any] = {'name': model.name, 'sha256': model.sha256, 'bands': dict(places), 'grid': grid}
    spec |= {'scale': scale} if scale != 1 else {}
    spec |= {'looks': True} if looks else {}
    return TaskEncoder(features, spec, model)


def statistics(
    encoder: TaskEncoder,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    data: Any,  # noqa: ANN401 - a datamodule
    bands: Sequence[str],
) -> tuple[list[float], list[float]]:
    """Choose the mean and standard deviation that normalise images.

    Those given; else those of a shared encoder that takes 8-bit images; else ImageNet's for three bands of
    an encoder of its own, and the training images' for all others.
    """
    if mean is not None and std is not None:
        if not len(mean) == len(std) == len(bands):
            raise UsageError(f'{len(mean)} values of mean and {len(std)} of std for {len(bands)} bands')
        return list(mean), list(std)
    shared = encoder.shared
    if shared is not None and shared.card.units == Units.EIGHT_BIT:
        order = [shared.card.bands.index(encoder.spec['bands'][band]) for band in bands]
        return [shared.card.mean[place] for place in order], [shared.card.std[place] for place in order]
    if shared is None and len(bands) == len(_IMAGENET[0]):
        return _IMAGENET
    measured: tuple[list[float], list[float]] = data.statistics
    return measured


def numbers_told(data: Any, images: Sequence[int]) -> 'list[tuple[int, Form, float]]':  # noqa: ANN401
    """Find the questions on some images that were answered by a number, as counts and areas are.

    Returns:
        Number of the image, question, and answer as in the files, such as 449 where it is put into a bin.
    """
    dataset = data.dataset
    told = []
    for index in data.questions(images):
        bounds = dataset.encoding.bounds(dataset.questions[index].answer)
        (form,) = forms_of([dataset.questions[index].text])
        if bounds is not None and form is not None and form.type in NUMBERS:
            told.append((int(dataset.image_numbers[index]), form, bounds[0]))
    return told


def image_identities(dataset: Any) -> list[str]:  # noqa: ANN401 - `RSVQA`
    """Identify each image of a dataset by name, size and modification time."""
    names = []
    for name, entry in zip(dataset.image_ids, dataset.entries, strict=True):
        path = Path(entry.path)
        if path.is_file():
            status = path.stat()
            name = f'{name} {status.st_size} {status.st_mtime_ns}'
        names.append(name)
    return names


def make_cache(
    folder: str,
    encoder: nn.Module,
    mean: Tensor,
    std: Tensor,
    data: Any,  # noqa: ANN401 - a datamodule
    device: torch.device,
) -> FeatureCache:
    """Features of all images of a datamodule, computed now unless a cache holds them.

    Args:
        folder: folder of the caches.
        encoder: frozen.
        mean: (C, 1, 1).
        std: (C, 1, 1).
        data: `RSVQADataModule`; where it turns images, all eight turns are encoded.
        device: device that encodes.
    """
    dataset = data.dataset
    turns = 1 if data.turning == 'none' else TURNS
    names = image_identities(dataset)
    cache = FeatureCache(
        folder, feature_key(encoder, mean, std, [*names, f'size {data.size}'], turns, device.type)
    )
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank():
        distributed.barrier()  # until the first process has filled it
        return cache
    if cache.path.is_file():
        _let_go()
        return cache
    encoder.to(device).eval()
    mean, std = mean.to(device), std.to(device)

    def encode(images: Tensor) -> Tensor:
        with torch.inference_mode():
            features: Tensor = encoder((images.to(device) - mean) / std)
        return features

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task('encoding images', total=len(names))
        with exact_float32():
            cache.fill(
                encode, dataset.image, len(names), turns, lambda done: progress.update(bar, completed=done)
            )
    _let_go()
    return cache


def _let_go() -> None:
    """Let the other processes of a distributed training go on."""
    if process_count() > 1:
        distributed.barrier()


class Predictions:
    """Answers to all validation questions by the model, its question-only twin and the majority.

    Args:
        labels: answers in the order of logits.

    Attributes:
        answers: True ones, encoded; one that training never gave is among them, and nobody's.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._majority: Majority | None = None
        self._raw: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all answers."""
        self.answers: list[str] = []
        self._types: list[str] = []
        self._questions: list[str] = []
        self._ids: list[str] = []
        self._asked_of: list[str] = []
        self._logits: dict[str, list[Tensor]] = {QUESTION_ONLY: [], MODEL: []}

    def learn(self, data: Any) -> None:  # noqa: ANN401 - a datamodule
        """Take the most frequent answers of the training part, and the raw answers of all, once."""
        if self._majority is not None:
            return
        dataset, chosen = data.dataset, data.questions(data.split.train)
        texts, types = (
            [kinds[index] for index in chosen] for kinds in (dataset.questions, dataset.question_types)
        )
        answers = [dataset.answers[index] for index in chosen]
        self._majority = Majority.of([one.text for one in texts], types, answers)
        self._raw = {name: one.answer for name, one in zip(dataset.ids, dataset.questions, strict=True)}

    def update(self, batch: Mapping[str, Any], logits: Tensor, blind: Tensor | None) -> None:
        """Keep the answers of a batch.

        Args:
            batch: batch of `RSVQADataModule`.
            logits: (Q, K), of the model.
            blind: (Q, K), of the question-only model.
        """
        self.answers += batch['answer']
        self._types += batch['question_type']
        self._questions += batch['question']
        self._ids += batch['id']
        self._asked_of += [batch['image_id'][place] for place in batch['image_index'].tolist()]
        for name, part in ((QUESTION_ONLY, blind), (MODEL, logits)):
            if part is not None:
                self._logits[name].append(part.detach().float().cpu())

    def gather(self) -> None:
        """Bring together what all processes of a distributed training were asked, in each of them."""
        if process_count() == 1:
            return
        mine = (self.answers, self._types, self._questions, self._ids, self._asked_of, self._logits)
        parts: list[Any] = [None] * process_count()
        distributed.all_gather_object(parts, mine)
        self.reset()
        for answers, types, questions, ids, images, logits in parts:
            self.answers += answers
            self._types += types
            self._questions += questions
            self._ids += ids
            self._asked_of += images
            for name, some in logits.items():
                self._logits[name] += some

    def logits(self) -> tuple[Tensor, Tensor]:
        """The model's, (Q, K), and the class of each true answer, (Q,), 0 where there is none."""
        order = {label: place for place, label in enumerate(self.labels) if label != UNKNOWN}
        target = torch.tensor([order.get(answer, 0) for answer in self.answers])
        return torch.cat(self._logits[MODEL]), target

    def right(self) -> list[tuple[str, str, bool, bool]]:
        """Image and type of each question, and whether the question-only model and the model were right."""
        if not self._logits[QUESTION_ONLY]:
            return []
        places = [torch.cat(self._logits[who]).argmax(1).tolist() for who in (QUESTION_ONLY, MODEL)]
        said = [[self.labels[place] for place in chosen] for chosen in places]
        rows = zip(self._asked_of, self._types, *said, self.answers, strict=True)
        return [(image, kind, blind == answer, one == answer) for image, kind, blind, one, answer in rows]

    def comparison(self) -> ModelComparison:
        """Model, question-only model and majority on the same questions."""
        said: dict[str, Sequence[str]] = {}
        if self._majority is not None:
            said[MAJORITY] = self._majority.answer(self._questions, self._types)
        for name, parts in self._logits.items():
            if parts:
                said[name] = [self.labels[best] for best in torch.cat(parts).argmax(1).tolist()]
        raw = [self._raw.get(name, answer) for name, answer in zip(self._ids, self.answers, strict=True)]
        return compare_models(
            said, self.answers, self._types, raw=raw, images=len(set(self._asked_of)), known=self.labels
        )

    def log_table(self) -> None:
        """Log the comparison as a table, which `geores train` prints."""
        comparison = self.comparison()
        title = f'{comparison.questions:,} questions on {comparison.images:,} images'
        if comparison.unknown:
            title += f'; {comparison.unknown:,} answers that training never gave'
        table = comparison.table(title)
        plain = Console(file=io.StringIO(), width=LOG_WIDTH)
        with plain.capture() as text:
            plain.print(table)
        _logger.info(text.get(), extra={'result': table})


def freeze_unused(twin: VQAHead, features: int, grid: int) -> None:
    """Freeze what a twin that looks at nothing never uses: DDP would wait for gradients of it."""
    with torch.random.fork_rng(devices=[]):  # dropout must not change what is drawn later
        seen = torch.zeros_like(twin.look(torch.zeros(1, features, grid, grid)))
        words = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
        text = twin.read(*words, forms_of(['is there a road?']) if twin.takes_forms else None)
        answers = twin.decide(seen.detach(), text).sum() + twin.penalty()
    own = [one for one in twin.parameters() if one.requires_grad]
    for one, gradient in zip(own, torch.autograd.grad(answers, own, allow_unused=True), strict=True):
        one.requires_grad_(gradient is not None)
