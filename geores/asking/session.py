"""Questions that a network answers, about a scene whose tiles were encoded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from geores.asking.answer import UNITS, SceneAnswer
from geores.asking.area_estimator import AreaEstimator
from geores.asking.combine import (
    LONG,
    TOUCHED,
    SceneEstimate,
    TileEvidence,
    area,
    compare_counts,
    count,
    presence,
    rural_urban,
)
from geores.asking.encoding import image_gain, never_seen
from geores.asking.predictions import (
    AnswerTable,
    TileAreas,
    TilePredictions,
    pixel_area,
    predict_tiles,
    tile_areas,
)
from geores.asking.understand import Understood, in_words
from geores.questions.forms import Area, Comparison, Count, Form
from geores.questions.grammar import phrase

if TYPE_CHECKING:
    from geores.classification.scored import Scored
    from geores.vqa.model import VQAModel

__all__ = ['TileSession']

Asked = tuple[str, str]


@dataclass(frozen=True)
class TileSession:
    """Answers questions about one encoded scene by a VQA model.

    Attributes:
        scored: the scene, whose store holds the features of its tiles.
        model: the VQA model that encoded the tiles.
        area_estimator: measures areas if the model has no answers in square metres; None if nothing does.
        top_k: maximum number of evidence tiles per answer.
    """

    scored: 'Scored'
    model: 'VQAModel'
    area_estimator: AreaEstimator | None = None
    top_k: int | None = None

    @cached_property
    def areas(self) -> TileAreas:
        """Areas that the tiles see and own."""
        return tile_areas(self.scored)

    @cached_property
    def table(self) -> AnswerTable:
        """Reads the model's probabilities as predictions."""
        return AnswerTable(self.model.card.labels, self.model.encoding)

    def answer(self, understood: Sequence[Understood]) -> list[SceneAnswer]:
        """Answer questions; the tiles are asked all of them in one pass over the features.

        Args:
            understood: questions for the network, as `understand` read them.

        Returns:
            One answer per question, in their order.
        """
        forms = [each.form if isinstance(each.form, Form) else None for each in understood]
        asked = list(dict.fromkeys(one for form in forms for one in self._asked(form)))
        read = dict(zip(asked, predict_tiles(self.scored, self.model, self.table, asked), strict=True))
        answers = []
        for each, form in zip(understood, forms, strict=True):
            if form is None:
                answers.append(SceneAnswer(self.scored.name, self.model.card.name, each.question, each.meant,
                                           None, each.reason or ''))  # fmt: skip
                continue
            answer = self._answer(each, form, [read[one] for one in self._asked(form)])
            answers.append(
                replace(answer, scene_notes=(*self.scored.info.notes, *never_seen(self.model.card)))
            )
        return answers

    def _asked(self, form: Form | None) -> list[Asked]:
        """The questions put to every tile, in the released wording, which models saw most in training.

        A comparison is two counts; its own answer is needed only where the scene is a single tile.
        """
        if form is None or self._needs_classification(form):
            return []
        if isinstance(form, Comparison):
            sides: list[Form] = [Count(form.first), Count(form.second)]
            return [(phrase(each, 'released'), each.type) for each in [*sides, form]]
        return [(phrase(form, 'released'), form.type)]

    def _needs_classification(self, form: Form) -> bool:
        return isinstance(form, Area) and not any(label.endswith('m2') for label in self.model.card.labels)

    def _answer(self, asked: Understood, form: Form, predictions: list[TilePredictions]) -> SceneAnswer:
        head = SceneAnswer(self.scored.name, self.model.card.name, asked.question)
        if isinstance(form, Area) and self._needs_classification(form):
            return self._by_area(head, asked, form)
        if not predictions[0].seen.any():
            return self._nothing(head, "I don't know: no tile has enough valid pixels", form.type)
        estimate = self._estimate(form, predictions)
        single = isinstance(form, Comparison) and estimate.parts is None
        kept = (
            tuple(predictions[2:] if single else predictions[:2])
            if isinstance(form, Comparison)
            else (predictions[0],)
        )
        basis = TileEvidence(self.scored, self.model.card.labels, kept, estimate, self.top_k)
        return self._found(head, asked, form, basis, 'vqa', self._notes(form, predictions[0]))

    def _estimate(self, form: Form, predictions: list[TilePredictions]) -> SceneEstimate:
        first = predictions[0]
        if isinstance(form, Comparison):
            if first.seen.sum() == 1:  # a single tile: its answer is that of the scene
                return presence(predictions[2])
            return compare_counts(first, predictions[1], self.areas, form.choice)
        if form.type == 'rural_urban':
            return rural_urban(first, self.areas)
        if isinstance(form, Count):
            return count(first, self.areas, None if form.objects.category in LONG else TOUCHED)
        return area(first, self.areas) if form.type == 'area' else presence(first)

    def _by_area(self, head: SceneAnswer, asked: Understood, form: Area) -> SceneAnswer:
        estimator = self.area_estimator
        measured = None if estimator is None else estimator.measure(form.objects)
        if measured is None or estimator is None or not measured[1].seen.any():
            more = form.objects.size or form.objects.shape or form.objects.relation
            why = ': a classification tells neither sizes, shapes nor places' if more else ''
            return self._nothing(head, f'cannot measure that area{why}', 'area')
        estimate, predictions = measured
        basis = TileEvidence(estimator.scored, ('no', 'yes'), (predictions,), estimate, self.top_k)
        reason = (
            f'area by the classification of {estimator.card.name}, for {self.model.card.name} answers none'
        )
        known = self.scored.info.notes
        others = tuple(note for note in estimator.scored.info.notes if note not in known)
        return self._found(head, asked, form, basis, estimator.card.name, (reason, *others))

    def _found(
        self,
        head: SceneAnswer,
        asked: Understood,
        form: Form,
        basis: TileEvidence,
        source: str,
        notes: tuple[str, ...],
    ) -> SceneAnswer:
        estimate = basis.estimate
        tiles = int(basis.predictions[0].seen.sum())
        text = in_words(form, estimate, tiles, one_tile=tiles == 1)
        return SceneAnswer(
            head.scene,
            head.model,
            head.question,
            form.type,
            estimate.answer,
            f'{text}, by the classification of {source}' if source != 'vqa' else text,
            None if form.type in UNITS else self._probability(form, estimate.probability),
            tiles,
            asked.understood_as,
            estimate.interval,
            estimate.value,
            UNITS.get(form.type),
            source,
            form,
            notes,
            basis=basis,
        )

    def _probability(self, form: Form, probability: float) -> float:
        """Limit the probability of a yes or no to the measured accuracy, where the image adds little."""
        gain = image_gain(self.model.card, form.type)
        return probability if gain is None or not gain.is_small else min(probability, gain.seeing)

    def _nothing(self, head: SceneAnswer, reason: str, kind: str | None = None) -> SceneAnswer:
        return SceneAnswer(head.scene, head.model, head.question, kind, None, reason)

    def _notes(self, form: Form, predictions: TilePredictions) -> tuple[str, ...]:
        gain = image_gain(self.model.card, form.type)
        notes = [gain.in_words(self.model.card.name)] if gain is not None and gain.is_small else []
        unseen = 1 - self._seen_share(predictions)
        if unseen > 0.005:
            notes.append(f'{unseen:.0%} of the area was not seen (no valid pixels there)')
        if form.type == 'area' and self.scored.gsd is None:
            notes.append('the scene has no CRS: areas are those of pixels as in training')
        relations = [part for part in form.parts() if part.relation is not None]
        if relations and predictions.seen.sum() > 1:
            notes.append('places beside each other are seen within a tile only')
        return tuple(notes)

    def _seen_share(self, predictions: TilePredictions) -> float:
        """Share of the grid's pixels that are valid and lie in a tile that was seen."""
        tiling = self.scored.plan.tiling
        whole = tiling.height * tiling.width * pixel_area(self.scored)
        return float(self.areas.owned[predictions.seen].sum() / whole)
