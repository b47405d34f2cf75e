"""Make a dataset of questions and answers from scenes and OpenStreetMap.

Everything is decided first: the tiles, their parts, and the questions of each. Then tile after tile is
made, in one or more processes, and a killed run continues where it stopped.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError, UsageError
from geores.io.process_map import ProcessMap, warm_up
from geores.io.whole_files import check_folder_free
from geores.osm import Ground, load_mapping, read_osm
from geores.osm.features import default_limits
from geores.question_sets.layout import TileLayout, describe_inputs, lay_out_tiles, open_reader
from geores.question_sets.options import MakeOptions
from geores.question_sets.tiles import TOO_FEW, Counting, SceneObjects, TileMaker, tile_name
from geores.question_sets.write import PARTS, DatasetTile, WorkFolder, write_dataset
from geores.questions.choosing import ChosenQuestion, choose_questions
from geores.questions.tile_questions import Pool, TileSurvey, Vocabulary, draw_pool
from geores.splits import geographic_split

__all__ = ['QuestionSet', 'check_split', 'keep_tiles', 'make_questions', 'prepare_makers']

Tile = tuple[int, int]
USUAL = (0.7, 0.15, 0.15)
BLOCK, GAP = 4.0, 0.5
"""Sides of a block and of the gap between parts, in tiles."""
FEW = 64
"""Number of tiles up to which starting processes takes longer than it saves."""
TILES_AT_ONCE = 16
"""Number of tiles per work item when questions are put into words."""


def check_split(makers: Sequence[TileMaker], options: MakeOptions) -> None:
    """Raise `UsageError` if the tiles could not be split even if all were usable."""
    _split([(maker, tile) for maker in makers for tile in maker.layout.tiles], options)


def keep_tiles(
    makers: Sequence[TileMaker], options: MakeOptions, workers: ProcessMap[list[TileMaker]]
) -> tuple[list[DatasetTile], Counter[str], tuple[str, ...]]:
    """Choose the tiles of the dataset, with their parts and questions.

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


def _ask(kept: Sequence[DatasetTile], options: MakeOptions, workers: ProcessMap[list[TileMaker]]) -> None:
    """Assign questions within each part, and put them into words."""
    chosen: list[list[ChosenQuestion]] = [[] for _ in kept]
    for part in PARTS:
        members = [index for index, one in enumerate(kept) if one.part == part]
        if members:
            for index, asked in zip(members, _chosen([kept[i] for i in members], options, part), strict=True):
                chosen[index] = asked
    places = {id(maker): place for place, maker in enumerate(workers.state)}
    work = [(places[id(one.maker)], one.tile, asked) for one, asked in zip(kept, chosen, strict=True)]
    shares = [(start, work[start : start + TILES_AT_ONCE]) for start in range(0, len(work), TILES_AT_ONCE)]
    for start, worded in workers.map(_word, shares):
        for one, questions in zip(kept[start:], worded, strict=False):
            one.record['questions'] = questions


def _chosen(kept: Sequence[DatasetTile], options: MakeOptions, part: str) -> Iterator[list[ChosenQuestion]]:
    maker = kept[0].maker
    surveys = [TileSurvey.from_dict(one.record.pop('survey')) for one in kept]
    kilometres = [one.record['kilometres'] for one in kept]
    rng = Random(f'{options.seed}/{part}')  # noqa: S311 - no secrets
    if maker.pool is None:
        raise UsageError('questions can be chosen over tiles only from a pool that the tiles share')
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
    return _assign_parts(names, centres, options, side)


