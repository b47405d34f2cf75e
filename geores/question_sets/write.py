"""The folder in which a set of questions is made, and the files that it holds when it is done."""

import json
import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import shapely

from geores.errors import GeoresError
from geores.io.journal import Journal
from geores.io.whole_files import failing, put_folder, remove_tree
from geores.osm.features import HIGH_RESOLUTION
from geores.question_sets.layout import Inputs
from geores.question_sets.options import MakeOptions
from geores.question_sets.tiles import TileMaker, tile_name
from geores.questions.official import answer_record, image_record, question_record, write_official
from geores.scenes import gdal_env

__all__ = ['ATTRIBUTION', 'PARTS', 'DatasetTile', 'WorkFolder', 'write_dataset', 'write_previews']


class WorkFolder:
    """Folder for work in progress, beside the folder that it will become; a later run continues it.

    Args:
        out: the finished folder.
        key: everything that decides the tiles.
        resume: whether to continue unfinished work.
        overwrite: whether to replace ``out``, and to drop work with another key.

    Raises:
        JournalError: if there is unfinished work with other inputs or options.
        OutputError: if another run is at work there.
        WriteError: if the folder cannot be made.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, resume: bool = True, overwrite: bool) -> None:
        self.out = out.absolute()
        self.folder = self.out.with_name(f'.{self.out.name}.partial')
        self.tiles, self.final = self.folder / 'tiles', self.folder / 'dataset'
        self._open = partial(Journal, self.folder, key, resume=resume, overwrite=overwrite)

    def __enter__(self) -> Self:
        self._journal = self._open()
        with failing(self.folder):
            remove_tree(self.final)  # of a run that was stopped while it wrote the dataset
            self.tiles.mkdir(exist_ok=True)
            self.final.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the work of an interrupted run; remove it if the run failed before any tile was made."""
        if isinstance(error, GeoresError) and not any(self.tiles.glob('*.tif')):
            self._journal.remove()
        self._journal.__exit__(kind, error, trace)

    def finish(self) -> None:
        """Move the finished dataset to its place."""
        with failing(self.out):
            put_folder(self.final, self.out)
        self._journal.remove()


EACH = 5
"""Number of questions per type in a preview."""
COLOURS = ('#e6194b', '#ffe119', '#42d4f4', '#3cff6b', '#f032e6', '#ffffff', '#ff9f40', '#a9a9ff')


def write_previews(folder: Path, kept: 'Sequence[DatasetTile]', count: int) -> None:
    """Write PNG previews of tiles spread evenly over a dataset: objects, questions and answers.

    Args:
        folder: folder to create.
        kept: tiles of the dataset; the position of each is its id.
        count: number of pictures; at most one per tile.
    """
    folder.mkdir()
    for number in sorted({int((place + 0.5) / count * len(kept)) for place in range(count)}):
        _write_one(folder / f'{number}.png', kept[number], number)


def _write_one(path: Path, one: 'DatasetTile', number: int) -> None:
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
    text.text(0, 1, _question_text(one.record['questions']), va='top', fontsize=9, family='monospace')
    figure.savefig(path, metadata={'Software': None})


def _outline(picture: Any, one: 'DatasetTile') -> None:  # noqa: ANN401 - axes of matplotlib
    """Outline the objects in the tile: one colour per frequent category, one for all others."""
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
    labels = [f'{name} ({counts[name]})' for name in ranked]
    last = len(COLOURS) - 1
    if len(ranked) > len(COLOURS):
        labels[last:] = [f'others ({sum(counts[name] for name in ranked[last:])})']
    for label, colour in zip(labels, COLOURS, strict=False):
        picture.plot([], [], color=colour, label=label)
    picture.legend(loc='lower left', fontsize=7, framealpha=0.8, facecolor='#303030', labelcolor='white')
    picture.set_xlim(one.bounds[0], one.bounds[2])
    picture.set_ylim(one.bounds[1], one.bounds[3])


def _lines(geometry: shapely.Geometry) -> list[shapely.Geometry]:
    """The lines of a geometry and the boundaries of its areas."""
    parts = shapely.get_parts(geometry)
    areas = parts[shapely.get_dimensions(parts) == 2]
    lines = [*parts[shapely.get_dimensions(parts) == 1], *shapely.boundary(areas)]
    return list(shapely.get_parts(np.array(lines, object))) if lines else []


def _question_text(questions: Sequence[dict[str, Any]]) -> str:
    """The first questions of each type with their answers, as text."""
    lines, seen = [], Counter[str]()
    for question in questions:
        kind = question['type']
        seen[kind] += 1
        if seen[kind] > EACH:
            continue
        text = textwrap.fill(question['question'], 66, subsequent_indent='   ')
        lines.append(f'{text}\n   -> {question["answer"]}')
    return '\n'.join(lines)


ATTRIBUTION = """Questions and answers in this folder are made from OpenStreetMap data.

(c) OpenStreetMap contributors (https://www.openstreetmap.org/copyright). OpenStreetMap data is available
under the Open Database Licence 1.0 (ODbL, https://opendatacommons.org/licenses/odbl/1-0/).

The questions, answers and the manifest, which holds ids of OpenStreetMap objects, are a derivative database:
whoever passes them on, or a database made from them, has to do so under the ODbL and keep this notice. The
images are not part of that database: their own licence holds for them.
"""


PARTS = ('train', 'val', 'test')
SENSORS = {'Sentinel-2': 'S2', 'Sentinel-1': 'S1'}
"""Names of sensors in the files of RSVQA."""


