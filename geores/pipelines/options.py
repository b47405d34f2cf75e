"""What a user can ask of a classification."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from geores.errors import UsageError
from geores.inference.masks import NO_MASK
from geores.pipelines.labels import check_rule
from geores.pipelines.named_options import NamedOptions

__all__ = ['MAX_OUTPUT', 'MIN_TILE', 'ClassifyOptions']

MAX_OUTPUT = 8 * 2**30
MIN_TILE = 8
ATMOSPHERES = ('auto', 'none')
MAX_TILE = 4096


@dataclass(frozen=True)
class ClassifyOptions(NamedOptions):
    """What a user can ask for; `classify` says what each means."""

    tile: int | None = None
    stride: int | None = None
    resolution: float | None = None
    bbox: Sequence[float] | None = None
    bbox_crs: str | None = None
    aoi: str | Path | None = None
    mask: str | Path | None = None
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
    linear_s1: bool = False
    atmosphere: str = 'auto'
    clouds: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range before anything is opened."""
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        check_rule(self.threshold, self.top_k)
        if self.tile is not None and not MIN_TILE <= self.tile <= MAX_TILE:
            raise UsageError(f'tile must lie between {MIN_TILE} and {MAX_TILE} pixels, not {self.tile}')
        if self.stride is not None and self.stride < 1:
            raise UsageError(f'stride must be at least 1 pixel, not {self.stride}')
        if self.resolution is not None and not 0 < self.resolution < math.inf:
            raise UsageError(f'resolution must be above 0 metres, not {self.resolution}')
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f'batch size must be at least 1, not {self.batch_size}')
        if self.bbox_crs is not None and self.bbox is None:
            raise UsageError('bbox_crs is that of a bbox, and there is none')
        if self.mask_values is not None and self.mask in (None, NO_MASK):
            raise UsageError('mask_values are those of a mask, and there is none')
        if self.clouds and self.mask not in (None, NO_MASK):
            raise UsageError('--clouds (clouds=) makes a mask, and --mask (mask=) gives one: use one of them')
        if isinstance(self.mask_values, str):
            raise UsageError(f'mask_values have to be whole numbers, not the text {self.mask_values!r}')
        if self.atmosphere not in ATMOSPHERES:
            raise UsageError(f'atmosphere must be {" or ".join(ATMOSPHERES)}, not {self.atmosphere!r}')
        if self.workers is not None and self.workers < 1:
            raise UsageError(f'workers must be at least 1, not {self.workers}')


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """A path or a number of numpy's as a plain value: options are written out as JSON."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value
