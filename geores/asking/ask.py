"""What a user can ask of `ask`.

Ask a scene of any size: from a raster and questions to answers with their evidence.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from geores.asking.answer import SceneAnswer
from geores.asking.cover import Cover, cover_card
from geores.asking.files import answered_before, check_out, write_answers
from geores.asking.interview import Interview
from geores.asking.looking import known_to, look_at, prepare_look, vqa_for
from geores.classification.earlier_runs import changed_inputs
from geores.classification.options import ClassifyOptions
from geores.classification.pixel_map import PixelClassification
from geores.classification.result import Classification
from geores.classification.steps import known_key, prepare_classification
from geores.errors import UsageError
from geores.inference.layout import lay_out_scene
from geores.inference.store import MemoryStore
from geores.inference.work import Progress
from geores.scenes import Scene, Source, open_scene

if TYPE_CHECKING:
    from geores.asking.understand import Known
    from geores.model import Model
    from geores.vqa.model import VQAModel

__all__ = ['ask', 'asking', 'check_folder', 'check_questions', 'done_before', 'known_of', 'look_options']

_OTHER = (
    *('threshold', 'compile', 'stride', 'linear_s1'),
    *('probabilities', 'polygons', 'min_area', 'simplify', 'colours'),
)
"""Options of a classification that mean nothing here."""


def look_options(options: dict[str, Any]) -> tuple[ClassifyOptions, int | None]:
    """Options of looking at a scene, and how many tiles count as evidence.

    Args:
        options: By name.

    Raises:
        UsageError: One is unknown or out of range.
    """
    known = [field.name for field in fields(ClassifyOptions) if field.name not in _OTHER]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f'option {unknown[0]!r} is unknown: options are {", ".join(known)}')
    chosen = dict(options)
    top_k = chosen.pop('top_k', None)
    if top_k is not None and top_k < 1:
        raise UsageError(f'top-k must be at least 1, not {top_k}')
    return ClassifyOptions.of(chosen), top_k


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
    """Ask a scene of any size.

    Every tile is looked at once, however many questions there are: give a list of them.

    Args:
        scene: A path, several paths of one place, an `xarray.DataArray`, an open `Scene`, or what `classify`
            gave. A classification keeps scores and no features, so that its scene is looked at anew; its part
            of the scene (``bbox``, ``aoi``, ``mask``) is taken over where the options do not say another, and
            areas are measured by its scores where its labels allow it.
        question: In English, such as "Is there a water area?"; or a list of them.
        model: Name or path of a VQA bundle, a loaded `VQAModel`, or ``auto``: the one for the scene's pixel
            size.
        bands: Names of the bands in file order, where the file does not say.
        allow_vrt: Whether a GDAL virtual raster, which can read other files, may be opened.
        out: Folder for evidence (GeoParquet), maps (PNG) and ``answers.json``; unfinished work is kept there
            too, so that a killed run continues.
        resume: Continue unfinished work in ``out``.
        overwrite: Replace answers in ``out``.
        progress: Called as tiles are finished.
        **options: ``tile``, ``resolution``, ``bbox`` and ``bbox_crs``, ``aoi``, ``mask`` and ``mask_values``,
            ``clouds``, ``min_valid``, ``batch_size``, ``device``, ``precision``, ``workers``, ``max_output``,
            ``atmosphere`` as of `classify`; ``top_k`` (most tiles that count as evidence).

    Returns:
        An answer, or for a list of questions a list of them.

    Raises:
        UsageError: Something given cannot be used; nothing was written.
        ReadError: The scene could not be read to the end; finished work is kept in ``out``.
        WriteError: The results could not be written; likewise.
    """
    questions = [question] if isinstance(question, str) else question
    check_questions(questions)
    classified = scene if isinstance(scene, Classification) else None
    if isinstance(scene, Classification | PixelClassification):
        options = _taken_over(scene) | options
        scene = scene.scene
    elif not isinstance(scene, Scene):
        scene = open_scene(scene, bands=bands, allow_vrt=allow_vrt)
    wanted, top_k = look_options(options)
    loaded, why = vqa_for(scene, model, wanted.device)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_folder(folder, scene, loaded, questions, classified, overwrite=overwrite)
    with asking(
        scene, loaded, wanted, folder, notes=why, top_k=top_k, classified=classified, resume=resume,
        progress=progress,
    ) as interview:  # fmt: skip
        answers = interview.answer(questions)
        if folder is not None:
            answers = write_answers(answers, interview.scored, folder)
        answers = _detached(answers)
    return answers[0] if isinstance(question, str) else answers


@contextmanager
def asking(
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
) -> Iterator[Interview]:
    """Look at a scene, and answer questions until the block ends; `ask` describes what is raised."""
    job = prepare_look(scene, model, options, notes=notes)
    cover = cover_of(scene, model, options, classified)
    with look_at(job, folder, resume=resume, progress=progress) as scored:
        yield Interview(scored, model, cover, top_k)


def cover_of(
    scene: Scene, model: 'VQAModel', options: ClassifyOptions, classified: Classification | None
) -> Cover | None:
    """What measures areas where the model does not answer them."""
    from geores.bundle import load_model

    if classified is not None and classified.card.task == 'single-label':
        return Cover(classified.card, lambda: classified)
    card = cover_card(scene)
    if card is None:
        return None
    plain = replace(options, tile=None, batch_size=None, precision='auto')

    def classify() -> Classification:
        result = prepare_classification(scene, load_model(card.name, model.device), plain).run(MemoryStore())
        if not isinstance(result, Classification):
            raise TypeError(f'{card.name} labels pixels, and areas are measured by tiles')
        return result

    return Cover(card, classify)


def known_of(scene: Scene, model: 'VQAModel', classified: Classification | None = None) -> 'Known':
    """What can be answered about a scene, before it is looked at."""
    single = classified is not None and classified.card.task == 'single-label'
    return known_to(model, classified.card if classified is not None and single else cover_card(scene))


def check_questions(questions: Sequence[str]) -> None:
    """Refuse what are no questions.

    Raises:
        UsageError: There is none; or one is no text, empty or too long.
    """
    from geores.asking.understand import check_question

    if not questions:
        raise UsageError('there is no question: ask one, such as "Is there a water area?"')
    for question in questions:
        check_question(question)


def check_folder(
    folder: Path,
    scene: Scene,
    model: 'VQAModel',
    questions: Sequence[str],
    classified: Classification | None = None,
    *,
    overwrite: bool,
) -> None:
    """Raise `OutputError` where answers could not be written, before the scene is looked at."""
    from geores.asking.understand import understand

    known = known_of(scene, model, classified)
    read = [understand(question, known) for question in questions]
    asked = [each.understood_as or each.question for each in read if each.form is not None]
    check_out(folder, scene.name, asked, overwrite=overwrite)


def done_before(
    folder: Path,
    scene: Scene,
    model: 'VQAModel',
    options: ClassifyOptions,
    top_k: int | None,
    questions: Sequence[str],
) -> list[dict[str, Any]]:
    """What the record in a folder says of questions that the same run has answered; none where one is new.

    Args:
        folder: Of answers.
        scene: The scene.
        model: That answers.
        options: That are asked for.
        top_k: Most tiles that count as evidence.
        questions: In English.
    """
    entries = answered_before(folder, scene.name, questions)
    if not entries:
        return []
    key = known_key(scene, model, options, lay_out_scene(scene, model.card, options))
    for entry in entries:
        said = {'key': entry['key'], 'options': entry['provenance']['options']}
        # Precision and batches are chosen when the scene is looked at; the number of tiles is apart.
        if changed_inputs(said, key, options, ignored=('precision', 'batch_size', 'top_k')):
            return []
        if entry['top_k'] != top_k and entry['outputs']:
            return []
    return entries


def _taken_over(classified: Classification | PixelClassification) -> dict[str, Any]:
    names = ('bbox', 'bbox_crs', 'aoi', 'mask', 'mask_values', 'clouds', 'min_valid', 'atmosphere')
    return {name: value for name, value in classified.info.options.items() if name in names}


def _detached(answers: list[SceneAnswer]) -> list[SceneAnswer]:
    """Answers whose evidence no longer needs the features, which are about to be removed."""
    stores: dict[int, MemoryStore] = {}
    detached = []
    for answer in answers:
        behind = answer.behind
        if behind is not None:
            store = stores.setdefault(id(behind.scored.store), MemoryStore())
            answer = replace(answer, behind=replace(behind, scored=replace(behind.scored, store=store)))
        detached.append(answer)
    return detached
