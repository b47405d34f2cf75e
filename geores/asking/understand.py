"""From a question in English to what is asked, and from an estimate to an answer in words.

`understand` is called once per question. It decides who answers: the class map what it shows (``map``),
labels of tiles what they name (``labels``), and the network for questions the rest (``network``).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from geores.asking.combine import SceneEstimate
from geores.questions.everyday import CannotTell, MapQuestion, check_quantities, read_map_question
from geores.questions.forms import Comparison, Form, LandCover, Objects, Presence, QuestionError, RuralUrban
from geores.questions.grammar import MAX_LENGTH, parse
from geores.questions.grammar_phrases import plural, singular
from geores.questions.land_cover import CoverWords
from geores.questions.suggest import TYPES, suggest, what_is_known
from geores.questions.vocabulary import CATEGORIES
from geores.vqa.answers import UNKNOWN, AnswerEncoding

__all__ = [
    'Known',
    'Understood',
    'clean_question',
    'how_sure',
    'in_words',
    'known_categories',
    'known_types',
    'understand',
]


Source = Literal['map', 'labels', 'network']


@dataclass(frozen=True)
class Known:
    """The questions that can be answered about a scene.

    Attributes:
        types: question types of the network: 'presence', 'count', 'comp', 'area', 'rural_urban'.
        categories: categories of objects that the network knows.
        areas: categories whose area can be measured beside the map.
        cover: what the class map shows; None where there is no map.
        labels: categories that labels of tiles name.
        blind: question types that the network answers alike for every image -> why they are refused.
        order: who is asked first.
    """

    types: tuple[str, ...]
    categories: tuple[str, ...]
    areas: tuple[str, ...] = ()
    cover: CoverWords | None = None
    labels: tuple[str, ...] = ()
    blind: Mapping[str, str] = field(default_factory=dict)
    order: tuple[Source, ...] = ('map', 'labels', 'network')

    def of(self, kind: str) -> tuple[str, ...]:
        """Categories that questions of a type can be about."""
        return self.areas if kind == 'area' else self.categories

    def holds(self, form: Form) -> bool:
        """Whether the network can be asked a question."""
        if form.type not in self.types or isinstance(form, LandCover):
            return False
        parts = list(form.parts())
        return isinstance(form, RuralUrban) or (
            bool(parts) and all(name in self.of(form.type) for part in parts for name in _names(part))
        )

    @property
    def things(self) -> tuple[str, ...]:
        """Everything that questions can be about, for lists."""
        network = self.categories if set(self.types) - set(self.blind) else ()
        cover = () if self.cover is None else tuple(self.cover.examples)
        return tuple(dict.fromkeys((*cover, *self.labels, *network)))


@dataclass(frozen=True)
class Understood:
    """How a question was understood.

    Attributes:
        question: the question, word for word.
        form: the parsed question; None if it cannot be answered.
        understood_as: the wording that is answered, if the question itself could not be parsed.
        reason: why the question cannot be answered.
        meant: type of a question that was understood but cannot be answered.
        by: who answers it.
    """

    question: str
    form: Form | MapQuestion | None
    understood_as: str | None = None
    reason: str | None = None
    meant: str | None = None
    by: Source = 'network'


def clean_question(text: object) -> str:
    """Validate a question, and reduce its white space to single spaces.

    Args:
        text: the question as given.

    Raises:
        QuestionError: if the question is not a string, is empty, is longer than `MAX_LENGTH`, or names a
            size or distance that cannot be.
    """
    if not isinstance(text, str):
        raise QuestionError(f'a question is a text, not {type(text).__name__}')
    if len(text) > MAX_LENGTH:
        raise QuestionError(
            f'the question has {len(text):,} characters, more than {MAX_LENGTH:,}: ask a shorter one'
        )
    if not any(letter.isalnum() for letter in text):
        raise QuestionError('the question is empty: ask in words, such as "Is there a water area?"')
    check_quantities(text)
    return ' '.join(text.split())


def understand(question: str, known: Known) -> Understood:
    """Read a question, or find the nearest question that can be answered, and decide who answers it.

    Args:
        question: the question, in English.
        known: the questions that can be answered.

    Raises:
        QuestionError: as for `clean_question`.
    """
    question = clean_question(question)
    on_map = None if known.cover is None else read_map_question(question, known.cover)
    why: list[str] = []
    for source in known.order:
        found = None
        if source == 'map' and isinstance(on_map, MapQuestion):
            if on_map.type == 'rural_urban' and (known.cover is None or 'built' not in known.cover):
                continue
            found = Understood(question, on_map, by='map')
        elif source == 'map' and isinstance(on_map, CannotTell):
            why.append(on_map.reason)
        elif source == 'labels':
            found = _by_labels(question, known)
        elif source == 'network':
            found = _by_network(question, known)
        if found is not None and found.by == 'network' and found.form is not None:
            refused = known.blind.get(found.form.type)
            if refused is not None:
                why.append(refused)
                continue
        if found is not None:
            return found
    meant = None if on_map is None else on_map.kind if isinstance(on_map, MapQuestion) else on_map.type
    if why:
        nearest = ''
        if known.cover is not None and isinstance(on_map, CannotTell):
            nearest = f'. Nearest that is understood: {" ".join(nearest_questions(question, known.cover))}'
        return Understood(question, None, None, f"I don't know: {'; '.join(why)}{nearest}", meant)
    return _not_known(question, known)


def _by_labels(question: str, known: Known) -> Understood | None:
    """A question whether there is what a label of tiles names."""
    found = suggest(question, known.labels, ('presence',)) if known.labels else None
    if found is None or not isinstance(found.form, Presence):
        return None
    objects = found.form.objects
    if objects.size or objects.shape or objects.relation:
        return None
    return Understood(question, found.form, _said(question, found.text), by='labels')


def _by_network(question: str, known: Known) -> Understood | None:
    try:
        form = parse(question)
    except QuestionError:
        form = None
    if form is not None and known.holds(form):
        return Understood(question, form)
    for kind in TYPES:
        found = suggest(question, known.of(kind), (kind,)) if kind in known.types else None
        if found is not None and known.holds(found.form):
            return Understood(question, found.form, found.text)
    return None


def _said(question: str, wording: str) -> str | None:
    """The wording that is answered, where it is not the question itself."""
    same = question.lower().strip(' ?') == wording.lower().strip(' ?')
    return None if same else wording


def _not_known(question: str, known: Known) -> Understood:
    """Explain why a question cannot be answered, and what can be asked instead."""
    form: Form | None
    try:
        form = parse(question)
    except QuestionError:
        found = suggest(question)
        form = None if found is None else found.form
    kind = form.type if form is not None else None
    asked = set(re.findall(r'[a-z]+', question.lower()))
    asked |= {singular(word) for word in asked}
    asked.discard('area')

    def others(names: Iterable[str]) -> list[str]:
        # What was asked for is no suggestion of what else can be asked.
        return [name for name in names if not asked.intersection(name.split())]

    if kind == 'area':
        names = others(dict.fromkeys((*(known.cover.examples if known.cover else ()), *known.areas)))
        why = (
            f'areas can be measured of: {", ".join(sorted(names))}'
            if names
            else 'no bundle makes a class map of this scene'
        )
        return Understood(question, None, None, f'cannot measure that area: {why}', kind)
    about = sorted({name for part in form.parts() for name in _names(part)}) if form is not None else []
    strange = [name for name in about if name not in known.things]
    labels = [name for name in about if name in known.labels and name not in known.categories]
    if form is not None and kind not in known.types and known.cover is None:
        what = f"I don't know: no answers to questions of type {kind!r} here."
    elif kind != 'presence' and labels:
        what = f"I don't know: of {labels[0]!r} it is told whether there is one, and no more."
    elif strange:
        what = f"I don't know of any {strange[0]!r}."
    else:
        what = "I don't know what that asks."
    if known.cover is not None:
        nearest = ' '.join(nearest_questions(question, known.cover))
        things = ', '.join(sorted(others(known.things)))
        return Understood(
            question,
            None,
            None,
            f'{what} Nearest that is understood: {nearest} They can be about: {things}.',
            kind,
        )
    types = [one for one in known.types if one != 'area']

    def answered(form: Form) -> bool:
        if isinstance(form, Presence) and form.objects.category in known.labels:
            return True
        return known.holds(form) and form.type not in known.blind

    told = what_is_known(known.things, types, question, answered)
    return Understood(question, None, None, f'{what} {told}', kind)


_NEAREST: tuple[tuple[str, str], ...] = (
    (r'how far|distance|near(?:est)?|close', 'How far is the nearest {a} from {b}?'),
    (r'more|less|fewer|than', 'Is there more {x} than {y}?'),
    (r'largest|biggest|longest|smallest', 'What is the largest {a}?'),
    (r'how many|numbers?|count|average|mean', 'How many {many} are there?'),
    (r'where|(?:north|south|east|west)\w*|corner|side|left|right', 'Where is the {x}?'),
    (
        r'half|thirds?|quarters?|percent\w*|%|shares?|parts?|most|fraction|proportion|much of',
        'How much of the area is {x}?',
    ),
    (r'how (?:much|large|big|long)|areas?|sizes?|hectares?|k?m2?', 'How much {x} is there?'),
    (r'(?:is|are) there|see|find|show', 'Is there {x}?'),
    (r'\w+', 'How much of the area is {x}?'),
)
"""Cues in a question, and how one about the same land cover is put."""
_OF_ALL = 'What share of the scene is which cover?'


def nearest_questions(text: str, words: CoverWords, most: int = 2) -> list[str]:
    """Questions that a class map answers, the nearest to one that is not answered first.

    Args:
        text: the question.
        words: the words for the covers of the map.
        most: most questions to give.
    """
    plain = ' '.join(re.findall(r"[a-z0-9'-]+|%", text.lower()))
    things = list({one.cover.key: one for one in words.named_in(plain)}.values())
    if not things:
        return [_OF_ALL]
    x, y = (one.cover.names[0] for one in (things[0], things[-1]))
    many = plural(things[0].words) if things[0].role == 'kind' else f'areas of {x}'
    a, b = (one.words if one.role == 'kind' else one.cover.names[0] for one in (things[0], things[-1]))
    fitting = [wording for cue, wording in _NEAREST if re.search(rf'(?<!\S)(?:{cue})(?!\S)', plain)]
    asked = (
        one.format(x=x, y=y, a=a, b=b, many=many)
        for one in fitting
        if len(things) > 1 or not ('{y}' in one or '{b}' in one)
    )
    known = [one for one in dict.fromkeys(asked) if isinstance(read_map_question(one, words), MapQuestion)]
    return known[:most]


def _names(objects: Objects) -> list[str]:
    """Category of the objects, and of the other objects in their relation."""
    other = [] if objects.relation is None else [objects.relation.other.category]
    return [objects.category, *other]


def known_types(labels: Iterable[str]) -> tuple[str, ...]:
    """Question types that a model has answers to.

    A comparison is computed from two counts, so it needs answers to counts.

    Args:
        labels: all answers that the model knows.
    """
    answers = set(labels) - {UNKNOWN}
    numbers = [label for label in answers if AnswerEncoding().bounds(label) is not None]
    types = {
        'presence': {'yes', 'no'} <= answers,
        'count': any(not label.endswith('m2') for label in numbers),
        'area': any(label.endswith('m2') for label in numbers),
        'rural_urban': {'rural', 'urban'} <= answers,
    }
    types['comp'] = types['presence'] and types['count']
    return tuple(kind for kind in TYPES if types[kind])


def known_categories(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """Categories of which the model has seen every word in training.

    If both a thing and its area are known ('water', 'water area'), only the area is returned: the word
    'water' may have been learned from 'water area' alone.

    Args:
        definition: the tokenizer, as the `tokenizers` library writes it.
    """
    vocabulary = definition.get('model', {}).get('vocab', {})
    known = [name for name in CATEGORIES if all(word in vocabulary for word in name.split())]
    return tuple(name for name in known if f'{name} area' not in known)


def in_words(form: Form, estimate: SceneEstimate, tiles: int, *, one_tile: bool = False) -> str:
    """Put an estimate into one sentence.

    Args:
        form: the parsed question.
        estimate: the answer about the scene.
        tiles: number of tiles that were seen.
        one_tile: whether the answer is that of a single tile and no sum over tiles.
    """
    answer, carry = estimate.answer, int(estimate.supports.sum())
    if form.type == 'presence':
        if answer == 'no':
            return f'no: in none of {tiles:,} tiles'
        surely = bool((estimate.strength[estimate.supports] >= 0.5).any())
        likeliest = '' if surely else 'in some tile, likeliest '
        return f'yes: {likeliest}in {carry:,} of {tiles:,} tiles'
    if form.type == 'count' and estimate.interval is not None:
        low, high = estimate.interval
        value = estimate.value or 0.0
        if low < high:
            low, value, high = (_rough(number) for number in (low, value, high))
        return _about(f'{value:,.0f}', f'{low:,.0f}', f'{high:,.0f}')
    if form.type == 'area' and estimate.interval is not None and estimate.value is not None:
        low, high = estimate.interval
        return _about(_area(estimate.value), _area(low), _area(high))
    if isinstance(form, Comparison) and estimate.parts is not None and not one_tile:
        first, second = (
            f'{_rough(number):,.0f} {plural(part.category)}'
            for number, part in zip(estimate.parts, form.parts(), strict=True)
        )
        return f'{answer}: about {first}, {second}'
    if form.type == 'rural_urban' and estimate.value is not None and not one_tile:
        return f'{answer}: {estimate.value:.0%} of the area'
    return answer


def how_sure(probability: float | None) -> str:
    """The confidence in brackets; empty if there is none.

    Args:
        probability: probability of the answer; printed as 1 only if it is exactly 1.
    """
    if probability is None:
        return ''
    return f' (confidence {"over 0.99" if 0.99 < probability < 1 else f"{probability:.2f}"})'


def _about(value: str, low: str, high: str) -> str:
    if low == high == value:
        return value
    return f'about {value} ({low} to {high})'


def _rough(number: float) -> float:
    """A number from 100 on with two significant digits: bins do not give more."""
    return float(f'{number:.2g}') if number >= 100 else number


def _area(square_metres: float) -> str:
    """An area in m², ha or km²."""
    for size, unit in ((1e6, 'km²'), (1e4, 'ha')):
        if square_metres >= size:
            number = square_metres / size
            return f'{number:,.3g} {unit}' if number < 100 else f'{number:,.0f} {unit}'
    return f'{square_metres:,.0f} m²'
