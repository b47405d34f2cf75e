"""Colours for labels: known legends, colours of meaning by word, and colours that are left."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import product
from types import MappingProxyType

import numpy as np
import yaml

from geores.cartography.colour import distance, hex_of, variants

__all__ = ['CLEAR', 'choose_colours', 'palette', 'palette_names']

CLEAR = 10.0
"""CIE distance that two colours chosen here have at least, as long as there are any left."""

_STEPS = range(20, 256, 20)


def palette_names() -> tuple[str, ...]:
    """Names of the known legends."""
    return tuple(_file()['palettes'])


def palette(name: str) -> Mapping[str, str]:
    """Labels of a known legend -> '#rrggbb', in the legend's order.

    Args:
        name: Of `palette_names`.
    """
    return MappingProxyType(_file()['palettes'][name])


def choose_colours(labels: Sequence[str]) -> tuple[str, ...]:
    """A colour for each label, as '#rrggbb', all different up to some 1,000 labels.

    The known legend that has most of the labels gives its own; others get the colour of a word in them
    (meadows are green), or a shade of it where that is taken; what is left gets colours far from these.
    """
    known = _best_palette(labels)
    chosen: dict[int, str] = {
        place: known[_key(label)] for place, label in enumerate(labels) if _key(label) in known
    }
    meant = {place: _by_word(label) for place, label in enumerate(labels) if place not in chosen}
    for place, colour in meant.items():
        if colour is not None and (free := _free_shade(colour, list(chosen.values()))):
            chosen[place] = free
    left = [place for place in meant if place not in chosen]
    chosen |= zip(left, _far_from(list(chosen.values()), len(left)), strict=True)
    return tuple(chosen[place] for place in range(len(labels)))


@cache
def _file() -> dict[str, dict[str, dict[str, str]]]:
    text = files('geores.cartography').joinpath('palettes.yaml').read_text(encoding='utf-8')
    loaded: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(text)
    return loaded


@cache
def _keyed() -> tuple[dict[str, str], ...]:
    return tuple(
        {_key(label): colour for label, colour in colours.items()} for colours in _file()['palettes'].values()
    )


@cache
def _words() -> dict[str, tuple[int, str]]:
    lines: Sequence[tuple[list[str], str]] = _file()['words']  # type: ignore[assignment]
    return {word: (rank, colour) for rank, (words, colour) in enumerate(lines) for word in words}


def _split(label: str) -> list[str]:
    apart = re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', label)
    return re.findall(r'[a-z0-9]+', apart.lower())


def _key(label: str) -> str:
    return ''.join(word.removesuffix('s') for word in _split(label))


def _best_palette(labels: Sequence[str]) -> dict[str, str]:
    """The legend that has more than half of the labels; none where no legend does."""
    keys = {_key(label) for label in labels}
    best = max(_keyed(), key=lambda known: len(keys & known.keys()))  # the first of equals
    return best if 2 * len(keys & best.keys()) > len(keys) else {}


def _by_word(label: str) -> str | None:
    found = [_words()[word] for word in _split(label) if word in _words()]
    return min(found)[1] if found else None


def _free_shade(colour: str, taken: list[str]) -> str | None:
    shades = list(dict.fromkeys(variants(colour)))
    if not taken:
        return colour
    return next((shade for shade in shades if distance([shade], taken).min() >= CLEAR), None)


def _far_from(taken: list[str], count: int) -> list[str]:
    """Colours that are left: the spare ones that are clear of all others, then those furthest off."""
    spare: Sequence[str] = _file()['spare']  # type: ignore[assignment]
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
    """Colours at equal steps, without the palest, which look like nothing, and blue, which is water."""
    corners = np.array(list(product(_STEPS, repeat=3)))
    red, green, blue = corners.T
    kept = (corners.min(axis=1) < 210) & (blue <= np.maximum(red, green))
    return tuple(hex_of(row) for row in corners[kept].tolist())