@dataclass(frozen=True)
class DatasetTile:
    """A tile of the dataset.

    Attributes:
        maker: maker of the tiles of its scene.
        tile: row and column.
        record: what was written about the tile, with its questions.
        part: 'train', 'val' or 'test'.
        split_id: id of the split.
    """

    maker: TileMaker
    tile: tuple[int, int]
    record: dict[str, Any]
    part: str
    split_id: str

    @property
    def name(self) -> str:
        """Name of the tile, `<scene>_<row>-<col>`."""
        return tile_name(self.maker.layout.name, *self.tile)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in the CRS of the scene's grid."""
        return self.maker.layout.bounds(*self.tile)

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """Read what was written about a tile."""
        record: dict[str, Any] = json.loads(path.read_text())
        return record


def write_dataset(
    work: WorkFolder,
    kept: Sequence[DatasetTile],
    dropped: Counter[str],
    inputs: Inputs,
    options: MakeOptions,
    makers: Sequence[TileMaker],
    *,
    notes: Sequence[str],
    preview: int,
) -> None:
    """Write everything into the folder of the finished dataset.

    Raises:
        WriteError: if the disk is full, or the folder cannot be written.
    """
    with failing(work.final):
        images = work.final / 'images'
        images.mkdir()
        for number, one in enumerate(kept):
            _link(work.tiles / f'{one.name}.tif', images / f'{number}.tif')
        _write_parts(work.final, _prefix(makers), kept)
        (work.final / 'ATTRIBUTION.txt').write_text(ATTRIBUTION, encoding='utf-8')
        _write_manifest(work.final, kept, dropped, inputs, options, makers, notes)
        if preview:
            write_previews(work.final / 'preview', kept, preview)


def _prefix(makers: Sequence[TileMaker]) -> str:
    """Prefix of RSVQA's files at this resolution: LR or, for aerial images, USGS."""
    return 'USGS' if makers[0].layout.gsd < HIGH_RESOLUTION else 'LR'


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _write_parts(folder: Path, prefix: str, kept: Sequence[DatasetTile]) -> None:
    """Write images, questions and answers of each part; ids are unique over all parts."""
    counts = [len(one.record['questions']) for one in kept]
    starts = [sum(counts[:number]) for number in range(len(kept))]
    for part in PARTS:
        mine = [number for number, one in enumerate(kept) if one.part == part]
        if mine:
            asked = [
                (starts[number] + place, number, question)
                for number in mine
                for place, question in enumerate(kept[number].record['questions'])
            ]
            write_official(
                folder,
                [_image(kept[number], number, starts[number]) for number in mine],
                [
                    question_record(id_, image, one['type'], one['question'], form=one['form'])
                    for id_, image, one in asked
                ],
                [answer_record(id_, id_, one['answer']) for id_, _, one in asked],
                f'{prefix}_split_{part}_',
            )


def _image(one: DatasetTile, number: int, start: int) -> dict[str, Any]:
    west, south, _, _ = one.bounds
    layout = one.maker.layout
    return image_record(
        number,
        f'{one.name}.tif',
        range(start, start + len(one.record['questions'])),
        sensor=SENSORS.get(layout.sensor or '', layout.sensor or 'unknown'),
        upper_left=(west, south),
        resolution=f'{layout.gsd:.4g}m',
    )


def _write_manifest(
    folder: Path,
    kept: Sequence[DatasetTile],
    dropped: Counter[str],
    inputs: Inputs,
    options: MakeOptions,
    makers: Sequence[TileMaker],
    notes: Sequence[str],
) -> None:
    """Write `manifest.json`, how the dataset was made, and `questions.jsonl`, one question per line."""
    manifest = {
        'geores_version': version('geores'),
        'seed': options.seed,
        'mode': options.mode,
        'inputs': inputs.to_dict(),
        'options': options.deciding()
        | {
            'fractions': None if options.fractions is None else list(options.fractions),
            'block_size': options.block_size,
            'buffer': options.buffer,
        },
        'split_id': kept[0].split_id,
        'notes': list(notes),
        'scenes': [_scene(maker) for maker in makers],
        'dropped': dict(sorted(dropped.items())),
        'tiles': [
            {
                'id': number,
                'name': one.name,
                'scene': one.maker.layout.name,
                'row': one.tile[0],
                'col': one.tile[1],
                'bounds': list(one.bounds),
                'valid': one.record['valid'],
                'part': one.part,
            }
            for number, one in enumerate(kept)
        ],
    }
    (folder / 'manifest.json').write_text(json.dumps(manifest, indent=1) + '\n', encoding='utf-8')
    with (folder / 'questions.jsonl').open('w', encoding='utf-8') as file:
        question_id = 0
        for number, one in enumerate(kept):
            for question in one.record['questions']:
                line = {'id': question_id, 'img_id': number, **question}
                file.write(json.dumps(line, ensure_ascii=False) + '\n')
                question_id += 1


def _scene(maker: TileMaker) -> dict[str, Any]:
    layout, counting = maker.layout, maker.counting
    return {
        'name': layout.name,
        'crs': str(layout.grid.crs),
        'gsd': layout.gsd,
        'bands': list(layout.bands),
        'levelled_in': maker.objects.ground.definition,
        'objects': len(maker.objects.ids),
        'min_share': counting.min_share,
        'min_cover': counting.min_cover,
        'sizes': list(counting.limits),
        'next_to': counting.next_to,
        'notes': [*layout.notes, *maker.notes],
    }
