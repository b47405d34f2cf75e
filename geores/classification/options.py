"""Options of the commands that read a scene with a model: `geores classify` and `geores ask`."""

import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geores.errors import UsageError
from geores.options import MAX_TILE, MIN_TILE, NO_MASK, ReadingOptions, RunOptions, SceneOptions, option

if TYPE_CHECKING:
    from geores.card import ModelCard

__all__ = ['MAX_OUTPUT', 'AskOptions', 'ClassifyOptions']

MAX_OUTPUT = SceneOptions.max_output
"""Largest size of the results of a scene, bytes."""

POLYGONS = ('gpkg', 'parquet')
ATMOSPHERES = ('auto', 'none')


@dataclass(frozen=True)
class ClassifyOptions(RunOptions, SceneOptions):
    """Options of `geores classify` and `geores.classify`."""

    threshold: float | None = option(None, "Threshold for all labels [the model's].")
    top_k: int | None = option(None, 'Most labels per tile.')
    probabilities: bool = option(False, 'Write the probability of each label of a pixel too.')
    polygons: str | None = option(
        None, 'Outline areas of one class: GeoPackage or GeoParquet.', metavar='gpkg|parquet'
    )
    min_area: float | None = option(
        None, 'Polygons: smaller areas go to a neighbour, square metres [5 pixels].'
    )
    simplify: float | None = option(None, 'Polygons: how far outlines may move, metres [0].')
    colours: Path | str | None = option(
        None, 'Other colours of labels: JSON, YAML or CSV of label and #rrggbb.'
    )
    compile: bool = option(False, 'Compile the network (large scenes).')

    def __post_init__(self) -> None:
        """Refuse what is out of range before anything is opened."""
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        _check_label_rule(self.threshold, self.top_k)
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
        """The options that have a value, by name, as records keep them."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check_for(self, card: 'ModelCard') -> None:
        """Refuse options that mean nothing for a model, before any work is done.

        Args:
            card: of the model.

        Raises:
            UsageError: if an option does not suit what the model predicts.
        """
        if card.task == 'regression' and (self.threshold is not None or self.top_k is not None):
            option = 'threshold' if self.threshold is not None else 'top-k'
            raise UsageError(
                f'{option} chooses among labels, and model {card.name!r} is a regression: leave it out'
            )
        if self.colours is not None and card.task != 'regression':
            from geores.classification.scene_result import map_legend

            map_legend(card, self.colours)
        pixels = card.task == 'segmentation'
        if pixels and self.stride is not None:
            raise UsageError(f'stride is about tiles, and model {card.name!r} labels pixels: drop --stride')
        if pixels and (self.threshold is not None or self.top_k is not None):
            option = 'threshold' if self.threshold is not None else 'top-k'
            raise UsageError(
                f'{option} is about tiles, and model {card.name!r} labels pixels: drop --{option}'
            )
        if self.dense and pixels:
            raise UsageError(f'dense is about tiles, and model {card.name!r} labels pixels: drop --dense')
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
    """Turn paths and numbers of numpy into plain values, since options are written as JSON."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, 'tolist'):  # of numpy, which is not imported for help
        value = value.tolist()
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value


def _check_label_rule(threshold: float | None, top_k: int | None) -> None:
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f'threshold must lie between 0 and 1, not {threshold}')
    if top_k is not None and top_k < 1:
        raise UsageError(f'top-k must be at least 1, not {top_k}')


_OF_ASK = ('top_k', 'accuracy')
"""Options of `AskOptions` that are not of the scene."""


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

    def for_scene(self) -> ClassifyOptions:
        """Options of reading the scene, and of the class map that answers.

        Raises:
            UsageError: if an option is out of range.
        """
        return ClassifyOptions(**{name: value for name, value in asdict(self).items() if name not in _OF_ASK})
