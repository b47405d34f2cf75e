"""Ask a scene of any size: from a raster and questions to answers with their evidence.

`ask` does all of it; the command `geores ask` uses the steps behind it (`Sources`, `check_answer_folder`,
`QASession`), because it prompts for questions while what was read of the scene is
kept.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from geores.asking.adjusted import digest_of, report_beside
from geores.asking.answer import SceneAnswer
from geores.asking.combine import TileEvidence
from geores.asking.files import answered_before, check_answers_writable, write_answers
from geores.asking.map_source import MAP_FOLDER
from geores.asking.sources import QASession, Sources
from geores.asking.understand import clean_question, understand
from geores.classification.earlier_runs import changed_inputs
from geores.classification.options import AskOptions
from geores.classification.result import Classification, PixelClassification
from geores.errors import UsageError
from geores.inference.prepared import Progress
from geores.inference.reader import MemoryStore
from geores.io.whole_files import check_writable
from geores.options import takes
from geores.scenes import Scene, Source, open_scene

if TYPE_CHECKING:
    from geores.model import Model

__all__ = [
    'ask',
    'check_answer_folder',
    'check_scene_questions',
    'done_before',
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
