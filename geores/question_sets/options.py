"""Options of the commands that make questions: `geores questions make` and `geores questions from-labels`."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from geores.errors import UsageError
from geores.options import NamedOptions, option

if TYPE_CHECKING:
    from geores.questions.facts import QuestionBalance

__all__ = ['MODES', 'LabelOptions', 'MakeOptions']

MODES = ('corrected', 'faithful')
SMALLEST, LARGEST = 16, 4096


@dataclass(frozen=True, kw_only=True)
class LabelOptions(NamedOptions):
    """What to ask of labels; see `geores.questions.label_questions.label_questions` for details."""

    questions: int = option(25, 'Most questions per image.')
    seed: int = option(0, 'Of all draws.')
    hierarchy: str | None = option(
        None, 'What labels decide: clc43, reben19, multilabel17, eurosat10 or a YAML file.'
    )
    mode: Literal['corrected', 'faithful'] = option('corrected', 'corrected, or faithful to RSVQAxBEN.')
    balance: Literal['questions', 'answers', 'types'] | None = option(
        None,
        'Yes and no evenly: questions (of each, over all images), answers (of each image) or types (not '
        'balanced) [questions].',
    )
    kinds: Sequence[str] | None = option(
        None, 'Of questions, by commas: objects, classes, land-cover [all].', written='names'
    )
    style: Literal['english', 'released'] | None = option(None, "Wordings: english or released [the mode's].")
    images: bool = option(True, 'Copy the images into the folder.')


@dataclass(frozen=True)
class MakeOptions(NamedOptions):
    """Options of `make_questions`."""

    tile: int = option(256, 'Pixels of a tile.')
    questions: int = option(100, 'Questions per tile.')
    seed: int = option(0, 'Gives other questions.')
    mode: str = option('corrected', 'corrected, or faithful to the published generator.')
    balance: str = option(
        'questions',
        'What comes equally often: questions (answers of each, over all tiles), answers (in each tile) or '
        "types; or weights of types such as 'presence=2,count=1'.",
    )
    mapping: str | None = option(None, 'YAML from tags to categories [the one that ships].')
    min_share: float = option(0.5, 'Least share of an object inside for it to count.')
    next_to: float | None = option(None, 'Metres on the ground that are next to [a tenth of a tile].')
    sizes: Sequence[float] | None = option(
        None,
        'Square metres from which on [100 500 below 2 m per pixel, 3000 10000].',
        written='pair',
        metavar='MEDIUM LARGE',
    )
    bands: Sequence[str] | None = option(
        None, 'Names of the bands in file order, by commas.', written='names'
    )
    sensor: str | None = option(
        None, 'Sensor, and level: sentinel-2-l2a, landsat-8-l2, planetscope ... [decided].'
    )
    stretch: Sequence[float] | None = option(
        None, 'Numbers shown black and white [percentiles 2 and 98].', written='pair', metavar='LOW HIGH'
    )
    resolution: float | None = option(None, "Metres per pixel [the scene's].")
    bbox: Sequence[float] | None = option(
        None, 'Part of the scene, in its CRS.', written='box', metavar='W S E N'
    )
    bbox_crs: str | None = option(None, 'CRS of --bbox, such as EPSG:4326.')
    mask: str | None = option(None, 'Raster of what to leave out: SCL, or any but 0.')
    mask_values: Sequence[int] | None = option(None, 'Its values that mask, by commas.', written='numbers')
    min_valid: float = option(1.0, 'Tiles with a smaller share of valid pixels are dropped.')
    fractions: Sequence[float] | None = option(
        None,
        'Of train, val, test; 1 for no split [0.7,0.15,0.15; no split of too few tiles].',
        written='decimals',
    )
    block_size: float | None = option(None, 'Metres of a block of the split [four tiles].')
    buffer: float | None = option(None, 'Metres between parts [half a tile].')
    allow_vrt: bool = option(False, 'Open GDAL virtual rasters.')

    def __post_init__(self) -> None:
        """Validate all options before any file is opened, and convert numbers to floats."""
        for name in ('next_to', 'block_size', 'buffer', 'resolution', 'min_share', 'min_valid'):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        for name in ('sizes', 'stretch', 'bbox', 'fractions'):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(map(float, value)))
        if self.mode not in MODES:
            raise UsageError(f'mode has to be {" or ".join(MODES)}, not {self.mode!r}')
        if not SMALLEST <= self.tile <= LARGEST:
            raise UsageError(f'tile has to lie between {SMALLEST} and {LARGEST} pixels, not {self.tile}')
        if self.questions < 1:
            raise UsageError(f'questions has to be at least 1 a tile, not {self.questions}')
        for name in ('min_share', 'min_valid'):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(
                    f'{name.replace("_", "-")} has to be above 0 and at most 1, not {getattr(self, name)}'
                )
        self._check_metres()
        _ = self.balanced
        if self.mode == 'faithful' and self.balance != MakeOptions.balance:
            raise UsageError('the faithful mode draws as published: balance is not its')

    def _check_metres(self) -> None:
        for name in ('next_to', 'block_size', 'buffer', 'resolution'):
            value = getattr(self, name)
            least = 'or more' if name == 'buffer' else 'excluded'
            fits = value is None or (
                math.isfinite(value) and (value > 0 or (value == 0 and name == 'buffer'))
            )
            if not fits:
                raise UsageError(f'{name.replace("_", "-")} has to be metres, 0 {least}, not {value}')
        for name in ('sizes', 'stretch'):
            pair = getattr(self, name)
            if pair is not None and not (len(pair) == 2 and -math.inf < pair[0] < pair[1] < math.inf):
                raise UsageError(f'{name} has to be two rising numbers, not {pair}')

    @property
    def balanced(self) -> 'QuestionBalance':
        """The balance of types and answers."""
        from geores.questions.facts import parse_balance  # which takes numpy

        return parse_balance(self.balance)

    def deciding(self) -> dict[str, Any]:
        """The options that decide the questions of a tile, as plain JSON: all but those of the split."""
        options = asdict(self)
        for name in ('fractions', 'block_size', 'buffer', 'mapping', 'mask', 'allow_vrt'):
            del options[name]
        if self.sensor is None:
            del options['sensor']
        return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
