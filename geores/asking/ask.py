"""Ask a scene of any size: from a raster and questions to answers with their evidence.

`ask` does all of it; the command `geores ask` uses the steps behind it (`ask_options`, `check_answer_folder`,
`open_session`), because it prompts for questions while the encoded tiles are kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from geores.asking.answer import SceneAnswer
from geores.asking.area_estimator import AreaEstimator, area_model_card
from geores.asking.encoding import encode_tiles, known_to, load_vqa, prepare_encoding
from geores.asking.files import answered_before, check_answers_writable, write_answers
from geores.asking.session import QASession
from geores.classification.earlier_runs import changed_inputs
from geores.classification.options import ClassifyOptions
from geores.classification.pixel_map import PixelClassification
from geores.classification.result import Classification
from geores.classification.steps import known_key, prepare_classification
from geores.errors import UsageError
from geores.inference.plan import lay_out_scene
from geores.inference.prepared import Progress
from geores.inference.reader import MemoryStore
from geores.scenes import Scene, Source, open_scene

if TYPE_CHECKING:
    from geores.asking.understand import Known
    from geores.model import Model
    from geores.vqa.model import VQAModel

__all__ = [
    'ask',
    'ask_options',
    'check_answer_folder',
    'check_scene_questions',
    'done_before',
    'known_of',
    'open_session',
]

_OTHER = (
    *('threshold', 'compile', 'stride', 'linear_s1'),
    *('probabilities', 'polygons', 'min_area', 'simplify', 'colours'),
)
"""Options of `classify` that have no meaning for questions."""


def ask_options(options: dict[str, Any]) -> tuple[ClassifyOptions, int | None]:
    """Split keyword options into those of encoding a scene and the maximum number of evidence tiles.

    Args:
        options: options by name, as `ask` takes them.

    Raises:
        UsageError: if an option is unknown or out of range.
    """
    known = [field.name for field in fields(ClassifyOptions) if field.name not in _OTHER]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f'option {unknown[0]!r} is unknown: options are {", ".join(known)}')
    chosen = dict(options)
    top_k = chosen.pop('top_k', None)
    if top_k is not None and top_k < 1:
        raise UsageError(f'top-k must be at least 1, not {top_k}')
    return ClassifyOptions.from_options(chosen), top_k


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
def ask(
    scene: Source | Scene | Classification | PixelClassification,
    question: str | Sequence[str],
    model: 'str | Path | Model' = 'auto',
    *,
    bands: Sequence[str] | None = None,
    allow_vrt: bool = False,
    out: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> SceneAnswer | list[SceneAnswer]:
    """Ask questions about a scene of any size.

    Every tile is encoded once, however many questions there are: pass them as one list.

    Args:
        scene: a path, several paths of one place, an `xarray.DataArray`, an open `Scene`, or the result of
            `classify`. A classification stores scores but no features, so its scene is read again; its
            subset of the scene (``bbox``, ``aoi``, ``mask``) is used unless the options say otherwise, and
            its scores measure areas where its labels allow it.
        question: a question in English, such as "Is there a water area?", or a list of questions.
        model: name or path of a VQA bundle, a loaded `VQAModel`, or ``auto`` for the one that suits the
            scene's pixel size.
        bands: names of the bands in file order, for files that do not name them.
        allow_vrt: whether a GDAL virtual raster, which can read other files, may be opened.
        out: folder for evidence (GeoParquet), maps (PNG) and ``answers.json``; unfinished work is kept there
            too, so that a killed run can continue.
        resume: continue unfinished work in ``out``.
        overwrite: replace answers in ``out``.
        progress: called as tiles are finished.
        **options: ``tile``, ``resolution``, ``bbox`` and ``bbox_crs``, ``aoi``, ``mask`` and ``mask_values``,
            ``clouds``, ``min_valid``, ``batch_size``, ``device``, ``precision``, ``workers``, ``max_output``,
            ``atmosphere`` as for `classify`; ``top_k``, the maximum number of evidence tiles.

    Returns:
        One answer, or a list of answers for a list of questions.

    Raises:
        UsageError: if an argument cannot be used; nothing was written.
        ReadError: if the scene could not be read to the end; finished work is kept in ``out``.
        WriteError: if the results could not be written; finished work is kept in ``out``.
    """
    questions = [question] if isinstance(question, str) else question
    check_scene_questions(questions)
    classified = scene if isinstance(scene, Classification) else None
    if isinstance(scene, Classification | PixelClassification):
        options = _taken_over(scene) | options
        scene = scene.scene
    elif not isinstance(scene, Scene):
        scene = open_scene(scene, bands=bands, allow_vrt=allow_vrt)
    wanted, top_k = ask_options(options)
    loaded, why = load_vqa(scene, model, wanted.device)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_answer_folder(folder, scene, loaded, questions, classified, overwrite=overwrite)
    with open_session(
        scene, loaded, wanted, folder, notes=why, top_k=top_k, classified=classified, resume=resume,
        progress=progress,
    ) as session:  # fmt: skip
        answers = session.answer(questions)
        if folder is not None:
            answers = write_answers(answers, session.scored, folder)
        answers = _detached(answers)
    return answers[0] if isinstance(question, str) else answers


@contextmanager
def open_session(
    scene: Scene,
    model: 'VQAModel',
    options: ClassifyOptions,
    folder: Path | None,
    *,
    notes: tuple[str, ...] = (),
    top_k: int | None = None,
    classified: Classification | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> Iterator[QASession]:
    """Encode the tiles of a scene, then answer questions until the block ends.

    The arguments are those of `ask`, after validation, and the same errors are raised.
    """
    job = prepare_encoding(scene, model, options, notes=notes)
    estimator = make_area_estimator(scene, model, options, classified)
    with encode_tiles(job, folder, resume=resume, progress=progress) as scored:
        yield QASession(scored, model, estimator, top_k)


def make_area_estimator(
    scene: Scene, model: 'VQAModel', options: ClassifyOptions, classified: Classification | None
) -> AreaEstimator | None:
    """The classification that measures areas, for VQA models without answers in square metres."""
    from geores.bundle import load_model

    if classified is not None and classified.card.task == 'single-label':
        return AreaEstimator(classified.card, lambda: classified)
    card = area_model_card(scene)
    if card is None:
        return None
    plain = replace(options, tile=None, batch_size=None, precision='auto')

    def classify() -> Classification:
        result = prepare_classification(scene, load_model(card.name, model.device), plain).run(MemoryStore())
        if not isinstance(result, Classification):
            raise TypeError(f'{card.name} labels pixels, and areas are measured by tiles')
        return result

    return AreaEstimator(card, classify)


def known_of(scene: Scene, model: 'VQAModel', classified: Classification | None = None) -> 'Known':
    """What can be answered about a scene; known before any tile is read."""
    single = classified is not None and classified.card.task == 'single-label'
    return known_to(model, classified.card if classified is not None and single else area_model_card(scene))


def check_scene_questions(questions: Sequence[str]) -> None:
    """Validate a list of questions.

    Raises:
        UsageError: if the list is empty, or a question is not a string, is empty or is too long.
    """
    from geores.asking.understand import clean_question

    if not questions:
        raise UsageError('there is no question: ask one, such as "Is there a water area?"')
    for question in questions:
        clean_question(question)


def check_answer_folder(
    folder: Path,
    scene: Scene,
    model: 'VQAModel',
    questions: Sequence[str],
    classified: Classification | None = None,
    *,
    overwrite: bool,
) -> None:
    """Raise `OutputError` if the answers could not be written, before any tile is read."""
    from geores.asking.understand import understand

    known = known_of(scene, model, classified)
    read = [understand(question, known) for question in questions]
    asked = [each.understood_as or each.question for each in read if each.form is not None]
    check_answers_writable(folder, scene.name, asked, overwrite=overwrite)


def done_before(
    folder: Path,
    scene: Scene,
    model: 'VQAModel',
    options: ClassifyOptions,
    top_k: int | None,
    questions: Sequence[str],
) -> list[dict[str, Any]]:
    """Recorded answers of an earlier run with the same scene, model and options.

    Args:
        folder: folder of answers.
        scene: the scene.
        model: the VQA model.
        options: options of encoding the scene.
        top_k: maximum number of evidence tiles.
        questions: the questions, in English.

    Returns:
        One record per question; empty if any question is new or anything that decides the answer differs.
    """
    entries = answered_before(folder, scene.name, questions)
    if not entries:
        return []
    key = known_key(scene, model, options, lay_out_scene(scene, model.card, options))
    for entry in entries:
        recorded = {'key': entry['key'], 'options': entry['provenance']['options']}
        # Precision and batch size are chosen at run time; `top_k` only matters if files were written.
        if changed_inputs(recorded, key, options, ignored=('precision', 'batch_size', 'top_k')):
            return []
        if entry['top_k'] != top_k and entry['outputs']:
            return []
    return entries


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
        if basis is not None:
            store = stores.setdefault(id(basis.scored.store), MemoryStore())
            answer = replace(answer, basis=replace(basis, scored=replace(basis.scored, store=store)))
        detached.append(answer)
    return detached
