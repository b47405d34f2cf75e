"""Options of `geores ask`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geores.errors import UsageError
from geores.options import ReadingOptions, RunOptions, option

if TYPE_CHECKING:
    from geores.classification.options import ClassifyOptions

__all__ = ['AskOptions']

OWN = ('top_k', 'accuracy')
"""Options that are not of the scene."""


@dataclass(frozen=True)
class AskOptions(RunOptions, ReadingOptions):
    """Options of `geores ask` and `geores.ask`."""

    top_k: int | None = option(None, 'Most tiles or areas that count as evidence [all].')
    accuracy: str | Path | None = option(
        None, 'Report of geores accuracy on this class map, which corrects areas [beside the map].'
    )

    def __post_init__(self) -> None:
        """Refuse a maximum below 1; what is asked of the scene is checked by `for_scene`."""
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f'top-k must be at least 1, not {self.top_k}')

    def for_scene(self) -> 'ClassifyOptions':
        """Options of reading the scene, and of the class map that answers.

        Raises:
            UsageError: if an option is out of range.
        """
        from geores.classification.options import ClassifyOptions

        return ClassifyOptions(**{name: value for name, value in asdict(self).items() if name not in OWN})
