"""A scene that was looked at, and any number of questions about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from geores.asking.answer import UNITS, Behind, SceneAnswer
from geores.asking.combine import (
    LONG,
    TOUCHED,
    Combined,
    Ownership,
    area,
    compare,
    count,
    presence,
    rural_urban,
)
from geores.asking.cover import Cover
from geores.asking.looking import known_to
from geores.asking.reading import ownership, pixel_area, read_tiles
from geores.asking.readings import AnswerTable, Readings
from geores.asking.understand import Known, Understood, in_words, understand
from geores.questions.forms import Area, Comparison, Count, Form
from geores.questions.grammar import phrase

if TYPE_CHECKING:
    from geores.classification.scored import Scored
    from geores.vqa.model import VQAModel

__all__ = ['Interview']

Asked = tuple[str, str]


@dataclass(frozen=True)
class Interview:
    """Answers questions about one scene.

    Attributes:
        scored: The scene, whose store holds features.
        model: Of the features.
        cover: What measures areas where the model does not; None for nothing.
        top_k: Most tiles that count as evidence.
    """

    scored: 'Scored'
    model: 'VQAModel'
    cover: Cover | None = None
    top_k: int | None = None

    @cached_property
    def known(self) -> Known:
        """What can be answered about."""
        return known_to(self.model, None if self.cover is None else self.cover.card)

    @cached_property
    def owned(self) -> Ownership:
        """What tiles see and own."""
        return ownership(self.scored)

    @cached_property
    def table(self) -> AnswerTable:
        """What the model's answers say."""
        return AnswerTable(self.model.card.labels, self.model.encoding)

    def answer(self, questions: Sequence[str]) -> list[SceneAnswer]:
        """Answer questions, the tiles' answers to all of them at once.

        Args:
            questions: In English.

        Raises:
            QuestionError: One is no text, empty or too long; nothing was answered.
        """
        understood = [understand(question, self.known) for question in questions]
        asked = list(dict.fromkeys(one for each in understood for one in self._asked(each.form)))
        read = dict(zip(asked, read_tiles(self.scored, self.model, self.table, asked), strict=True))
        done: dict[Understood, SceneAnswer] = {}
        for each in understood:
            if each not in done:
                answer = self._answer(each, [read[one] for one in self._asked(each.form)])
                done[each] = replace(answer, scene_notes=self.scored.info.notes)
        return [done[each] for each in understood]

    def _asked(self, form: Form | None) -> list[Asked]:
        """What every tile is asked, in the wording of the release, which models have seen most."""
        if form is None or self._by_cover(form):
            return []
        if isinstance(form, Comparison):
            sides: list[Form] = [Count(form.first), Count(form.second)]
            return [(phrase(each, 'released'), each.type) for each in [*sides, form]]
        return [(phrase(form, 'released'), form.type)]

    def _by_cover(self, form: Form) -> bool:
        return isinstance(form, Area) and not any(label.endswith('m2') for label in self.model.card.labels)

    def _answer(self, asked: Understood, readings: list[Readings]) -> SceneAnswer:
        form = asked.form
        head = SceneAnswer(self.scored.name, self.model.card.name, asked.question)
        if form is None:
            return self._nothing(head, asked.reason or '', asked.meant)
        if isinstance(form, Area) and self._by_cover(form):
            return self._by_area(head, asked, form)
        if not readings[0].seen.any():
            return self._nothing(head, "I don't know: no tile has enough valid pixels", form.type)
        combined = self._combined(form, readings)
        single = isinstance(form, Comparison) and combined.parts is None
        kept = (
            tuple(readings[2:] if single else readings[:2])
            if isinstance(form, Comparison)
            else (readings[0],)
        )
        behind = Behind(self.scored, self.model.card.labels, kept, combined, self.top_k)
        return self._found(head, asked, form, behind, 'vqa', self._notes(form, readings[0]))

    def _combined(self, form: Form, readings: list[Readings]) -> Combined:
        first = readings[0]
        if isinstance(form, Comparison):
            if first.seen.sum() == 1:  # its own answer is the scene's
                return presence(readings[2])
            return compare(first, readings[1], self.owned, form.choice)
        if form.type == 'rural_urban':
            return rural_urban(first, self.owned)
        if isinstance(form, Count):
            return count(first, self.owned, None if form.objects.category in LONG else TOUCHED)
        return area(first, self.owned) if form.type == 'area' else presence(first)

    def _by_area(self, head: SceneAnswer, asked: Understood, form: Area) -> SceneAnswer:
        measured = None if self.cover is None else self.cover.measure(form.objects)
        if measured is None or self.cover is None or not measured[1].seen.any():
            more = form.objects.size or form.objects.shape or form.objects.relation
            why = ': a classification tells neither sizes, shapes nor places' if more else ''
            return self._nothing(head, f'cannot measure that area{why}', 'area')
        combined, readings = measured
        behind = Behind(self.cover.scored, ('no', 'yes'), (readings,), combined, self.top_k)
        note = (
            f'area by the classification of {self.cover.card.name}, for {self.model.card.name} answers none'
        )
        told = self.scored.info.notes
        others = tuple(one for one in self.cover.scored.info.notes if one not in told)
        return self._found(head, asked, form, behind, self.cover.card.name, (note, *others))

    def _found(
        self,
        head: SceneAnswer,
        asked: Understood,
        form: Form,
        behind: Behind,
        source: str,
        notes: tuple[str, ...],
    ) -> SceneAnswer:
        combined = behind.combined
        tiles = int(behind.readings[0].seen.sum())
        text = in_words(form, combined, tiles, one_tile=tiles == 1)
        return SceneAnswer(
            head.scene,
            head.model,
            head.question,
            form.type,
            combined.answer,
            f'{text}, by the classification of {source}' if source != 'vqa' else text,
            combined.probability,
            tiles,
            asked.understood_as,
            combined.interval,
            combined.value,
            UNITS.get(form.type),
            source,
            form,
            notes,
            behind=behind,
        )

    def _nothing(self, head: SceneAnswer, reason: str, kind: str | None = None) -> SceneAnswer:
        return SceneAnswer(head.scene, head.model, head.question, kind, None, reason)

    def _notes(self, form: Form, readings: Readings) -> tuple[str, ...]:
        notes = []
        unseen = 1 - self._seen_share(readings)
        if unseen > 0.005:
            notes.append(f'{unseen:.0%} of the area was not seen (no valid pixels there)')
        if form.type == 'area' and self.scored.gsd is None:
            notes.append('the scene has no CRS: areas are those of pixels as in training')
        relations = [part for part in form.parts() if part.relation is not None]
        if relations and readings.seen.sum() > 1:
            notes.append('places beside each other are seen within a tile only')
        return tuple(notes)

    def _seen_share(self, readings: Readings) -> float:
        """Part of the grid's pixels that are valid and lie in a tile that was seen."""
        tiling = self.scored.plan.tiling
        whole = tiling.height * tiling.width * pixel_area(self.scored)
        return float(self.owned.owned[readings.seen].sum() / whole)
