"""What a user can ask of a classification."""

import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from geores.card import ModelCard
from geores.classification.shown import map_legend
from geores.errors import UsageError
from geores.inference.layout import SceneOptions
from geores.inference.masks import NO_MASK
from geores.pipelines.labels import check_rule
from geores.pipelines.named_options import NamedOptions

__all__ = ['MAX_OUTPUT', 'MIN_TILE', 'ClassifyOptions']

MAX_OUTPUT = SceneOptions.max_output
MIN_TILE = 8
POLYGONS = ('gpkg', 'parquet')
ATMOSPHERES = ('auto', 'none')
MAX_TILE = 4096


@dataclass(frozen=True)
class ClassifyOptions(SceneOptions, NamedOptions):
    """What a user can ask for; `classify` says what each means."""

    threshold: float | None = None
    top_k: int | None = None
    device: str = 'auto'
    precision: str = 'auto'
    compile: bool = False
    probabilities: bool = False
    polygons: str | None = None
    min_area: float | None = None
    simplify: float | None = None
    colours: str | Path | None = None

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
        if self.polygons is not None and self.polygons not in POLYGONS:
            raise UsageError(f'polygons must be {" or ".join(POLYGONS)}, not {self.polygons!r}')
        for name in ('min_area', 'simplify'):
            value = getattr(self, name)
            if value is not None and self.polygons is None:
                raise UsageError(f'{name} is about polygons, and none are asked for: give polygons too')
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f'{name} must be 0 or more, not {value}')

    def given(self) -> dict[str, Any]:
        """What was asked for, by name, for records."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check_for(self, card: ModelCard) -> None:
        """Raise `UsageError` where an option means nothing for a model, before any work is done.

        Args:
            card: of the model.
        """
        if self.colours is not None and card.task != 'regression':
            map_legend(card, self.colours)
        pixels = card.task == 'segmentation'
        if pixels and self.stride is not None:
            raise UsageError(f'stride is about tiles, and model {card.name!r} labels pixels: drop --stride')
        if pixels and (self.threshold is not None or self.top_k is not None):
            option = 'threshold' if self.threshold is not None else 'top-k'
            raise UsageError(
                f'{option} is about tiles, and model {card.name!r} labels pixels: drop --{option}'
            )
        if self.probabilities and not pixels:
            raise UsageError(
                f'probabilities are of pixels, and model {card.name!r} labels tiles, whose scores are '
                'written anyway: drop --probabilities'
            )
        if self.polygons is not None and card.task not in ('segmentation', 'single-label'):
            raise UsageError(
                f'polygons outline one class per place, and model {card.name!r} is {card.task}: '
                'drop --polygons'
            )


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """A path or a number of numpy's as a plain value: options are written out as JSON."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value
