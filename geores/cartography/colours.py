"""Colours of labels: chosen by legend and meaning, read from users' files, and compared as people see them.

Colours are compared in CIE L*a*b*, where a distance of about 2 can just be seen.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from geores.errors import DatasetError, UsageError
from geores.io.tables import decode

__all__ = [
    'CLEAR',
    'choose_colours',
    'distance',
    'hex_of',
    'lab',
    'palette',
    'palette_names',
    'parse_colour',
    'read_colours',
    'rgb',
    'variants',
]

CLEAR = 10.0
"""Least CIE distance between two chosen colours, as long as such colours are left."""

_STEPS = range(20, 256, 20)
"""Levels of red, green and blue among which further colours are chosen."""

MOST_BYTES = 2**22
"""Largest file of colours."""

KINDS = '.json, .yaml or .csv'

# sRGB (IEC 61966-2-1) to CIE 1931 XYZ, white D65, and from there to L*a*b*.
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)
_TO_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]], float)
_EDGE = 6 / 29


def palette_names() -> tuple[str, ...]:
    """Names of the known legends."""
    return tuple(_palettes_file()['palettes'])


def palette(name: str) -> Mapping[str, str]:
    """Labels of a known legend -> '#rrggbb', in the legend's order.

    Args:
        name: one of `palette_names`.
    """
    return MappingProxyType(_palettes_file()['palettes'][name])


def choose_colours(labels: Sequence[str]) -> tuple[str, ...]:
    """Choose a colour for each label, as '#rrggbb'; all differ, up to some 1,000 labels.

    A known legend that has more than half of the labels gives its colours. Other labels get the colour of a
    word in them (meadows are green), or a shade of it where that is taken; the rest gets colours far from
    all of these.
    """
    known = _best_palette(labels)
    chosen: dict[int, str] = {
        index: known[_key(label)] for index, label in enumerate(labels) if _key(label) in known
    }
    meant = {index: _by_word(label) for index, label in enumerate(labels) if index not in chosen}
    for index, colour in meant.items():
        if colour is not None and (free := _free_shade(colour, list(chosen.values()))):
            chosen[index] = free
    left = [index for index in meant if index not in chosen]
    chosen |= zip(left, _far_from(list(chosen.values()), len(left)), strict=True)
    return tuple(chosen[index] for index in range(len(labels)))


@cache
def _palettes_file() -> dict[str, dict[str, dict[str, str]]]:
    text = files('geores.cartography').joinpath('palettes.yaml').read_text(encoding='utf-8')
    loaded: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(text)
    return loaded


@cache
def _keyed() -> tuple[dict[str, str], ...]:
    return tuple(
        {_key(label): colour for label, colour in colours.items()}
        for colours in _palettes_file()['palettes'].values()
    )


@cache
def _words() -> dict[str, tuple[int, str]]:
    lines: Sequence[tuple[list[str], str]] = _palettes_file()['words']  # type: ignore[assignment]
    return {word: (rank, colour) for rank, (words, colour) in enumerate(lines) for word in words}


def _split(label: str) -> list[str]:
    apart = re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', label)
    return re.findall(r'[a-z0-9]+', apart.lower())


def _key(label: str) -> str:
    """A label without case, spaces and plural, by which legends are compared."""
    return ''.join(word.removesuffix('s') for word in _split(label))


def _best_palette(labels: Sequence[str]) -> dict[str, str]:
    """The known legend that has more than half of the labels; empty where none does."""
    keys = {_key(label) for label in labels}
    best = max(_keyed(), key=lambda known: len(keys & known.keys()))  # the first of equals
    return best if 2 * len(keys & best.keys()) > len(keys) else {}


def _by_word(label: str) -> str | None:
    """The colour of the first word in the file that a label has; None where it has none."""
    found = [_words()[word] for word in _split(label) if word in _words()]
    return min(found)[1] if found else None


def _free_shade(colour: str, taken: list[str]) -> str | None:
    shades = list(dict.fromkeys(variants(colour)))
    if not taken:
        return colour
    return next((shade for shade in shades if distance([shade], taken).min() >= CLEAR), None)


def _far_from(taken: list[str], count: int) -> list[str]:
    """Colours far from others: spare ones that are clear of all, then each time the furthest of a lattice."""
    spare: Sequence[str] = _palettes_file()['spare']  # type: ignore[assignment]
    chosen: list[str] = []
    for colour in spare:
        others = taken + chosen
        if len(chosen) < count and (not others or distance([colour], others).min() >= 2 * CLEAR):
            chosen.append(colour)
    if len(chosen) < count:
        lattice = _lattice()
        nearest = distance(lattice, taken + chosen).min(axis=1)
        while len(chosen) < count:
            chosen.append(lattice[int(nearest.argmax())])
            nearest = np.minimum(nearest, distance(lattice, chosen[-1:])[:, 0])
    return chosen


@cache
def _lattice() -> tuple[str, ...]:
    """Colours at equal steps, without the palest, which look empty, and blues, which look like water."""
    corners = np.array(list(product(_STEPS, repeat=3)))
    red, green, blue = corners.T
    kept = (corners.min(axis=1) < 210) & (blue <= np.maximum(red, green))
    return tuple(hex_of(row) for row in corners[kept].tolist())


def read_colours(path: str | Path) -> dict[str, str]:
    """Read colours of labels.

    Args:
        path: JSON or YAML with `label: '#rrggbb'`, or CSV with a label and a colour per line.

    Returns:
        Label -> '#rrggbb'.

    Raises:
        UsageError: if the file cannot be read, or holds something else.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a named pipe would be waited for
            raise UsageError(f'{path} is not a file')
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f'{path} is too large for a file of colours')
        text = decode(path)
    except (OSError, DatasetError) as error:
        raise UsageError(f'{path} cannot be read as a file of colours: {error}') from error
    found = _parse(path, text)
    if not found:
        raise UsageError(f"{path} holds no colours: write lines such as water: '#419bdf'")
    colours = {}
    for label, colour in found.items():
        try:
            colours[str(label)] = parse_colour(colour)
        except UsageError as error:
            raise UsageError(f'{path}, label {label!r}: {error}') from error
    return colours


