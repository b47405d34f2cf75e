"""What a user can ask of a classification."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from geores.errors import UsageError
from geores.pipelines.labels import check_rule

__all__ = ['MAX_OUTPUT', 'MIN_TILE', 'ClassifyOptions']

MAX_OUTPUT = 8 * 2**30
MIN_TILE = 8


@dataclass(frozen=True)
class ClassifyOptions:
    """What a user can ask for; `classify` says what each means."""

    tile: int | None = None
    stride: int | None = None
    resolution: float | None = None
    bbox: Sequence[float] | None = None
    bbox_crs: str | None = None
    aoi: str | None = None
    mask: str | None = None
    mask_values: Sequence[int] | None = None
    min_valid: float = 0.5
    threshold: float | None = None
    top_k: int | None = None
    batch_size: int | None = None
    device: str = 'auto'
    precision: str = 'auto'
    compile: bool = False
    workers: int | None = None
    max_output: int = MAX_OUTPUT

    def __post_init__(self) -> None:
        """Refuse what is out of range before anything is opened."""
        check_rule(self.threshold, self.top_k)
        if self.tile is not None and self.tile < MIN_TILE:
            raise UsageError(f'tile must be at least {MIN_TILE} pixels, not {self.tile}')
        if self.stride is not None and self.stride < 1:
            raise UsageError(f'stride must be at least 1 pixel, not {self.stride}')
        if self.resolution is not None and not self.resolution > 0:
            raise UsageError(f'resolution must be above 0 metres, not {self.resolution}')
        if self.workers is not None and self.workers < 1:
            raise UsageError(f'workers must be at least 1, not {self.workers}')

    @classmethod
    def of(cls, options: dict[str, Any]) -> Self:
        """Options by name; an unknown one is a `UsageError`."""
        known = [field.name for field in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise UsageError(f'option {unknown[0]!r} is unknown: options are {", ".join(known)}')
        return cls(**options)
