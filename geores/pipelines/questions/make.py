"""Questions and answers from scenes and OpenStreetMap: everything decided, then tile after tile."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geores.errors import UsageError
from geores.osm import Ground, load_mapping, read_features
from geores.osm.geometry import default_limits
from geores.pipelines.questions.inputs import describe_inputs
from geores.pipelines.questions.layout import Layout, lay_out, open_reader
from geores.pipelines.questions.objects import Counting, SceneObjects
from geores.pipelines.questions.options import MakeOptions
from geores.pipelines.questions.split import SplitOptions, split_tiles
from geores.pipelines.questions.tiles import TileMaker, tile_name
from geores.pipelines.questions.work import WorkFolder, check_out
from geores.pipelines.questions.write import Kept, write_dataset
from geores.questions.asking import Vocabulary

__all__ = ['Made', 'make_questions', 'prepare']

Progress = Callable[[int, int], None]
Tile = tuple[int, int]

NEAR = 0.1
"""Share of a tile's side within which objects lie next to each other, where not said."""
AT_ONCE = 8
"""Tiles that a process is given at once: neighbours, which share blocks of the file."""
FEW = 16
"""Tiles up to which starting processes takes longer than they save."""


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes:
        folder: of the dataset.
        tiles: kept, by part.
        questions: by type.
        dropped: tiles left out, by reason.
        notes: one sentence each.
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
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Cut scenes into tiles, ask questions of each, and write a dataset in RSVQA's layout.

    A run that was stopped continues when it is called again, and ends with the same files.

    Args:
        scenes: paths of rasters.
        osm: files of OpenStreetMap objects.
        out: folder of the dataset; it appears when all is done.
        options: see `MakeOptions`.
        jobs: processes.
        preview: pictures of tiles to make.
        overwrite: whether to replace a dataset in ``out``.
        progress: called with the number of tiles just finished and of all tiles.

    Raises:
        UsageError: an argument or an input is not usable, or no tile is.
        ReadError: an input is damaged.
        WriteError: the dataset cannot be written.
    """
    options = options or MakeOptions()
    out = Path(out)
    check_out(out, overwrite=overwrite)
    inputs = describe_inputs(scenes, osm, options)
    layouts = _layouts(scenes, options)
    makers = prepare(layouts, osm, options)
    with WorkFolder(out, inputs.key(options, layouts), overwrite=overwrite) as work:
        for maker in makers:
            maker.folder = work.tiles
        _split([(maker, tile) for maker in makers for tile in _tiles(maker.layout)], options)
        _make_all(makers, jobs, progress or (lambda done, total: None))
        kept, dropped = _kept(makers, options)
        notes = tuple(dict.fromkeys(note for maker in makers for note in _notes(maker)))
        write_dataset(work, kept, dropped, inputs, options, makers, preview=preview)
        work.finish()
    parts = Counter(one.part for one in kept)
    types = Counter(question['type'] for one in kept for question in one.record['questions'])
    return Made(out, dict(parts), dict(types), dict(dropped), notes)


def prepare(layouts: Sequence[Layout], osm: Sequence[str], options: MakeOptions) -> list[TileMaker]:
    """Read the objects of each scene.

    Args:
        layouts: of the scenes.
        osm: files of objects.
        options: of the user.

    Raises:
        UsageError: no object lies in a scene.
        ReadError: a file is damaged.
    """
    mapping = load_mapping(options.mapping)
    faithful = options.mode == 'faithful'
    placed, told = [], []
    for layout in layouts:
        features = read_features(osm, layout.lonlat, mapping)
        ground = Ground(*layout.centre, str(layout.grid.crs), mercator=faithful)
        pixel = 0.0 if faithful else abs(layout.grid.affine.a)
        placed.append(SceneObjects.place(features, ground, pixel))
        told.append(features.notes)
    names = tuple(sorted({name for objects in placed for name in objects.vocabulary}))
    lines = frozenset(rule.category for rule in mapping.rules if rule.kind == 'line')
    vocabulary = Vocabulary(names, lines, mapping.contained)
    makers = []
    for layout, objects, notes in zip(layouts, placed, told, strict=True):
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
    return makers


def _layouts(scenes: Sequence[str], options: MakeOptions) -> list[Layout]:
    layouts = [lay_out(str(scene), options) for scene in scenes]
    twice = [name for name, count in Counter(layout.name for layout in layouts).items() if count > 1]
    if twice:
        raise UsageError(f'two scenes are named {twice[0]!r}: make a dataset of each, or rename one')
    for layout in layouts:
        open_reader(layout, options).scene.close()  # refuses a mask that does not lie over it
    return layouts


def _tiles(layout: Layout) -> list[Tile]:
    rows, cols = layout.shape
    return [(row, col) for row in range(rows) for col in range(cols)]


def _notes(maker: TileMaker) -> tuple[str, ...]:
    return (*maker.layout.notes, *maker.notes)


def _make_all(makers: list[TileMaker], jobs: int, progress: Progress) -> None:
    """Make what is not made yet, in this process or in several."""
    todo = {
        index: [tile for tile in _tiles(maker.layout) if not _path(maker, tile).exists()]
        for index, maker in enumerate(makers)
    }
    total = sum(len(_tiles(maker.layout)) for maker in makers)
    left = sum(map(len, todo.values()))
    progress(total - left, total)
    if jobs == 1 or left <= FEW:
        for index, tiles in todo.items():
            for tile in tiles:
                makers[index].make(*tile)
                progress(1, total)
        return
    # Started afresh: GDAL's threads do not survive a fork.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(jobs, context, _start, (makers,)) as pool:
        try:
            for done in pool.map(_make_some, _shares(todo)):
                progress(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_MAKERS: list[TileMaker] = []


def _start(makers: list[TileMaker]) -> None:
    _MAKERS[:] = makers


def _make_some(share: tuple[int, list[Tile]]) -> int:
    index, tiles = share
    for tile in tiles:
        _MAKERS[index].make(*tile)
    return len(tiles)


def _shares(todo: dict[int, list[Tile]]) -> Iterator[tuple[int, list[Tile]]]:
    for index, tiles in todo.items():
        for start in range(0, len(tiles), AT_ONCE):
            yield index, tiles[start : start + AT_ONCE]


def _path(maker: TileMaker, tile: Tile) -> Path:
    return maker.folder / f'{tile_name(maker.layout.name, *tile)}.json'


def _kept(makers: list[TileMaker], options: MakeOptions) -> tuple[list[Kept], Counter[str]]:
    """Tiles with questions, each with its part, and how many are left out for which reason."""
    dropped: Counter[str] = Counter()
    with_questions: list[tuple[TileMaker, Tile, dict[str, Any]]] = []
    for maker in makers:
        for tile in _tiles(maker.layout):
            record = Kept.read(_path(maker, tile))
            if record['why'] is None:
                with_questions.append((maker, tile, record))
            else:
                dropped[record['why']] += 1
    if not with_questions:
        reasons = ', '.join(f'{count} {why}' for why, count in sorted(dropped.items()))
        raise UsageError(
            f'no tile is usable ({reasons}): choose another --tile, --mask or --min-valid, or an OSM file '
            'with more objects in the scene'
        )
    parts, split_id = _split([(maker, tile) for maker, tile, _ in with_questions], options)
    kept = []
    for (maker, tile, record), part in zip(with_questions, parts, strict=True):
        if part == 'dropped':
            dropped['between parts'] += 1
        else:
            kept.append(Kept(maker, tile, record, part, split_id))
    return kept, dropped


def _split(tiles: list[tuple[TileMaker, Tile]], options: MakeOptions) -> tuple[list[str], str]:
    side = max(maker.layout.tile * maker.layout.gsd for maker, _ in tiles)
    names = [tile_name(maker.layout.name, *tile) for maker, tile in tiles]
    centres = np.vstack([maker.layout.centres([tile]) for maker, tile in tiles])
    how = SplitOptions(tuple(options.fractions), side, options.block_size, options.buffer, options.seed)
    return split_tiles(names, centres, how)
