"""Pictures of tiles with outlined objects, questions and answers, for looking at."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from geores.scenes import gdal_env

if TYPE_CHECKING:
    from geores.pipelines.questions.write import Kept

__all__ = ['write_previews']

EACH = 5
COLOURS = ('#e6194b', '#ffe119', '#42d4f4', '#3cff6b', '#f032e6', '#ffffff', '#ff9f40', '#a9a9ff')


def write_previews(folder: Path, kept: 'Sequence[Kept]', count: int) -> None:
    """Write PNG pictures of tiles spread evenly over a dataset.

    Args:
        folder: created.
        kept: tiles; the place of each is its id.
        count: pictures; at most one a tile.
    """
    folder.mkdir()
    for number in sorted({int((place + 0.5) / count * len(kept)) for place in range(count)}):
        _write_one(folder / f'{number}.png', kept[number], number)


def _write_one(path: Path, one: 'Kept', number: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7.5), dpi=90, layout='constrained')
    FigureCanvasAgg(figure)
    picture, text = figure.subplots(1, 2, width_ratios=[1, 1])
    with gdal_env():
        pixels, _ = one.maker.image(*one.tile)
    west, south, east, north = one.bounds
    picture.imshow(np.moveaxis(pixels, 0, -1), extent=(west, east, south, north), interpolation='nearest')
    _outline(picture, one)
    picture.set_title(f'{number}.tif: {one.name} ({one.part})', fontsize=9)
    picture.set_xticks([])
    picture.set_yticks([])
    text.axis('off')
    text.text(0, 1, _told(one.record['questions']), va='top', fontsize=9, family='monospace')
    figure.savefig(path, metadata={'Software': None})


def _outline(picture: Any, one: 'Kept') -> None:  # noqa: ANN401 - axes of matplotlib
    """Draw the objects inside the tile, colours for its most frequent categories, one for the rest."""
    objects = one.maker.objects
    facts = one.maker.facts(*one.tile)
    frame = shapely.box(*one.bounds)
    position = {name: index for index, name in enumerate(objects.ids)}
    counts: dict[str, int] = {}
    for names in facts.categories:
        counts[names[-1]] = counts.get(names[-1], 0) + 1
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    colours = {name: COLOURS[min(rank, len(COLOURS) - 1)] for rank, name in enumerate(ranked)}
    for ids, names, counted in zip(facts.ids, facts.categories, facts.counted, strict=True):
        inside = shapely.intersection(objects.image[position[ids]], frame)
        for line in _lines(inside):
            x, y = shapely.get_coordinates(line).T
            picture.plot(
                x,
                y,
                color=colours[names[-1]],
                linewidth=1.0 if counted else 0.5,
                linestyle='-' if counted else ':',
            )
    told = [f'{name} ({counts[name]})' for name in ranked]
    last = len(COLOURS) - 1
    if len(ranked) > len(COLOURS):
        told[last:] = [f'others ({sum(counts[name] for name in ranked[last:])})']
    for label, colour in zip(told, COLOURS, strict=False):
        picture.plot([], [], color=colour, label=label)
    picture.legend(loc='lower left', fontsize=7, framealpha=0.8, facecolor='#303030', labelcolor='white')
    picture.set_xlim(one.bounds[0], one.bounds[2])
    picture.set_ylim(one.bounds[1], one.bounds[3])


def _lines(geometry: shapely.Geometry) -> list[shapely.Geometry]:
    parts = shapely.get_parts(geometry)
    areas = parts[shapely.get_dimensions(parts) == 2]
    lines = [*parts[shapely.get_dimensions(parts) == 1], *shapely.boundary(areas)]
    return list(shapely.get_parts(np.array(lines, object))) if lines else []


def _told(questions: Sequence[dict[str, Any]]) -> str:
    """The first questions of each type, with their answers."""
    told, seen = [], Counter[str]()
    for question in questions:
        kind = question['type']
        seen[kind] += 1
        if seen[kind] > EACH:
            continue
        text = textwrap.fill(question['question'], 66, subsequent_indent='   ')
        told.append(f'{text}\n   -> {question["answer"]}')
    return '\n'.join(told)
