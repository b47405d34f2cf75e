"""Colours as people tell them apart: CIE L*a*b*, in which a distance of about 2 is just seen."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from geores.errors import UsageError

__all__ = ['distance', 'hex_of', 'lab', 'parse_colour', 'rgb', 'variants']

# IEC 61966-2-1 and CIE 1931, white D65.
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)
_TO_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]], float)
_EDGE = 6 / 29


def parse_colour(text: object) -> str:
    """A colour as '#rrggbb' in lower case.

    Raises:
        UsageError: it is not written so.
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
    """L*, a* and b* of each, (n, 3)."""
    share = rgb(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    root = np.where(ratio > _EDGE**3, np.cbrt(ratio), ratio / (3 * _EDGE**2) + 4 / 29)
    return np.asarray(root @ _TO_LAB.T - [16, 0, 0], float)


def distance(some: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """CIE 1976 distances, (n, m)."""
    return np.asarray(np.linalg.norm(lab(some)[:, None] - lab(others)[None], axis=-1))


def variants(colour: str) -> Iterator[str]:
    """The colour, then others that still mean the same: lighter and darker, then a little to each side."""
    import colorsys

    hue, light, strength = colorsys.rgb_to_hls(*(rgb([colour])[0] / 255))
    for turn in (0.0, 0.03, -0.03, 0.055, -0.055):
        for step in (0.0, 0.1, -0.1, 0.2, -0.2, 0.3, -0.3):
            if 0.12 <= light + step <= 0.9:
                made = colorsys.hls_to_rgb((hue + turn) % 1, light + step, strength)
                yield hex_of([round(255 * part) for part in made])
