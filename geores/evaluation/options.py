"""Options of `geores evaluate`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, Self

from geores.errors import UsageError
from geores.options import NamedOptions, option

__all__ = ['EvaluateOptions']

_TILES = (
    *('resolution', 'stride', 'min_share', 'min_cover', 'placement'),
    *('layer', 'mask', 'mask_values', 'min_valid', 'linear_s1'),
)
_REBEN = ('metadata', 'snow_and_clouds')
_ANSWERS = frozenset(
    {'split', 'train', 'ignore_unknown', 'batch_size', 'device', 'precision', 'workers', 'bootstrap', 'seed'}
)
"""Options that an evaluation of answers takes; all others are of labels."""


@dataclass(frozen=True)
class EvaluateOptions(NamedOptions):
    """Options of `geores evaluate` and `geores.evaluate`."""

    labels: str | PathLike[str] | None = option(None, 'Vector file of polygons or points over the scenes.')
    column: str | None = option(None, 'Its column of classes.')
    layer: str | None = option(None, 'Its layer, where it has several.')
    resolution: float | None = option(None, 'Metres per pixel of scenes [what the model takes].')
    stride: int | None = option(None, 'Pixels from tile to tile of scenes [the tile].')
    min_share: float | None = option(
        None, 'Least part of a tile that its class covers [0.5; of a multi-label model 0.01].'
    )
    min_cover: float | None = option(
        None,
        'Of a multi-label model: least part of a tile that is under labels [0.9]; 0 where they are complete.',
    )
    min_valid: float | None = option(
        None, 'Tiles of scenes with a smaller share of valid pixels are left out [0.5].'
    )
    placement: str | None = option(
        None, 'Tiles of scenes: grid, or centred on each polygon or point; or auto.'
    )
    mask: str | PathLike[str] | Sequence[str | PathLike[str]] | None = option(
        None, 'Raster of what to leave out: SCL, or any but 0; one, or one for each scene.', written='again'
    )
    mask_values: Sequence[int] | None = option(None, 'Its values that mask, by commas.', written='numbers')
    linear_s1: bool = option(False, 'Backscatter is calibrated on a linear scale, not in dB.')
    bands: Sequence[str] | None = option(
        None, 'Names of the bands in file order, by commas, where GeoTIFFs do not say.', written='names'
    )
    sensor: str | None = option(
        None, 'Sensor, and level: sentinel-2-l2a, landsat-8-l2, planetscope ... [decided].'
    )
    offset: str | float = option(
        'auto', "What is added to Sentinel-2's digital numbers: auto (decided), none or -1000."
    )
    mode: str | None = option(None, "scene (one label per image) or multi-label [the model's].")
    split: str | None = option(
        None,
        "all, or val or train: that part of the model's own split of this data; or test of reBEN, test or "
        'test_phili of RSVQA [val of a fine-tuned bundle on its own scenes, else all].',
    )
    train: str | PathLike[str] | Sequence[str | PathLike[str]] | None = option(
        None,
        'Of questions: folder that majority and question-only model learn from; may be given again [the '
        'training part, else the other images of DATA].',
        written='again',
        metavar='DIR',
    )
    label_map: Mapping[str, str] | None = option(
        None, "Labels of the data by the model's names.", written='pairs', metavar='OLD=NEW,...'
    )
    ignore_unknown: bool = option(
        False, 'Leave out labels, or kinds of questions, that the model does not know.'
    )
    metadata: Path | str | None = option(None, 'metadata.parquet of reBEN, if it is not beside the patches.')
    snow_and_clouds: bool = option(False, 'Take patches of reBEN with snow, clouds or shadows too.')
    batch_size: int = option(32, 'Images in one forward pass.')
    device: str = option('auto', 'auto, cpu, cuda or cuda:N.')
    precision: str = option('fp32', 'fp32, bf16, fp16 or auto.')
    workers: int = option(0, 'Processes that read images beside this one.')
    bootstrap: int = option(1000, 'Drawings of images for 95 % intervals; 0 for none.')
    seed: int = option(0, 'Of the drawings and the question-only model.')

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """Make options from their values by name; `reben` may hold those of BigEarthNet.

        Raises:
            UsageError: if a name is unknown.
        """
        reben = options.get('reben') or {}
        return super().from_options(
            {name: one for name, one in options.items() if name != 'reben'} | {**reben}
        )

    def __post_init__(self) -> None:
        """Refuse numbers that are too small."""
        for name in ('batch_size', 'workers', 'bootstrap'):
            value, least = getattr(self, name), int(name == 'batch_size')
            if value < least:
                raise UsageError(f'{name} has to be {least} or more, not {value}')

    @property
    def given(self) -> dict[str, Any]:
        """Options that differ from their default, by name."""
        pairs = ((one, getattr(self, one.name)) for one in fields(self))
        return {one.name: value for one, value in pairs if value != one.default}

    @property
    def of_labels(self) -> list[str]:
        """Names of the options given that an evaluation of answers does not take."""
        return [name for name in self.given if name not in _ANSWERS]

    @property
    def of_answers(self) -> list[str]:
        """Names of the options given that a score of predictions does not take: those, and unknown kinds."""
        return [name for name in self.given if name not in _ANSWERS - {'ignore_unknown'}]

    @property
    def tiles(self) -> dict[str, Any]:
        """Options of cutting scenes into tiles that are given: those of `geores.datasets.SceneTiles`."""
        return {name: value for name, value in self.given.items() if name in _TILES}

    @property
    def reben(self) -> dict[str, Any]:
        """Options of `geores.datasets.ReBEN` that are given."""
        return {name: value for name, value in self.given.items() if name in _REBEN}
