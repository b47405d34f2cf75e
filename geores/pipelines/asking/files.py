"""Files of answers: evidence, maps and the record of a run. Each is complete, or not there."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geores.errors import OutputError
from geores.io.whole_files import check_free, whole_files
from geores.pipelines.asking.answer import Behind, SceneAnswer, evidence_columns
from geores.pipelines.asking.figure import EvidenceMaps
from geores.pipelines.outputs import provenance
from geores.pipelines.records import check_record, read_record, record
from geores.pipelines.tables import geo_metadata, tile_outlines

if TYPE_CHECKING:
    from geores.pipelines.scored import Scored

__all__ = ['RUN', 'answer_files', 'answered_before', 'check_out', 'write_answers']

RUN = 'answers.json'
SLUG = 60


def answer_files(folder: Path, scene: str, asked: str) -> dict[str, Path]:
    """Paths of an answer's files, by what was asked.

    Args:
        folder: For the results.
        scene: Its name.
        asked: The question in the words in which it was understood.
    """
    slug = re.sub(r'[^a-z0-9]+', '-', asked.lower()).strip('-')
    if len(slug) > SLUG or not slug:
        slug = f'{slug[:SLUG]}-{hashlib.sha256(asked.lower().encode()).hexdigest()[:8]}'
    return {
        'evidence': folder / f'{scene}_{slug}_evidence.parquet',
        'map': folder / f'{scene}_{slug}_map.png',
    }


def check_out(folder: Path, scene: str, questions: Sequence[str], *, overwrite: bool) -> None:
    """Raise `OutputError` where answers could not be written, before any work is done.

    Args:
        folder: For the results.
        scene: Its name.
        questions: In the words in which they were understood.
        overwrite: Replace what stands there.
    """
    check_free([folder / RUN], overwrite=True)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f'{folder} is a file, and --out names a folder')
    check_record(folder / RUN, overwrite=overwrite)
    for question in questions:
        check_free(list(answer_files(folder, scene, question).values()), overwrite=overwrite)


def answered_before(folder: Path, scene: str, questions: Sequence[str]) -> list[dict[str, Any]] | None:
    """What the record says of questions, where it knows all of them and their files stand; else None.

    Args:
        folder: For the results.
        scene: Its name.
        questions: As they are asked.
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
    answers: Sequence[SceneAnswer],
    scored: 'Scored',
    folder: Path,
    *,
    done: Callable[[], object] = lambda: None,
) -> list[SceneAnswer]:
    """Write evidence and maps of answers, and the record of all.

    Args:
        answers: To any questions about one scene.
        scored: The scene as it was looked at.
        folder: Created where absent; files of earlier answers are replaced.
        done: Called as each answer is written.

    Returns:
        The answers, with their files.

    Raises:
        WriteError: Writing failed, as on a full disk; no file is left half written.
    """
    tags = provenance(scored)
    tables, maps = EvidenceTables(tags), EvidenceMaps()
    written: list[SceneAnswer] = []
    files: dict[str, dict[str, Path]] = {}
    for answer in answers:
        if answer.behind is not None:
            asked = answer.understood_as or answer.question
            paths = answer_files(folder, answer.scene, asked)
            if str(paths['map']) not in files:
                with whole_files([paths['evidence'], paths['map']]) as (table, picture):
                    tables.write(answer, answer.behind, table)
                    maps.write(answer, answer.behind, picture)
                files[str(paths['map'])] = paths
            answer = answer.with_outputs(paths)
        written.append(answer)
        done()
    folder.mkdir(parents=True, exist_ok=True)
    with record(folder / RUN) as scenes:
        for answer in written:
            entry = answer.to_dict() | {'provenance': tags, 'key': dict(scored.info.key)}
            entry['top_k'] = None if answer.behind is None else answer.behind.top_k
            entry['outputs'] = {kind: Path(name).name for kind, name in entry['outputs'].items()}
            scenes.setdefault(answer.scene, {})[answer.question] = entry
    return written


class EvidenceTables:
    """Writes tables of tiles as GeoParquet 1.1; what answers share is made once for each scene.

    Args:
        tags: Where they come from.
    """

    def __init__(self, tags: dict[str, Any]) -> None:
        self.tags = tags
        self._shared: dict[int, tuple[Scored, pa.Array, str]] = {}

    def write(self, answer: SceneAnswer, behind: Behind, path: Path) -> None:
        """Write every tile with its outline, its own answer, and whether it counts as evidence.

        Args:
            answer: One that rests on tiles.
            behind: What it rests on.
            path: A Parquet file.
        """
        outlines, geo = self._of(behind.scored)
        columns = evidence_columns(behind, answer.question_type or '') | {'geometry': outlines}
        said = answer.to_dict() | self.tags
        said.pop('outputs')
        table = pa.table(columns, metadata={'geores': json.dumps(said), 'geo': geo})
        pq.write_table(table, path, compression='zstd')

    def _of(self, scored: 'Scored') -> tuple[pa.Array, str]:
        if id(scored) not in self._shared:
            outlines = pa.array(shapely.to_wkb(tile_outlines(scored)), pa.binary())
            # With the scene, so that its id stays its own.
            self._shared[id(scored)] = scored, outlines, json.dumps(geo_metadata(scored))
        return self._shared[id(scored)][1:]