def _assign_parts(
    ids: Sequence[str], centres: NDArray[np.float64], options: MakeOptions, side: float
) -> tuple[list[str], str, tuple[str, ...]]:
    """Assign tiles to parts by blocks of ground, with a gap between the parts.

    Args:
        ids: ids of the tiles.
        centres: longitude and latitude of their centres, (N, 2).
        options: fractions of training, validation and test; (1,) is training alone, and None is `USUAL`, or
            training alone if there is too little ground for three parts.
        side: side of a tile in metres.

    Returns:
        'train', 'val', 'test' or 'dropped' (too near to another part) per tile, the id of the split, and
        notes.

    Raises:
        UsageError: if the tiles cannot be split as requested.
    """
    if options.fractions is not None and tuple(options.fractions) == (1.0,):
        return ['train'] * len(ids), 'none', ()
    block = options.block_size or BLOCK * side
    buffer = side * GAP if options.buffer is None else options.buffer
    try:
        parts = geographic_split(
            centres,
            'blocks',
            options.fractions or USUAL,
            # Centres of adjoining tiles are one side apart.
            buffer=side + buffer if buffer else 0.0,
            seed=options.seed,
            ids=ids,
            block_size=block,
        )
    except DatasetError as error:
        wanted = f'blocks of {block:g} m with a gap of {buffer:g} m'
        why = f'{len(ids)} tiles cannot be split into {wanted} ({error})'
        smaller = 'choose a smaller --tile, --block-size or --buffer'
        if any(one is not None for one in (options.fractions, options.block_size, options.buffer)):
            raise UsageError(f'{why}: {smaller}, or --fractions 1 for no split') from error
        return ['train'] * len(ids), 'none', (f'no split, all is training data: {why}: {smaller} for one',)
    return parts.names.tolist(), parts.id, ()


Progress = Callable[[int, int], None]

NEAR = 0.1
"""Default distance of objects that are next to each other, as a share of the tile's side."""
AT_ONCE = 4
"""Number of tiles per work item: neighbours, which share blocks of the file."""


@dataclass(frozen=True)
class QuestionSet:
    """Counts of the dataset that was made.

    Attributes:
        folder: folder of the dataset.
        tiles: number of tiles per part.
        questions: number of questions per type.
        dropped: number of tiles left out per reason.
        notes: notes on the dataset, one sentence each.
    """

    folder: Path
    tiles: dict[str, int]
    questions: dict[str, int]
    dropped: dict[str, int]
    notes: tuple[str, ...]


