"""Who answers questions about a scene: its class map, labels of its tiles, or a VQA network.

`Sources` is decided from headers and cards alone; `QASession` opens each source at the first question for it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from geores.asking.adjusted import AdjustedAreas, adjusted_answer, adjusted_areas, digest_of, report_beside
from geores.asking.answer import SceneAnswer, answer_by_labels, choose_label_card, label_things
from geores.asking.area_estimator import AreaEstimator, area_model_card
from geores.asking.class_map import ClassMap
from geores.asking.encoding import (
    choose_vqa,
    encode_tiles,
    features_folder,
    known_to,
    load_vqa,
    prepare_encoding,
)
from geores.asking.map_answers import answer_from_map
from geores.asking.map_source import (
    MAP_FOLDER,
    MapEvidence,
    MapSource,
    Watch,
    choose_map_card,
    map_of_result,
    map_options,
)
from geores.asking.session import TileSession
from geores.asking.understand import Known, Source, Understood, understand
from geores.card import ModelCard
from geores.classification.options import ClassifyOptions
from geores.classification.result import Classification, PixelClassification
from geores.classification.steps import UnloadedModel, known_key, layout_for, prepare_classification
from geores.errors import BandError, ModelNotFoundError, UsageError, without_secrets
from geores.inference.reader import MemoryStore
from geores.questions.everyday import MapQuestion
from geores.questions.land_cover import covers_of
from geores.scenes import Scene

if TYPE_CHECKING:
    from geores.model import Model

__all__ = ['QASession', 'Sources']


@dataclass(frozen=True)
class Sources:
    """Who can answer questions about a scene, decided before any pixel is read.

    Attributes:
        scene: the scene.
        options: the user's.
        map_card: card of the bundle whose class map answers; None for none.
        label_card: card of the bundle whose labels of tiles answer; None for none.
        vqa_card: card of the VQA bundle; None for none.
        loaded: models that were loaded already, by name.
        notes: why each bundle was chosen, by name.
        chosen: whether a network was asked for by the user, which is then asked first.
        classified: a result of `geores.classify` to answer from.
    """

    scene: Scene
    options: ClassifyOptions
    map_card: ModelCard | None
    label_card: ModelCard | None
    vqa_card: ModelCard | None
    loaded: Mapping[str, 'Model']
    notes: Mapping[str, tuple[str, ...]]
    chosen: bool = False
    classified: Classification | PixelClassification | None = None

    @classmethod
    def choose(
        cls,
        scene: Scene,
        model: 'str | Path | Model',
        options: ClassifyOptions,
        classified: Classification | PixelClassification | None = None,
    ) -> Self:
        """Choose who answers.

        Args:
            scene: the scene.
            model: name or path of a bundle, a loaded model, or 'auto': the class map where a bundle labels
                the pixels of such a scene, labels of tiles for aerial imagery, and a VQA bundle for the rest.
            options: of the user.
            classified: a result of `geores.classify` of this scene.

        Raises:
            UsageError: if the model answers no questions, or nothing suits the scene.
        """
        from geores.bundle import load_model
        from geores.model import Model
        from geores.runtime.base import pick_device

        loaded: dict[str, Model] = {}
        notes: dict[str, tuple[str, ...]] = {}
        named: ModelCard | None = None
        if isinstance(model, Model) or model != 'auto':
            one = model if isinstance(model, Model) else load_model(model, pick_device(options.device))
            if one.card.task != 'segmentation':
                one, _ = load_vqa(scene, one, options.device)
            named, loaded[one.name] = one.card, one
        explicit = named is not None and named.task == 'vqa'
        map_card = named
        if named is None or explicit:
            map_card, why = choose_map_card(scene)
            notes |= {} if map_card is None else {map_card.name: (why,)}
        if isinstance(classified, PixelClassification):
            map_card = classified.card
        label_card = None if explicit or map_card is not None else choose_label_card(scene)
        vqa_card, refused = (named, None) if explicit else _chosen_vqa(scene, notes)
        if refused is not None and map_card is None and label_card is None:
            raise refused
        return cls(scene, options, map_card, label_card, vqa_card, loaded, notes, explicit, classified)

    @cached_property
    def area_card(self) -> ModelCard | None:
        """Card of the classification by tiles that measures areas, where there is no map."""
        if isinstance(self.classified, Classification) and self.classified.card.task == 'single-label':
            return self.classified.card
        return None if self.map_card is not None else area_model_card(self.scene)

    @cached_property
    def known(self) -> Known:
        """What can be asked."""
        known = Known((), ()) if self.vqa_card is None else known_to(self.vqa_card, self.area_card)
        order: tuple[Source, ...] = ('network', 'map') if self.chosen else ('map', 'labels', 'network')
        return replace(
            known,
            cover=None if self.map_card is None else covers_of(self.map_card.labels),
            labels=() if self.label_card is None else tuple(label_things(self.label_card.labels)),
            blind=self._blind(known),
            order=order,
        )

    def _blind(self, known: Known) -> dict[str, str]:
        """Why types are not put to the network. One that knows one region answers others as that is."""
        unseen = (self.vqa_card.limits or {}).get('unseen') if self.vqa_card else None
        if self.chosen or self.vqa_card is None or self.map_card is None or not unseen:
            return {} if self.chosen else dict(known.blind)
        why = f'{self.vqa_card.name} is asked where --model names it, for it has not seen {unseen[0]}'
        return dict.fromkeys(known.types, why) | dict(known.blind)

    @property
    def card(self) -> ModelCard:
        """Card of who is asked first."""
        cards = (self.map_card, self.label_card, self.vqa_card)
        first = next(card for card in cards if card is not None)
        return self.vqa_card if self.chosen and self.vqa_card is not None else first

    def card_named(self, name: str) -> ModelCard | None:
        """The card of that name among those who can answer."""
        cards = (self.map_card, self.label_card, self.vqa_card, self.area_card)
        return next((card for card in cards if card is not None and card.name == name), None)

    def options_for(self, card: ModelCard) -> ClassifyOptions:
        """The options with which a bundle reads the scene."""
        return map_options(self.options) if card.task == 'segmentation' else self.options

    def record(self, card: ModelCard) -> dict[str, Any]:
        """What an answer of a bundle is made with, as far as headers tell: ``provenance`` and ``key``.

        Args:
            card: of the bundle.
        """
        from torch import device

        from geores.runtime.base import pick_device

        options = self.options_for(card)
        model = self.loaded.get(card.name) or UnloadedModel(card, device(pick_device(options.device)))
        key = known_key(self.scene, model, options, layout_for(self.scene, card, options))
        given = {
            name: without_secrets(value) if isinstance(value, str) else value
            for name, value in options.given().items()
        }
        provenance = {
            'model': card.name,
            'model_sha256': card.sha256,
            'licence_of_weights': card.licence,
            'geores_version': version('geores'),
            'scene': self.scene.name,
            'inputs': [
                {'path': raster.path, 'fingerprint': raster.fingerprint} for raster in self.scene.rasters
            ],
            'options': given,
        }
        return {'provenance': provenance, 'key': key}


def _chosen_vqa(
    scene: Scene, notes: dict[str, tuple[str, ...]]
) -> tuple[ModelCard | None, UsageError | None]:
    """The VQA bundle that suits a scene, or why there is none."""
    try:
        card, why = choose_vqa(scene)
    except (BandError, ModelNotFoundError) as error:
        return None, error
    notes[card.name] = (why,)
    return card, None


class QASession:
    """Answers questions about one scene until it is closed; a context manager.

    Args:
        sources: who can answer.
        folder: for the class map and unfinished work; None for temporary files.
        top_k: most tiles or areas that count as evidence of an answer.
        accuracy: report of `geores accuracy` on the class map; None for one that lies beside it.
        resume: continue unfinished work in the folder.
        overwrite: replace a class map of another run in the folder.
        watch: is open while the scene is worked on.
    """

    def __init__(
        self,
        sources: Sources,
        folder: Path | None = None,
        *,
        top_k: int | None = None,
        accuracy: str | Path | None = None,
        resume: bool = True,
        overwrite: bool = False,
        watch: Watch = lambda name, folder: nullcontext(None),
    ) -> None:
        if accuracy is not None:
            if sources.map_card is None:
                raise UsageError(f'--accuracy {accuracy} corrects a class map, and none answers here')
            AdjustedAreas.read(accuracy)  # before any pixel is read
        self._accuracy = accuracy
        self.sources = sources
        self.folder = folder
        self.top_k = top_k
        self._resume, self._overwrite, self._watch = resume, overwrite, watch
        self._stack = ExitStack()
        self._records: dict[str, dict[str, Any]] = {}
        self._read: dict[str, Understood] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def understood(self, question: str) -> Understood:
        """How a question is understood; read once.

        Raises:
            QuestionError: if it is no question, or names a size or distance that cannot be.
        """
        if question not in self._read:
            self._read[question] = understand(question, self.sources.known)
        return self._read[question]

    def answer(self, questions: Sequence[str]) -> list[SceneAnswer]:
        """Answer questions; a network is asked all of its questions in one pass.

        Args:
            questions: the questions, in English.

        Returns:
            One answer per question, in their order.

        Raises:
            QuestionError: if a question cannot be one; nothing was answered.
        """
        asked = list(dict.fromkeys(self.understood(question) for question in questions))
        answering: dict[Source, Callable[[list[Understood]], list[SceneAnswer]]] = {
            'map': self._by_map,
            'labels': self._by_labels,
            'network': lambda part: self.tiles.answer(part),
        }
        names = self.sources.scene.name, self.sources.card.name
        done: dict[Understood, SceneAnswer] = {
            each: SceneAnswer(*names, each.question, each.meant, None, each.reason or '')
            for each in asked
            if each.form is None
        }
        for source, by in answering.items():
            part = [each for each in asked if each.form is not None and each.by == source]
            if part:
                done |= zip(part, by(part), strict=True)
        return [
            replace(done[each], record=self._record(done[each]))
            for each in (self.understood(question) for question in questions)
        ]

    def _record(self, answer: SceneAnswer) -> dict[str, Any]:
        name = answer.model if answer.source in (None, 'vqa') else answer.source
        card = self.sources.card_named(str(name)) or self.sources.card
        if card.name not in self._records:
            self._records[card.name] = record = self.sources.record(card)
            record['provenance']['accuracy'] = digest_of(
                report_beside(self.folder, self._accuracy, MAP_FOLDER)
            )
        return self._records[card.name]

    @cached_property
    def class_map(self) -> ClassMap:
        """The class map: made once, or read from the folder."""
        sources = self.sources
        if isinstance(sources.classified, PixelClassification):
            return map_of_result(sources.classified)
        if sources.map_card is None:
            raise UsageError('no bundle maps the land cover of this scene: give --model one that does')
        place = self.folder or Path(self._stack.enter_context(TemporaryDirectory(prefix='geores-')))
        options, card = map_options(sources.options), sources.map_card
        model = sources.loaded.get(card.name)
        return MapSource(
            sources.scene, card, options, place / MAP_FOLDER, model,
            notes=sources.notes.get(card.name, ()), resume=self._resume, overwrite=self._overwrite,
        ).open(self._watch)  # fmt: skip

    def _by_map(self, asked: list[Understood]) -> list[SceneAnswer]:
        shown = self.class_map
        report = report_beside(self.folder, self._accuracy, MAP_FOLDER)
        adjusted, skipped = adjusted_areas(report, shown, named=self._accuracy is not None)
        answers = []
        for each in asked:
            if not isinstance(each.form, MapQuestion):
                raise TypeError('a map is asked what it shows')
            found = answer_from_map(each.form, shown)
            if adjusted is not None:
                found = adjusted_answer(each.form, found, shown, adjusted)
            known = found.low is not None and found.high is not None
            answers.append(SceneAnswer(
                shown.name, shown.card.name, each.question, each.form.kind, found.answer, found.text,
                found.probability, understood_as=each.understood_as,
                interval=(found.low, found.high) if known else None,  # type: ignore[arg-type]
                value=found.value, unit=found.unit, form=each.form,
                source=shown.card.name if found.answer is not None else None,
                notes=found.notes, scene_notes=(*shown.notes, *skipped),
                basis=None if found.answer is None else MapEvidence(shown, found, self.top_k),
            ))  # fmt: skip
        return answers

    def _by_labels(self, asked: list[Understood]) -> list[SceneAnswer]:
        return [answer_by_labels(each, self.labelled, self.top_k) for each in asked]

    @cached_property
    def labelled(self) -> Classification:
        """The scene with labels of its tiles."""
        card = self.sources.label_card
        if card is None:
            raise UsageError('no bundle labels the tiles of this scene')
        return self._classified(card)

    def _load(self, card: ModelCard) -> 'Model':
        from geores.bundle import load_model
        from geores.runtime.base import pick_device

        return load_model(card.name, pick_device(self.sources.options.device))

    def _classified(self, card: ModelCard) -> Classification:
        options = replace(self.sources.options, tile=None, batch_size=None, precision='auto')
        result = prepare_classification(self.sources.scene, self._load(card), options).run(MemoryStore())
        if not isinstance(result, Classification):
            raise TypeError(f'{card.name} labels pixels, and tiles are asked for')
        return result

    @cached_property
    def tiles(self) -> TileSession:
        """The scene as the VQA network sees it: every tile is encoded once."""
        sources, card = self.sources, self.sources.vqa_card
        if card is None:
            raise UsageError('no VQA model is for this scene: give --model one')
        model: Any = sources.loaded.get(card.name) or self._load(card)
        work = prepare_encoding(sources.scene, model, sources.options, notes=sources.notes.get(card.name, ()))
        kept = None if self.folder is None else features_folder(self.folder, sources.scene.name)
        with self._watch(sources.scene.name, kept) as progress:
            scored = self._stack.enter_context(
                encode_tiles(
                    work, self.folder, resume=self._resume, overwrite=self._overwrite, progress=progress
                )
            )
        return TileSession(scored, model, self._area_estimator(), self.top_k)

    def _area_estimator(self) -> AreaEstimator | None:
        classified, card = self.sources.classified, self.sources.area_card
        if card is None:
            return None
        if isinstance(classified, Classification) and classified.card == card:
            return AreaEstimator(card, lambda: classified)
        return AreaEstimator(card, lambda: self._classified(card))
