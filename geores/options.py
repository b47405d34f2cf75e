"""Options of commands: each is declared once, as a field of a dataclass with its default and its help.

What the command line offers (`geores.cli.option_sets`), the keywords of the function in Python (`takes`) and
the table of a page (`geores.cli.option_sets.option_table`) are made of these fields. Modules that declare
options import nothing heavy, for the command line reads all of them to show its help.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_type_hints

from geores.errors import DatasetError, UsageError

__all__ = [
    'MAX_TILE',
    'MIN_TILE',
    'NO_MASK',
    'AuditOptions',
    'EvaluateOptions',
    'NamedOptions',
    'ReadingOptions',
    'RunOptions',
    'SceneOptions',
    'SplitOptions',
    'Written',
    'option',
    'takes',
]

MIN_TILE, MAX_TILE = 8, 4096
"""Smallest and largest side of a tile, pixels."""
NO_MASK = 'none'
"""Value of the option `mask` that turns off the mask that a scene brings."""

Written = Literal['names', 'numbers', 'decimals', 'pair', 'pairs', 'size', 'box', 'again']
"""How a command line writes a value that is no number or text: names, whole numbers, decimals or pairs such
as old=new separated by commas, two numbers one after the other, a size such as 8G, the edges of a box, or the
option given again for each."""

F = TypeVar('F', bound=Callable[..., Any])


def option(
    default: Any,  # noqa: ANN401 - of the type of the field
    help: str,
    *,
    written: Written | None = None,
    metavar: str | None = None,
) -> Any:  # noqa: ANN401 - likewise
    """Declare an option as a field of a dataclass of options.

    Args:
        default: value where the option is not given.
        help: one sentence for command line and Python; what None does stands in brackets at its end.
        written: how a command line writes the value, where it is no plain number, text or flag.
        metavar: what the help of the command line shows as the value.
    """
    return field(default=default, metadata={'help': help, 'written': written, 'metavar': metavar})


@dataclass(frozen=True)
class NamedOptions:
    """Base of the options of a command: a frozen dataclass of fields that `option` declares."""

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """Make options from their values by name.

        Args:
            options: name -> value; those that are left out have their default.

        Raises:
            UsageError: if a name is unknown.
        """
        known = [one.name for one in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise UsageError(f'option {unknown[0]!r} is unknown: options are {", ".join(known)}')
        return cls(**options)


@dataclass(frozen=True)
class ReadingOptions(NamedOptions):
    """What can be asked of reading a scene, whatever a model does with it."""

    tile: int | None = option(None, "Pixels of a tile [the model's input size].")
    resolution: float | None = option(None, 'Metres per pixel [what the model takes].')
    bbox: Sequence[float] | None = option(
        None, 'Part of the scene, in its CRS.', written='box', metavar='W S E N'
    )
    bbox_crs: str | None = option(None, 'CRS of --bbox, such as EPSG:4326.')
    aoi: str | Path | None = option(None, 'Vector file: only what lies inside counts.')
    mask: str | Path | None = option(
        None, "Raster of what to leave out: SCL, or any but 0 [the scene's]; none."
    )
    mask_values: Sequence[int] | None = option(None, 'Its values that mask, by commas.', written='numbers')
    clouds: bool = option(False, 'Look for clouds of Sentinel-2 L1C and leave them out: geores[clouds].')
    atmosphere: str = option(
        'auto', 'auto: dark objects of an L1C scene are subtracted for a model of L2A; none.'
    )
    min_valid: float = option(0.5, 'Tiles with a smaller share of valid pixels are skipped.')
    batch_size: int | None = option(None, 'Tiles in one forward pass.')
    workers: int | None = option(None, 'Threads [the cores].')
    max_output: int = option(8 * 2**30, 'Largest size of the results of a scene.', written='size')


@dataclass(frozen=True)
class SceneOptions(ReadingOptions):
    """What can be asked of cutting a scene into tiles."""

    stride: int | None = option(None, 'Pixels from tile to tile, and of a cell [the tile].')
    dense: bool = option(
        False, 'Overlapping tiles share their features, where answers stay near to those of tile by tile.'
    )
    linear_s1: bool = option(False, 'Backscatter is calibrated on a linear scale, not in dB.')


@dataclass(frozen=True)
class RunOptions(NamedOptions):
    """How a network is run."""

    device: str = option('auto', 'auto, cpu, cuda or cuda:N; classify takes several, cuda:0,cuda:1, or all.')
    precision: str = option('auto', 'auto, fp32, bf16, fp16 or int8 (pip install "geores[fast]").')
    runtime: str = option(
        'auto', 'auto, torch, openvino or onnxruntime (pip install "geores[fast]").', metavar='NAME'
    )


@dataclass(frozen=True)
class SplitOptions(NamedOptions):
    """Options of `geores split`."""

    method: Literal['reben', 'blocks', 'hexagons', 'clusters', 'regions', 'random'] = option(
        'blocks', 'reben (official), blocks, hexagons, clusters, regions or random.'
    )
    fractions: tuple[float, ...] = option(
        (0.7, 0.15, 0.15), 'Of train,val,test, or of train,test.', written='decimals'
    )
    buffer: float = option(
        0.0, 'Metres between the middles of rows of different parts; nearer ones are dropped.'
    )
    stratify: str | None = option(None, 'Label or list of labels to hold even.', metavar='COLUMN')
    seed: int = option(0, 'Gives another split.')
    block_size: float | None = option(
        None, 'Metres of a block, or from hexagon to hexagon [four footprints].'
    )
    block_crs: str | None = option(None, 'Equal-area CRS of the blocks [one about the middle of the rows].')
    clusters: int | None = option(None, 'How many clusters [20].')
    regions: str | None = option(None, 'Polygons of regions.', metavar='FILE')
    region_column: str | None = option(None, "Column with regions' names, of --regions or else of INPUT.")
    images: str | None = option(
        None, 'Images named after the ids; near duplicates go to one part.', metavar='DIR'
    )

    def check(self) -> None:
        """Check the options that do not depend on the input.

        Raises:
            DatasetError: says which.
        """
        from geores.splits.assignment import check_fractions
        from geores.splits.blocks import check_block_crs
        from geores.splits.buffer import check_buffer

        methods = get_args(get_type_hints(SplitOptions)['method'])
        if self.method not in methods:
            raise DatasetError(f'method has to be one of {", ".join(methods)}, not {self.method!r}')
        check_fractions(self.fractions)
        check_buffer(self.buffer)
        if self.block_size is not None and not 0 < self.block_size < math.inf:
            raise DatasetError(f'block_size has to be above 0 metres, not {self.block_size}')
        if self.clusters is not None and self.clusters < 1:
            raise DatasetError(f'clusters have to be 1 or more, not {self.clusters}')
        if self.block_crs is not None:
            check_block_crs(self.block_crs)
        if self.method == 'regions' and self.regions is None and self.region_column is None:
            raise DatasetError(
                'method regions needs --regions FILE of polygons, or --region-column of the input'
            )
        for path, what in ((self.regions, 'file of regions'), (self.images, 'folder of images')):
            if path is not None and not Path(path).exists():
                raise DatasetError(f'{path}: no such {what}')


@dataclass(frozen=True)
class AuditOptions(NamedOptions):
    """Options of `geores audit`."""

    radii: tuple[float, ...] = option(
        (100.0, 1000.0, 5000.0, 10_000.0),
        'Metres within which pairs across parts are counted.',
        written='decimals',
    )
    column: str = option('split', 'Column with parts: train, val, test.')
    labels: str | None = option(None, 'Label or list of labels [labels or label].', metavar='COLUMN')
    images: Path | None = option(None, 'Images named after the ids, to find near duplicates.', metavar='DIR')

    def check(self) -> None:
        """Check that radii are positive.

        Raises:
            DatasetError: says which.
        """
        for radius in self.radii:
            if not (math.isfinite(radius) and radius > 0):
                raise DatasetError(f'radii have to be above 0 metres, not {radius:g}')


def takes(kind: type[NamedOptions]) -> Callable[[F], F]:
    """Give a function with `**options` the signature and the docstring of its options.

    Args:
        kind: dataclass of the options; the docstring's entry `**options` becomes one entry for each.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        taken = {one.name for one in own}
        options = [one for one in fields(kind) if one.name not in taken]
        keywords = [
            inspect.Parameter(
                one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
            )
            for one in options
        ]
        function.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
        entries = '\n'.join(f'{one.name}: {one.metadata["help"]}' for one in options)
        function.__doc__ = _with_entries(function.__doc__ or '', entries)
        return function

    return decorate


def _with_entries(text: str, entries: str) -> str:
    """A docstring whose entry `**options`, with the deeper lines below it, is replaced by others."""
    match = re.search(r'^( +)\*\*options:.*\n(?:\1 +.*\n)*', text, re.MULTILINE)
    if match is None:
        return text
    lines = ''.join(f'{match[1]}{line}\n' for line in entries.split('\n'))
    return text[: match.start()] + lines + text[match.end() :]


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
