"""What objects across the borders of tiles do to counts, with tiles that are always right.

    python benchmarks/ask_borders.py [--scenes 500]

Square objects lie at random on scenes of 6 x 6 tiles; each tile counts every object of which it sees some.
Prints a row of a table for each length of objects: one scene's true and combined count with its interval, and
in how many scenes the interval holds the truth.
"""

import argparse

import numpy as np

from geores.asking.combine import SceneEstimate, count
from geores.asking.predictions import AnswerTable, TileAreas
from geores.vqa.answers import AnswerEncoding

SIDE, TILE = 6, 1000
OBJECTS = 60
LENGTHS = (0.0, 0.1, 0.25, 0.5, 1.0)
HEAD = ('length, of a tile', 'tiles that one touches', 'true', 'combined', 'interval', 'scenes it holds in')


def numbers_of_tiles(draw: np.random.Generator, length: int) -> np.ndarray:
    """How many objects, that many pixels long, each tile sees, (SIDE, SIDE)."""
    starts = draw.integers(0, SIDE * TILE - length, (2, OBJECTS, 1))
    edges = np.arange(SIDE + 1) * TILE
    down, across = ((starts < edges[1:]) & (starts + length > edges[:-1])).astype(int)
    return np.einsum('ny,nx->yx', down, across)


def counted(numbers: np.ndarray) -> SceneEstimate:
    """What comes of tiles that are sure of their numbers."""
    labels = tuple(str(number) for number in range(OBJECTS + 1))
    rows = np.eye(len(labels), dtype=np.float32)[numbers.ravel()]
    whole = np.ones(numbers.size)
    table = AnswerTable(labels, AnswerEncoding('official', 'hr'))
    return count(table.read(rows, 'count'), TileAreas(numbers.shape, whole, whole))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--scenes', type=int, default=500)
    options = parser.parse_args()
    print(f'| {" | ".join(HEAD)} |\n{"|---" * len(HEAD)}|')
    for length in LENGTHS:
        draw = np.random.default_rng(0)
        tiles = [numbers_of_tiles(draw, max(round(length * TILE), 1)) for _ in range(options.scenes)]
        found = [counted(numbers) for numbers in tiles]
        ends = [one.interval or (np.nan, np.nan) for one in found]
        holds = sum(low <= OBJECTS <= high for low, high in ends)
        touched = np.mean([each.sum() for each in tiles]) / OBJECTS
        first = f'{OBJECTS} | {found[0].answer} | {ends[0][0]:.0f} to {ends[0][1]:.0f}'
        print(f'| {length:g} | {touched:.2f} | {first} | {holds} of {len(found)} |')


if __name__ == '__main__':
    main()
