"""Choose the tiles of a dataset, assign them to parts, and assign questions to them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import numpy as np

from geores.errors import UsageError
from geores.question_sets.options import MakeOptions, TileSplit, assign_parts
from geores.question_sets.tiles import TOO_FEW, TileMaker, tile_name
from geores.question_sets.workers import Workers
from geores.question_sets.write import PARTS, DatasetTile
from geores.questions.choosing import ChosenQuestion, choose_questions
from geores.questions.pool import TileSurvey

__all__ = ['check_split', 'keep_tiles']

Tile = tuple[int, int]
AT_ONCE = 16
"""Number of tiles per work item when questions are put into words."""


def check_split(makers: Sequence[TileMaker], options: MakeOptions) -> None:
    """Raise `UsageError` if the tiles could not be split even if all were usable."""
    _split([(maker, tile) for maker in makers for tile in maker.layout.tiles], options)


def keep_tiles(
    makers: Sequence[TileMaker], options: MakeOptions, workers: Workers
) -> tuple[list[DatasetTile], Counter[str], tuple[str, ...]]:
    """Choose the tiles of the dataset, with their parts and questions.

    Args:
        makers: one per scene, after all tiles were made.
        options: options of the user.
        workers: processes that put questions into words.

    Returns:
        The tiles in order, the number of tiles left out per reason, and notes.

    Raises:
        UsageError: if no tile is left.
    """
    usable, dropped = _usable(makers)
    _check_any(usable, dropped)
    parts, split_id, notes = _split([(maker, tile) for maker, tile, _ in usable], options)
    dropped.update({'between parts': parts.count('dropped')})
    kept = [
        DatasetTile(maker, tile, record, part, split_id)
        for (maker, tile, record), part in zip(usable, parts, strict=True)
        if part != 'dropped'
    ]
    if makers[0].pool is not None:
        _ask(kept, options, workers)
        dropped.update({TOO_FEW: sum(not one.record['questions'] for one in kept)})
        kept = [one for one in kept if one.record['questions']]
        _check_any(kept, dropped)
    return kept, +dropped, notes


def _usable(makers: Sequence[TileMaker]) -> tuple[list[tuple[TileMaker, Tile, dict[str, Any]]], Counter[str]]:
    usable, dropped = [], Counter[str]()
    for maker in makers:
        for tile in maker.layout.tiles:
            record = DatasetTile.read(maker.path(*tile))
            if record['why'] is None:
                usable.append((maker, tile, record))
            else:
                dropped[record['why']] += 1
    return usable, dropped


def _check_any(tiles: Sequence[object], dropped: Counter[str]) -> None:
    if not tiles:
        reasons = ', '.join(f'{count} {why}' for why, count in sorted((+dropped).items()))
        raise UsageError(
            f'no tile is usable ({reasons}): choose another --tile, --mask or --min-valid, or an OSM file '
            'with more objects in the scene'
        )


def _ask(kept: Sequence[DatasetTile], options: MakeOptions, workers: Workers) -> None:
    """Assign questions within each part, and put them into words."""
    chosen: list[list[ChosenQuestion]] = [[] for _ in kept]
    for part in PARTS:
        members = [index for index, one in enumerate(kept) if one.part == part]
        if members:
            for index, asked in zip(members, _chosen([kept[i] for i in members], options, part), strict=True):
                chosen[index] = asked
    places = {id(maker): place for place, maker in enumerate(workers.makers)}
    work = [(places[id(one.maker)], one.tile, asked) for one, asked in zip(kept, chosen, strict=True)]
    shares = [(start, work[start : start + AT_ONCE]) for start in range(0, len(work), AT_ONCE)]
    for start, worded in workers.run(_word, shares):
        for one, questions in zip(kept[start:], worded, strict=False):
            one.record['questions'] = questions


def _chosen(kept: Sequence[DatasetTile], options: MakeOptions, part: str) -> Iterator[list[ChosenQuestion]]:
    maker = kept[0].maker
    surveys = [TileSurvey.from_dict(one.record.pop('survey')) for one in kept]
    kilometres = [one.record['kilometres'] for one in kept]
    rng = Random(f'{options.seed}/{part}')  # noqa: S311 - no secrets
    assert maker.pool is not None  # noqa: S101 - for the type alone: tiles are surveyed where there is one
    yield from choose_questions(maker.pool, surveys, kilometres, options.questions, maker.balance, rng)


Share = tuple[int, list[tuple[int, Tile, list[ChosenQuestion]]]]


def _word(makers: Sequence[TileMaker], share: Share) -> tuple[int, list[list[dict[str, Any]]]]:
    start, tiles = share
    return start, [makers[place].word(*tile, asked) for place, tile, asked in tiles]


def _split(
    tiles: Sequence[tuple[TileMaker, Tile]], options: MakeOptions
) -> tuple[list[str], str, tuple[str, ...]]:
    side = max(maker.layout.tile * maker.layout.gsd for maker, _ in tiles)
    names = [tile_name(maker.layout.name, *tile) for maker, tile in tiles]
    centres = np.vstack([maker.layout.centres([tile]) for maker, tile in tiles])
    how = TileSplit(options.fractions, side, options.block_size, options.buffer, options.seed)
    return assign_parts(names, centres, how)
