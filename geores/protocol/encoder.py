"""Data sets that the baselines know by name, and the encoder of deep features and fine-tuning."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geores import models
from geores.bundle import load_model
from geores.card import list_models
from geores.card_values import NO_NAMES, Units, bare_name, known_names
from geores.datasets.folder import SceneFolder
from geores.datasets.resisc45 import REPEATS, RESISC45
from geores.errors import UsageError, did_you_mean
from geores.protocol.options import REPEATS as USUAL_REPEATS
from geores.tasks.start import start_from

__all__ = [
    'DATA_SETS',
    'IMAGENET_MEAN',
    'IMAGENET_STD',
    'RGB',
    'BaselineEncoder',
    'KnownDataset',
    'choose_encoder',
    'choose_further',
    'known_dataset',
    'seen_in_training',
]

RGB = ('red', 'green', 'blue')

# Of values 0 to 1, as published weights state them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_SIZE = 128


@dataclass(frozen=True)
class KnownDataset:
    """A data set that the baselines know by name.

    Attributes:
        open: opens the images of a folder, given `size`.
        repeats: random draws per ratio.
        title: name of the data set on cards; '' where the name of the folder counts.
        figures: training ratio -> accuracies that others report by the same protocol.
    """

    open: Callable[..., SceneFolder]
    repeats: int
    title: str = ''
    figures: Mapping[float, str] = field(default_factory=dict)

    def reported(self, ratios: Sequence[float]) -> tuple[str, ...]:
        """One sentence per training ratio that others report accuracies for.

        Args:
            ratios: training ratios.
        """
        return tuple(
            f'reported at {100 * ratio:g} % by Cheng, Han and Lu (2017), as others quote it: '
            f'{self.figures[ratio]}'
            for ratio in ratios
            if ratio in self.figures
        )


DATA_SETS: Mapping[str, KnownDataset] = {
    'folder': KnownDataset(SceneFolder, USUAL_REPEATS),
    'resisc45': KnownDataset(
        RESISC45,
        REPEATS,
        'NWPU-RESISC45',
        {
            0.1: 'fine-tuned VGGNet-16 87.15 ± 0.45, GoogLeNet 82.57 ± 0.12, AlexNet 81.22 ± 0.19',
            0.2: 'fine-tuned VGGNet-16 90.36 ± 0.18, GoogLeNet 86.02 ± 0.18, AlexNet 85.16 ± 0.18',
        },
    ),
}
"""Name -> data set."""


def known_dataset(name: str) -> KnownDataset:
    """Look up a data set by name.

    Args:
        name: one of `DATA_SETS`.

    Raises:
        UsageError: if there is none of that name.
    """
    if name not in DATA_SETS:
        raise UsageError(f'no data set is named {name!r}: choose one of {", ".join(DATA_SETS)}')
    return DATA_SETS[name]


@dataclass(frozen=True)
class BaselineEncoder:
    """A network and where its weights come from.

    Args:
        name: name of the architecture or bundle.
        architecture: name in `geores.models`.
        kwargs: arguments of the architecture except `in_chans` and `num_classes`.
        source: bundle or file of weights; None where there are none.
        sha256: digest of the weights, '' where there are none.
        size: height and width of what it takes.
        mean: mean per channel, 0 to 255; None takes that of the training part.
        std: standard deviation per channel, 0 to 255; None takes that of the training part.
        training_data: training data according to the bundle's card.
        trained_on: names of it.
    """

    name: str
    architecture: str
    kwargs: Mapping[str, Any]
    source: str | None
    sha256: str
    size: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    training_data: str | None = None
    trained_on: tuple[str, ...] = ()

    def network(self) -> nn.Module:
        """Build the network without its head, and load its weights.

        Raises:
            UsageError: if the architecture gives no pooled features or takes no images of that size, or
                the weights do not fit it or are not finite.
        """
        network = models.create(self.architecture, **{**self.kwargs, 'in_chans': 3, 'num_classes': 0})
        if self.source is not None:
            fresh = [name for name in start_from(network, self.source) if 'num_batches' not in name]
            if fresh:
                raise UsageError(f'{self.source}: has no fitting tensor {fresh[0]!r} of {self.architecture}')
        try:
            with torch.inference_mode():
                features = network.eval()(torch.zeros(2, 3, self.size, self.size))
        except (RuntimeError, ValueError) as error:
            raise UsageError(f'{self.name} takes no images of {self.size} pixels: {error}') from error
        if features.ndim != 2:
            raise UsageError(f'architecture {self.architecture!r} gives no pooled features')
        if not torch.isfinite(features).all():
            raise UsageError(f'{self.source or self.name}: the weights give values that are not finite')
        return network


def choose_encoder(
    name: str,
    weights: str | Path | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> BaselineEncoder:
    """Find the encoder that a user names.

    Args:
        name: an architecture of `geores.models`, or name or folder of a bundle.
        weights: file of weights of an architecture, as in `geores.tasks.start`.
        size: height and width of images; None takes the bundle's, or 128.
        mean: mean of red, green and blue, 0 to 1; None takes ImageNet's where there are weights. A
            bundle has its own.
        std: as `mean`.

    Raises:
        UsageError: if the name is unknown (the nearest is suggested), a bundle does not take 8-bit
            colour or is given other weights or statistics, or a file of weights is missing.
    """
    if name not in models.architectures():
        if weights is not None or mean is not None or std is not None:
            _known_bundle(name)
            raise UsageError(f'bundle {name!r} has weights, mean and std of its own: give the encoder alone')
        return _of_bundle(name, size)
    if weights is not None and not Path(weights).is_file():
        raise UsageError(f'{weights}: no such file of weights')
    known = weights is not None
    if not known and (mean is None) != (std is None):
        raise UsageError('mean and std are needed both, or neither')
    return BaselineEncoder(
        name=name,
        architecture=name,
        kwargs={},
        source=None if weights is None else str(weights),
        sha256='' if weights is None else _sha256(Path(weights)),
        size=size or DEFAULT_SIZE,
        mean=_statistics('mean', mean or (IMAGENET_MEAN if known else None)),
        std=_statistics('std', std or (IMAGENET_STD if known else None)),
    )


def choose_further(
    text: str,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> BaselineEncoder:
    """Find an encoder whose features stand beside those of another one.

    Args:
        text: name or folder of a bundle, or ARCHITECTURE=FILE with the file of its weights.
        size: as in `choose_encoder`.
        mean: of an architecture's weights, as in `choose_encoder`; a bundle has its own.
        std: as `mean`.

    Raises:
        UsageError: as `choose_encoder`, or if an architecture comes without weights.
    """
    name, _, weights = text.partition('=')
    if name not in models.architectures():
        return choose_encoder(text, size=size)
    if not weights:
        raise UsageError(f'{name} is an architecture, and its features need weights: give {name}=FILE')
    return choose_encoder(name, weights, size, mean, std)


def _of_bundle(name: str, size: int | None) -> BaselineEncoder:
    _known_bundle(name)
    card = load_model(name).card
    if tuple(card.bands) != RGB or card.units != Units.EIGHT_BIT:
        raise UsageError(
            f'model {card.name!r} takes {", ".join(card.bands)} in {card.units}, and the images are '
            'red, green, blue in 8-bit'
        )
    kwargs = {key: value for key, value in card.architecture_kwargs.items() if key != 'num_classes'}
    return BaselineEncoder(
        name=card.name,
        architecture=card.architecture,
        kwargs=kwargs,
        source=name,
        sha256=card.sha256,
        size=size or card.input_size,
        mean=tuple(card.mean),
        std=tuple(card.std),
        training_data='; '.join(map(str, card.training_data)),
        trained_on=card.training_names,
    )


def _known_bundle(name: str) -> None:
    names = [*models.architectures(), *(card.name for card in list_models())]
    if name not in names and not Path(name).exists():
        hint = did_you_mean(name, names) or 'name one of geores.models or a bundle'
        raise UsageError(f'no architecture, model or folder is named {name!r}: {hint}')


def _statistics(what: str, values: Sequence[float] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    if (
        len(values) != 3
        or not all(0 <= value <= 1 for value in values)
        or (what == 'std' and not all(values))
    ):
        raise UsageError(f'{what} has to be three values from 0 to 1, for red, green and blue')
    return tuple(255 * value for value in values)


def seen_in_training(trained_on: Sequence[str], folder: Path) -> bool:
    """Whether a data set is among those that trained an encoder.

    Args:
        trained_on: names of its training data.
        folder: folder of the data set; its name, and its parent's where it is as general as 'images'.
    """
    folder = folder.resolve()
    names = [folder.parent.name if bare_name(folder.name) in NO_NAMES else folder.name]
    return bool(known_names(trained_on, names))


def _sha256(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