def _parse(path: Path, text: str) -> Mapping[Any, Any]:
    suffix = path.suffix.lower()
    if suffix == '.csv':
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
        if rows and rows[0][1:2] and not rows[0][1].startswith('#'):
            rows = rows[1:]  # a line of headings
        if wrong := [row for row in rows if len(row) != 2]:
            raise UsageError(f'{path}: {",".join(wrong[0])!r} is no line of a label and a colour')
        return dict(rows)
    if suffix not in ('.json', '.yaml', '.yml'):
        raise UsageError(f'{path}: colours are read from {KINDS}')
    try:
        found = json.loads(text) if suffix == '.json' else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f'{path} cannot be read: {error}') from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} has to map labels to colours, such as water: '#419bdf'")
    return found


def parse_colour(text: object) -> str:
    """A colour as '#rrggbb' in lower case.

    Raises:
        UsageError: if the text is no such colour.
    """
    if not isinstance(text, str) or not re.fullmatch(r'#[0-9a-fA-F]{6}', text.strip()):
        raise UsageError(f"{text!r} is no colour: write it like '#1b6e32'")
    return text.strip().lower()


def rgb(colours: Sequence[str]) -> NDArray[np.uint8]:
    """Red, green and blue of '#rrggbb', (n, 3)."""
    joined = bytes.fromhex(''.join(colour[1:] for colour in colours))
    return np.frombuffer(joined, np.uint8).reshape(-1, 3)


def hex_of(colour: Sequence[int]) -> str:
    """'#rrggbb' of red, green and blue from 0 to 255."""
    red, green, blue = colour
    return f'#{red:02x}{green:02x}{blue:02x}'


def lab(colours: Sequence[str]) -> NDArray[np.float64]:
    """L*, a* and b* of colours, (n, 3)."""
    share = rgb(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    root = np.where(ratio > _EDGE**3, np.cbrt(ratio), ratio / (3 * _EDGE**2) + 4 / 29)
    return np.asarray(root @ _TO_LAB.T - [16, 0, 0], float)


def distance(some: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """CIE 1976 distances of n colours from m others, (n, m)."""
    return np.asarray(np.linalg.norm(lab(some)[:, None] - lab(others)[None], axis=-1))


def variants(colour: str) -> Iterator[str]:
    """A colour and shades of it that keep its meaning: lighter and darker ones first, then other hues."""
    import colorsys

    hue, light, strength = colorsys.rgb_to_hls(*(rgb([colour])[0] / 255))
    for turn in (0.0, 0.03, -0.03, 0.055, -0.055):
        for step in (0.0, 0.1, -0.1, 0.2, -0.2, 0.3, -0.3):
            if 0.12 <= light + step <= 0.9:
                made = colorsys.hls_to_rgb((hue + turn) % 1, light + step, strength)
                yield hex_of([round(255 * part) for part in made])
