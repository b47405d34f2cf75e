"""Naming the bands of one raster: as it says, as its user says, or by what it looks like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geores.errors import UsageError
from geores.scenes.names import canonical_name, find_name

__all__ = ['Naming', 'choose_bands', 'name_bands']


@dataclass(frozen=True)
class Naming:
    """Names of a raster's bands.

    Attributes:
        indexes: 1-based index of each band by its name, in order.
        is_stated: Whether the raster itself gives the names.
        notes: What the user should know about them.
    """

    indexes: Mapping[str, int]
    is_stated: bool = False
    notes: tuple[str, ...] = ()


def name_bands(
    indexes: Sequence[int],
    described: Sequence[str | None],
    *,
    colors: Sequence[str],
    dtype: np.dtype,
    file_band: str | None = None,
) -> Naming:
    """Name bands by description, by the file's name, by colour interpretation, or by number.

    Args:
        indexes: 1-based indexes of the bands, alpha left out.
        described: Description of each of these, or None.
        colors: Colour interpretation of each of these.
        dtype: Of the values: three or four unnamed bands of 8 bits are taken to be colours.
        file_band: Band that the file's name gives.
    """
    numbers = [f'band{index}' for index in indexes]
    names = [
        canonical_name(text) or text.strip() or number if text else number
        for text, number in zip(described, numbers, strict=True)
    ]
    if names != numbers and len(set(names)) == len(names):
        return Naming(dict(zip(names, indexes, strict=True)), is_stated=True)
    if file_band and len(indexes) == 1:
        return Naming({file_band: indexes[0]}, is_stated=True)
    if {'red', 'green', 'blue'} <= set(colors):
        known = {color for color in colors if canonical_name(color) and colors.count(color) == 1}
        names = [color if color in known else number for color, number in zip(colors, numbers, strict=True)]
        return Naming(dict(zip(names, indexes, strict=True)))
    if dtype == np.uint8 and len(indexes) in {3, 4}:
        names = ['red', 'green', 'blue', *numbers[3:]]
        note = 'bands are taken to be red, green, blue: nothing says so; --bands (bands=) names them'
        return Naming(dict(zip(names, indexes, strict=True)), notes=(note,))
    note = f'bands have no names: called {", ".join(numbers)}; --bands (bands=) names them'
    if 'palette' in colors:
        note += '; colours come from a palette: expand it first with `gdal_translate -expand rgb`'
    return Naming(dict(zip(numbers, indexes, strict=True)), notes=(note,))


def choose_bands(path: str, naming: Naming, bands: Sequence[str], *, alpha: int | None = None) -> Naming:
    """Apply what the user says about bands: names for all, or some of those that are stated.

    Args:
        path: For messages.
        naming: Names as they are without the user's.
        bands: The user's names. Where the raster states its names and has all of these, they
            choose; otherwise they name its bands one by one, with or without alpha.
        alpha: 1-based index of the alpha band, if there is one.

    Raises:
        UsageError: If their number is not that of the bands, or one comes twice.
    """
    wanted = [canonical_name(band) or band for band in bands]
    if len(set(wanted)) < len(wanted) or not wanted:
        raise UsageError(f'--bands {",".join(bands)}: name at least one band and each once')
    own = [find_name(name, naming.indexes) for name in wanted]
    if naming.is_stated and None not in own:
        return Naming({name: naming.indexes[name] for name in own if name}, is_stated=True)
    indexes = list(naming.indexes.values())
    if alpha is not None and 'alpha' in wanted:
        indexes = sorted([*indexes, alpha])
    if len(wanted) != len(indexes):
        names = f' ({", ".join(naming.indexes)})' if naming.is_stated else ''
        raise UsageError(
            f'{path}: --bands names {len(wanted)} bands but there are {len(indexes)}{names}; '
            'give one name for each'
        )
    named = zip(wanted, indexes, strict=True)
    return Naming({name: index for name, index in named if index != alpha}, is_stated=True)
