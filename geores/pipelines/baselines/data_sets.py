"""Data sets that baselines know by name: how to open them, their repeats and what others report on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from geores.datasets.folder import SceneFolder
from geores.datasets.resisc45 import REPEATS, RESISC45
from geores.errors import UsageError

__all__ = ['DATA_SETS', 'KnownDataset', 'known_dataset', 'repeats_for']


@dataclass(frozen=True)
class KnownDataset:
    """A data set by name.

    Attributes:
        open: From a folder and `size` to its images.
        repeats: Random draws at each ratio.
        title: How cards name it; '' where the folder's own name counts.
        figures: Training ratio -> what others report by the same protocol.
    """

    open: Callable[..., SceneFolder]
    repeats: int
    title: str = ''
    figures: Mapping[float, str] = field(default_factory=dict)

    def reported(self, ratios: Sequence[float]) -> tuple[str, ...]:
        """What others report at some training ratios, one sentence each.

        Args:
            ratios: Training ratios.
        """
        return tuple(
            f'reported at {100 * ratio:g} % by Cheng, Han and Lu (2017), as others quote it: '
            f'{self.figures[ratio]}'
            for ratio in ratios
            if ratio in self.figures
        )


DATA_SETS: Mapping[str, KnownDataset] = {
    'folder': KnownDataset(SceneFolder, 5),
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
    """The data set of a name.

    Args:
        name: One of `DATA_SETS`.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in DATA_SETS:
        raise UsageError(f'no data set is named {name!r}: choose one of {", ".join(DATA_SETS)}')
    return DATA_SETS[name]


def repeats_for(name: str) -> int:
    """Random draws at each ratio, where the user does not say.

    Args:
        name: One of `DATA_SETS`.
    """
    return known_dataset(name).repeats
