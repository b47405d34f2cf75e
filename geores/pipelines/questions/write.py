"""A finished dataset: RSVQA's files, images, a manifest, attribution and pictures."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geores.io.whole_files import failing
from geores.osm.geometry import HIGH_RESOLUTION
from geores.pipelines.questions.inputs import Inputs
from geores.pipelines.questions.options import MakeOptions
from geores.pipelines.questions.tiles import TileMaker, tile_name
from geores.pipelines.questions.work import WorkFolder
from geores.questions.official import answer_record, image_record, question_record, write_official

__all__ = ['ATTRIBUTION', 'PARTS', 'Kept', 'write_dataset']

ATTRIBUTION = """Questions and answers in this folder are made from OpenStreetMap data.

(c) OpenStreetMap contributors (https://www.openstreetmap.org/copyright). OpenStreetMap data is available
under the Open Database Licence 1.0 (ODbL, https://opendatacommons.org/licenses/odbl/1-0/).

The questions, answers and the manifest, which holds ids of OpenStreetMap objects, are a derivative database:
whoever passes them on, or a database made from them, has to do so under the ODbL and keep this notice. The
images are not part of that database: their own licence holds for them.
"""


PARTS = ('train', 'val', 'test')
SENSORS = {'Sentinel-2': 'S2', 'Sentinel-1': 'S1'}
"""What RSVQA calls sensors."""


@dataclass(frozen=True)
class Kept:
    """A tile of the dataset.

    Attributes:
        maker: of its scene.
        tile: row and column.
        record: its questions.
        part: 'train', 'val' or 'test'.
        split_id: of the split.
    """

    maker: TileMaker
    tile: tuple[int, int]
    record: dict[str, Any]
    part: str
    split_id: str

    @property
    def name(self) -> str:
        """Of the tile."""
        return tile_name(self.maker.layout.name, *self.tile)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in the CRS of its scene's grid."""
        return self.maker.layout.bounds(*self.tile)

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """What was written of a tile."""
        record: dict[str, Any] = json.loads(path.read_text())
        return record


def write_dataset(
    work: WorkFolder,
    kept: Sequence[Kept],
    dropped: Counter[str],
    inputs: Inputs,
    options: MakeOptions,
    makers: Sequence[TileMaker],
    *,
    notes: Sequence[str],
    preview: int,
) -> None:
    """Write everything into the folder of the finished dataset.

    Args:
        work: the folders.
        kept: tiles, in order: the place of each is its id.
        dropped: tiles left out, by reason.
        inputs: files.
        options: of the user.
        makers: of the scenes.
        notes: on the dataset, one sentence each.
        preview: pictures to make.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.
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
            from geores.pipelines.questions.preview import write_previews

            write_previews(work.final / 'preview', kept, preview)


def _prefix(makers: Sequence[TileMaker]) -> str:
    """What RSVQA calls files of this resolution: LR or, for the aerial images of the USGS, USGS."""
    return 'USGS' if makers[0].layout.gsd < HIGH_RESOLUTION else 'LR'


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _write_parts(folder: Path, prefix: str, kept: Sequence[Kept]) -> None:
    """Write images, questions and answers of each part; ids count through all parts."""
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


def _image(one: Kept, number: int, start: int) -> dict[str, Any]:
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
    kept: Sequence[Kept],
    dropped: Counter[str],
    inputs: Inputs,
    options: MakeOptions,
    makers: Sequence[TileMaker],
    notes: Sequence[str],
) -> None:
    """`manifest.json` says how the dataset was made, `questions.jsonl` what each question means."""
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