def make_questions(
    scenes: Sequence[str],
    osm: Sequence[str],
    out: str | Path,
    options: MakeOptions | None = None,
    *,
    jobs: int = 1,
    preview: int = 0,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> QuestionSet:
    """Cut scenes into tiles, ask questions about each, and write a dataset in the layout of RSVQA.

    A run that was stopped continues when called again, and ends with the same files.

    Args:
        scenes: paths of rasters.
        osm: files of OpenStreetMap objects.
        out: folder of the dataset; it appears when all is done.
        options: options, see `MakeOptions`.
        jobs: number of processes.
        preview: number of pictures of tiles to draw.
        resume: whether to continue unfinished work.
        overwrite: whether to replace a dataset in ``out``, and to drop unfinished work of other inputs.
        progress: called with the number of tiles just finished and of all tiles.

    Raises:
        UsageError: if an argument, an input or every tile is unusable.
        ReadError: if an input is damaged.
        WriteError: if the dataset cannot be written.
    """
    options = options or MakeOptions()
    out = Path(out)
    check_folder_free(out, overwrite=overwrite, kind='dataset of questions', marks=['manifest.json'])
    inputs = describe_inputs(scenes, osm, options)
    layouts = _layouts(scenes, options)
    if sum(len(layout.tiles) for layout in layouts) <= FEW:
        jobs = 1
    if jobs > 1:
        warm_up(__name__)
    makers = prepare_makers(layouts, osm, options)
    with WorkFolder(out, inputs.key(options, layouts), resume=resume, overwrite=overwrite) as work:
        for maker in makers:
            maker.folder = work.tiles
        check_split(makers, options)
        with ProcessMap(makers, jobs, helping=True) as workers:
            _make_all(workers, progress or (lambda done, total: None))
            kept, dropped, split_notes = keep_tiles(makers, options, workers)
        write_dataset(work, kept, dropped, inputs, options, makers, notes=split_notes, preview=preview)
        work.finish()
    parts = Counter(one.part for one in kept)
    types = Counter(question['type'] for one in kept for question in one.record['questions'])
    notes = dict.fromkeys((*(note for maker in makers for note in _notes(maker)), *split_notes))
    return QuestionSet(out, dict(parts), dict(types), dict(dropped), tuple(notes))


def prepare_makers(
    layouts: Sequence[TileLayout], osm: Sequence[str], options: MakeOptions
) -> list[TileMaker]:
    """Read the objects of each scene, and prepare what makes its tiles.

    Returns:
        One maker per scene.

    Raises:
        UsageError: if no object lies in a scene.
        ReadError: if a file is damaged.
    """
    mapping = load_mapping(options.mapping)
    faithful = options.mode == 'faithful'
    placed, notes_of = [], []
    for layout in layouts:
        features = read_osm(osm, layout.lonlat, mapping)
        ground = Ground(*layout.centre, str(layout.grid.crs), mercator=faithful)
        pixel = 0.0 if faithful else abs(layout.grid.affine.a)
        placed.append(SceneObjects.place(features, ground, pixel))
        notes_of.append(features.notes)
    names = tuple(sorted({name for objects in placed for name in objects.vocabulary}))
    lines = frozenset(rule.category for rule in mapping.rules if rule.kind == 'line')
    vocabulary = Vocabulary(names, lines, mapping.contained)
    makers = []
    for layout, objects, notes in zip(layouts, placed, notes_of, strict=True):
        counting = Counting(
            min_share=options.min_share,
            limits=(float(options.sizes[0]), float(options.sizes[1]))
            if options.sizes is not None
            else default_limits(layout.gsd),
            next_to=options.next_to or NEAR * layout.tile * layout.gsd,
        )
        makers.append(
            TileMaker(layout, objects, counting, vocabulary, mapping.layers, options, Path(), notes)
        )
    if options.mode == 'corrected' and options.balanced.level == 'questions':
        pool = _pool(makers, options)
        makers = [replace(maker, pool=pool) for maker in makers]
    return makers


def _layouts(scenes: Sequence[str], options: MakeOptions) -> list[TileLayout]:
    layouts = [lay_out_tiles(str(scene), options) for scene in scenes]
    twice = [name for name, count in Counter(layout.name for layout in layouts).items() if count > 1]
    if twice:
        raise UsageError(f'two scenes are named {twice[0]!r}: make a dataset of each, or rename one')
    for layout in layouts:
        open_reader(layout, options).scene.close()  # raises if a mask does not lie over the scene
    return layouts


def _notes(maker: TileMaker) -> tuple[str, ...]:
    return (*maker.layout.notes, *maker.notes)


def _pool(makers: Sequence[TileMaker], options: MakeOptions) -> Pool:
    """The pool that all tiles share; its relations are between categories that occur together in a tile."""
    together = [
        names
        for maker in makers
        for names in maker.objects.together([maker.layout.bounds(*tile) for tile in maker.layout.tiles])
    ]
    rng = Random(f'{options.seed}/pool')  # noqa: S311 - no secrets
    return draw_pool(makers[0].vocabulary, together, options.questions, rng)


def _make_all(workers: ProcessMap[list[TileMaker]], progress: Progress) -> None:
    """Make the tiles that are not made yet, in this process and others."""
    tiles = [(place, tile) for place, maker in enumerate(workers.state) for tile in maker.layout.tiles]
    todo = [(place, tile) for place, tile in tiles if not workers.state[place].path(*tile).exists()]
    progress(len(tiles) - len(todo), len(tiles))
    shares = [todo[start : start + AT_ONCE] for start in range(0, len(todo), AT_ONCE)]
    for done in workers.map(_make_some, shares):
        progress(done, len(tiles))


def _make_some(makers: Sequence[TileMaker], share: list[tuple[int, tuple[int, int]]]) -> int:
    for place, tile in share:
        makers[place].make(*tile)
    return len(share)
