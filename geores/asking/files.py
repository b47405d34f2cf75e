"""The files of answers: tables of evidence, maps, and `answers.json`, the record of a run.

Every file appears complete or not at all.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geores.asking.answer import SceneAnswer, evidence_columns
from geores.asking.combine import TileEvidence
from geores.asking.evidence_maps import EvidenceMaps
from geores.asking.map_source import MapEvidence, write_areas
from geores.classification.scored import Scored
from geores.classification.tables import geo_metadata, tile_outlines
from geores.errors import OutputError
from geores.io.journal import check_record, read_record, update_record
from geores.io.whole_files import check_folder_name, check_free, whole_files

__all__ = [
    'RUN',
    'answer_files',
    'answered_before',
    'check_answers_writable',
    'write_answers',
]

RUN = 'answers.json'
SLUG = 60
"""Maximum number of characters of a question in a file's name."""


def answer_files(folder: Path, scene: str, asked: str, ending: str = '.parquet') -> dict[str, Path]:
    """Paths of the files of an answer, named after its question.

    Args:
        folder: folder for the results.
        scene: name of the scene.
        asked: the question in the wording that is answered.
        ending: of the evidence: '.parquet' of tiles, '.gpkg' of areas.
    """
    slug = re.sub(r'[^a-z0-9]+', '-', asked.lower()).strip('-')
    if len(slug) > SLUG or not slug:
        slug = f'{slug[:SLUG]}-{hashlib.sha256(asked.lower().encode()).hexdigest()[:8]}'
    return {
        'evidence': folder / f'{scene}_{slug}_evidence{ending}',
        'map': folder / f'{scene}_{slug}_map.png',
    }


def check_answers_writable(folder: Path, scene: str, questions: Sequence[str], *, overwrite: bool) -> None:
    """Raise `OutputError` if answers could not be written, before any work is done.

    Args:
        folder: folder for the results.
        scene: name of the scene.
        questions: the questions in the wordings that are answered.
        overwrite: whether existing files are replaced.
    """
    check_folder_name(folder)
    check_free([folder / RUN], overwrite=True)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f'{folder} is a file, and --out names a folder')
    check_record(folder / RUN, overwrite=overwrite)
    for question in questions:
        for ending in ('.parquet', '.gpkg'):
            check_free(list(answer_files(folder, scene, question, ending).values()), overwrite=overwrite)


def answered_before(folder: Path, scene: str, questions: Sequence[str]) -> list[dict[str, Any]] | None:
    """Recorded answers, one per question; None if one is missing or its files are gone.

    Args:
        folder: folder for the results.
        scene: name of the scene.
        questions: the questions, word for word.
    """
    known = (read_record(folder / RUN) or {}).get(scene, {})
    entries = [known.get(question) for question in questions]
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get('key'), dict):
            return None
        if not all((folder / str(file)).is_file() for file in entry.get('outputs', {}).values()):
            return None
    return [entry for entry in entries if entry is not None]


def write_answers(
    answers: Sequence[SceneAnswer], folder: Path, *, done: Callable[[], object] = lambda: None
) -> list[SceneAnswer]:
    """Write the evidence and the map of every answer, and the record of all.

    Args:
        answers: answers to any questions about one scene.
        folder: folder for the results, created if absent; files of earlier answers are replaced.
        done: called after each answer.

    Returns:
        The answers, with their files.

    Raises:
        WriteError: if writing failed, as on a full disk; no file is left half written.
    """
    tables, maps = EvidenceTables(), EvidenceMaps()
    written: list[SceneAnswer] = []
    files: dict[str, dict[str, Path]] = {}
    areas: dict[object, Path] = {}
    for answer in answers:
        if answer.basis is not None:
            asked = answer.understood_as or answer.question
            ending = '.gpkg' if isinstance(answer.basis, MapEvidence) else '.parquet'
            paths = answer_files(folder, answer.scene, asked, ending)
            if str(paths['map']) not in files:
                with whole_files([paths['evidence'], paths['map']]) as (table, picture):
                    if isinstance(answer.basis, MapEvidence):
                        # Many questions rest on the same areas, which are written once.
                        key = id(answer.basis.class_map), answer.basis.digest
                        if key in areas:
                            shutil.copyfile(areas[key], table)
                        else:
                            write_areas(answer.basis, table)
                        areas[key] = paths['evidence']
                    else:
                        tables.write(answer, answer.basis, table)
                    maps.write(answer, answer.basis, picture)
                files[str(paths['map'])] = paths
            answer = answer.with_outputs(paths)
        written.append(answer)
        done()
    folder.mkdir(parents=True, exist_ok=True)
    with update_record(folder / RUN) as scenes:
        for answer in written:
            entry = answer.to_dict() | dict(answer.record)
            entry['top_k'] = None if answer.basis is None else answer.basis.top_k
            entry['outputs'] = {kind: Path(name).name for kind, name in entry['outputs'].items()}
            scenes.setdefault(answer.scene, {})[answer.question] = entry
    return written


class EvidenceTables:
    """Writes evidence tables as GeoParquet 1.1; the outlines of tiles are made once per scene."""

    def __init__(self) -> None:
        self._shared: dict[int, tuple[Scored, pa.Array, str]] = {}

    def write(self, answer: SceneAnswer, basis: TileEvidence, path: Path) -> None:
        """Write one row per tile: its outline, its own answer, and whether it is evidence.

        Args:
            answer: an answer that rests on tiles.
            basis: the tiles that it rests on.
            path: Parquet file to write.
        """
        outlines, geo = self._of(basis.scored)
        columns = evidence_columns(basis, answer.question_type or '') | {'geometry': outlines}
        metadata = answer.to_dict() | dict(answer.record.get('provenance', {}))
        metadata.pop('outputs')
        table = pa.table(columns, metadata={'geores': json.dumps(metadata), 'geo': geo})
        pq.write_table(table, path, compression='zstd')

    def _of(self, scored: 'Scored') -> tuple[pa.Array, str]:
        if id(scored) not in self._shared:
            outlines = pa.array(shapely.to_wkb(tile_outlines(scored)), pa.binary())
            # Keep the scene too, so that its id is not given to another object.
            self._shared[id(scored)] = scored, outlines, json.dumps(geo_metadata(scored))
        return self._shared[id(scored)][1:]
