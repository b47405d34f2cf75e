"""Options of commands: each is declared once, as a field of a dataclass with its default and its help.

What the command line offers (`geores.cli.option_sets`), the keywords of the function in Python (`takes`) and
the table of a page (`geores.cli.option_sets.option_table`) are made of these fields. Modules that declare
options import nothing heavy, for the command line reads all of them to show its help.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from geores.errors import UsageError

__all__ = [
    'MAX_TILE',
    'MIN_TILE',
    'NamedOptions',
    'ReadingOptions',
    'RunOptions',
    'SceneOptions',
    'Written',
    'option',
    'takes',
]

MIN_TILE, MAX_TILE = 8, 4096
"""Smallest and largest side of a tile, pixels."""

Written = Literal['names', 'numbers', 'size', 'box', 'again']
"""How a command line writes a value that is no number or text: names or whole numbers separated by commas, a
size such as 8G, the four edges of a box, or the option given again for each value."""

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
    linear_s1: bool = option(False, 'Backscatter is calibrated on a linear scale, not in dB.')


@dataclass(frozen=True)
class RunOptions(NamedOptions):
    """How a network is run."""

    device: str = option('auto', 'auto, cpu, cuda or cuda:N.')
    precision: str = option('auto', 'auto, fp32, bf16 or fp16.')
    runtime: str = option(
        'auto', 'auto, torch, openvino or onnxruntime (pip install "geores[fast]").', metavar='NAME'
    )


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
