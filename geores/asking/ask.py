"""Ask a scene of any size: from a raster and questions to answers with their evidence.

`ask` does all of it; the command `geores ask` uses the steps behind it (`Sources`, `check_answer_folder`,
`QASession`), because it prompts for questions while what was read of the scene is
kept. Files of answers, tables of evidence, maps and `answers.json`, the record of a run, each appear complete
or not at all.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geores.asking.adjusted import digest_of, report_beside
from geores.asking.answer import SceneAnswer, evidence_columns
from geores.asking.combine import TileEvidence
from geores.asking.evidence_maps import EvidenceMaps
from geores.asking.map_source import MAP_FOLDER, MapEvidence, write_areas
from geores.asking.sources import QASession, Sources
from geores.asking.understand import clean_question, understand
from geores.classification.earlier_runs import changed_inputs
from geores.classification.options import AskOptions
from geores.classification.result import Classification, PixelClassification
from geores.classification.scored import Scored
from geores.classification.tables import geo_metadata, tile_outlines
from geores.errors import OutputError, UsageError
from geores.inference.prepared import Progress
from geores.inference.reader import MemoryStore
from geores.io.journal import check_record, read_record, update_record
from geores.io.whole_files import check_folder_name, check_free, check_writable, whole_files
from geores.options import takes
from geores.scenes import Scene, Source, open_scene

if TYPE_CHECKING:
    from geores.model import Model

__all__ = [
    'RUN',
    'answer_files',
    'answered_before',
    'ask',
    'check_answer_folder',
    'check_answers_writable',
    'check_scene_questions',
    'done_before',
    'write_answers',
]


@overload
def ask(
    scene: Source | Scene | Classification | PixelClassification,
    question: str,
    model: 'str | Path | Model' = ...,
    **options: Any,  # noqa: ANN401 - as below
) -> SceneAnswer: ...
@overload
def ask(
    scene: Source | Scene | Classification | PixelClassification,
    question: Sequence[str],
    model: 'str | Path | Model' = ...,
    **options: Any,  # noqa: ANN401 - as below
) -> list[SceneAnswer]: ...
@takes(AskOptions)
def ask(
    scene: Source | Scene | Classification | PixelClassification,
    question: str | Sequence[str],
    model: 'str | Path | Model' = 'auto',
    *,
    bands: Sequence[str] | None = None,
    allow_vrt: bool = False,
    sensor: str | None = None,
    offset: str | float = 'auto',
    out: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> SceneAnswer | list[SceneAnswer]:
    """Ask questions about a scene of any size.

    What a class map shows (water, forest, built-up land ...) is answered from the map, which is made once,
    and the rest by a VQA network, which sees every tile once however many questions there are: pass them as
    one list.

    Args:
        scene: a path, several paths of one place, an `xarray.DataArray`, an open `Scene`, or the result of
            `classify`. A class map of pixels answers itself; for a network the scene is read again. The
            subset of the scene (``bbox``, ``aoi``, ``mask``) is used unless the options say otherwise.
        question: a question in English, such as "Is there a water area?", or a list of questions.
        model: ``auto`` for the class map and the network that suit the scene; or name or path of a bundle, or
            a loaded model: a VQA bundle is then asked first, and one that labels pixels makes the map.
        bands: names of the bands in file order, for files that do not name them.
        allow_vrt: whether a GDAL virtual raster, which can read other files, may be opened.
        sensor: which sensor the scene is of, where that is not to be decided from it: see `open_scene`.
        offset: what is to be added to Sentinel-2's digital numbers, 'none' or -1000; 'auto' decides it.
        out: folder for evidence (GeoPackage of areas, GeoParquet of tiles), pictures (PNG), ``answers.json``
            and the class map, which later questions reuse; unfinished work is kept there too, so that a
            killed run can continue.
        resume: continue unfinished work in ``out``.
        overwrite: replace answers in ``out``.
        progress: called as tiles are finished.
        **options: options of `AskOptions`.

    Returns:
        One answer, or a list of answers for a list of questions.

    Raises:
        UsageError: if an argument cannot be used; nothing was written.
        ReadError: if the scene could not be read to the end; finished work is kept in ``out``.
        WriteError: if the results could not be written; finished work is kept in ``out``.
    """
    questions = [question] if isinstance(question, str) else question
    check_scene_questions(questions)
    classified = scene if isinstance(scene, Classification | PixelClassification) else None
    if isinstance(scene, Classification | PixelClassification):
        options = _taken_over(scene) | options
        scene = scene.scene
    elif not isinstance(scene, Scene):
        scene = open_scene(scene, bands=bands, allow_vrt=allow_vrt, sensor=sensor, offset=offset)
    wanted = AskOptions.from_options(options)
    sources = Sources.choose(scene, model, wanted.for_scene(), classified)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_answer_folder(folder, sources, questions, overwrite=overwrite)
    with QASession(
        sources,
        folder,
        top_k=wanted.top_k,
        accuracy=wanted.accuracy,
        resume=resume,
        overwrite=overwrite,
        watch=lambda *_: nullcontext(progress),
    ) as session:
        answers = session.answer(questions)
        if folder is not None:
            answers = write_answers(answers, folder)
        answers = _detached(answers)
    return answers[0] if isinstance(question, str) else answers


def check_scene_questions(questions: Sequence[str]) -> None:
    """Validate a list of questions.

    Raises:
        UsageError: if the list is empty, or a question is not a string, is empty or is too long.
    """
    if not questions:
        raise UsageError('there is no question: ask one, such as "Is there a water area?"')
    for question in questions:
        clean_question(question)


def check_answer_folder(folder: Path, sources: Sources, questions: Sequence[str], *, overwrite: bool) -> None:
    """Raise `OutputError` if the answers could not be written, before any pixel is read."""
    check_writable(folder)
    read = [understand(question, sources.known) for question in questions]
    asked = [each.understood_as or each.question for each in read if each.form is not None]
    check_answers_writable(folder, sources.scene.name, asked, overwrite=overwrite)


def done_before(
    folder: Path,
    sources: Sources,
    top_k: int | None,
    questions: Sequence[str],
    accuracy: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Recorded answers of an earlier run with the same scene, models and options.

    Args:
        folder: folder of answers.
        sources: who can answer.
        top_k: maximum number of evidence tiles or areas.
        questions: the questions, in English.
        accuracy: report that corrects areas; None for one beside the map.

    Returns:
        One record per question; empty if any question is new or anything that decides the answer differs.
    """
    entries = answered_before(folder, sources.scene.name, questions)
    report = digest_of(report_beside(folder, accuracy, MAP_FOLDER))
    for entry in entries or ():
        card = sources.card_named(str(entry['provenance'].get('model')))
        if card is None:
            return []
        recorded = {'key': entry['key'], 'options': entry['provenance']['options']}
        options, key = sources.options_for(card), sources.record(card)['key']
        # Precision and batch size are chosen at run time; `top_k` only matters if files were written.
        if changed_inputs(recorded, key, options, ignored=('precision', 'batch_size', 'top_k')):
            return []
        if entry['provenance'].get('accuracy') != report or (entry['top_k'] != top_k and entry['outputs']):
            return []
    return entries or []


def _taken_over(classified: Classification | PixelClassification) -> dict[str, Any]:
    """Options that select the part of the scene which was classified."""
    names = ('bbox', 'bbox_crs', 'aoi', 'mask', 'mask_values', 'clouds', 'min_valid', 'atmosphere')
    return {name: value for name, value in classified.info.options.items() if name in names}


def _detached(answers: list[SceneAnswer]) -> list[SceneAnswer]:
    """Answers whose evidence no longer refers to the stored features, which are about to be removed."""
    stores: dict[int, MemoryStore] = {}
    detached = []
    for answer in answers:
        basis = answer.basis
        if isinstance(basis, TileEvidence):
            store = stores.setdefault(id(basis.scored.store), MemoryStore())
            answer = replace(answer, basis=replace(basis, scored=replace(basis.scored, store=store)))
        detached.append(answer)
    return detached


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
