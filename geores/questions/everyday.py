"""Questions in everyday words that a map of land cover answers, as values.

`read_map_question` is their one reader. It takes what it fully understands: every word of a question has to
go into its `MapQuestion`, since another question than the one asked would be answered otherwise.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

from geores.questions.forms import Area, Comparison, Count, Form, Presence, QuestionError, RuralUrban
from geores.questions.grammar import parse
from geores.questions.grammar_phrases import plural
from geores.questions.land_cover import CoverWords, Named
from geores.questions.number_questions import COVERED, WHOLE, Limit, place_among_covers, take_limit
from geores.questions.suggest import suggest
from geores.questions.vocabulary import AREAS, NO_SIZES, Sizes, take_distance, take_sizes, tidy_units, unit_of

__all__ = ['CannotTell', 'MapQuestion', 'Thing', 'check_quantities', 'read_map_question']

Kind = Literal[
    'presence', 'count', 'area', 'share', 'comp', 'where', 'largest', 'distance', 'rural_urban',
    'covers', 'limit',
]  # fmt: skip


@dataclass(frozen=True)
class Thing:
    """What a question is about.

    Attributes:
        cover: key of the land cover.
        words: the words that named it, in the singular.
        sizes: limits of the areas that count.
        near: key of the cover that they have to lie near, if any.
        metres: how near, edge to edge.
    """

    cover: str
    words: str
    sizes: Sizes = NO_SIZES
    near: str | None = None
    metres: float = 0.0


@dataclass(frozen=True)
class MapQuestion:
    """A question to a map of land cover.

    Attributes:
        type: what is asked for.
        thing: what it is about; None of the whole scene (rural or urban, all covers).
        other: the second of a comparison or a distance.
        choice: of a comparison: whether there is more, less or as much of the first, or which has more.
        by: of a comparison: whether areas or numbers are compared.
        unit: unit of area that is asked for; None for the one that suits.
        limit: whether the number that is asked for reaches it; None where the number itself is asked for.
        place: of all covers: which of them by its share, 1 the largest, -1 the smallest; 0 for all.
    """

    type: Kind
    thing: Thing | None = None
    other: Thing | None = None
    choice: Literal['more', 'less', 'equal', 'which'] = 'more'
    by: Literal['area', 'number'] = 'area'
    unit: str | None = None
    limit: Limit | None = None
    place: int = 0

    @property
    def kind(self) -> Kind:
        """What kind of answer it has, as in the field ``question_type`` of an answer."""
        return self.type if self.limit is None else 'limit'


@dataclass(frozen=True)
class CannotTell:
    """A question that was understood, and that a map of land cover cannot answer.

    Attributes:
        type: what was asked for.
        reason: why not, as the rest of a sentence after "I don't know: ".
    """

    type: Kind
    reason: str


_X, _Y = r'(?P<x>.+?)', r'(?P<y>.+?)'
_BE = r'(?:is|are|was|were)'
_COVER = r'(?:cover|make up|have|take up|occupy|measure)'
_SHARE = r'(?:share|percentage|proportion|fraction|percent|part)'
_UNIT = rf'(?P<unit>{"|".join(AREAS)})'
_THAT = r'(?:the area of |that of )?'
_MOST = r'(?:largest|biggest|greatest)'
_TEMPLATES: tuple[tuple[Kind, str], ...] = (
    ('where', rf'where are the {_MOST} {_X}'),
    ('largest', rf'(?:what|which|where|how (?:large|big)) {_BE} the {_MOST} {_X}'),
    ('largest', rf'(?:what|which) {_BE} the (?:area|size) of the {_MOST} {_X}'),
    ('largest', rf'which {_X} {_BE} the {_MOST}'),
    ('largest', rf'(?:the )?{_MOST} {_X}'),
    ('share', rf'(?:what|which|how (?:large|big) (?:of )?an?) {_SHARE}(?: of {WHOLE})? {_BE} {COVERED}{_X}'),
    ('share', rf'(?:what|which) {_SHARE}(?: of {WHOLE})? (?:do|does) {_X} {_COVER}'),
    ('share', rf'(?:what|which) {_SHARE} of {_X} {_BE} there'),
    ('share', rf'what {_BE} the {_SHARE} (?:of {WHOLE} )?(?:of|covered by|covered with|that is) {_X}'),
    ('share', rf'(?:what {_BE} the )?{_X} {_SHARE}'),
    ('share', rf'how many {_SHARE}(?: of {WHOLE})? {_BE} (?:there )?{COVERED}{_X}'),
    ('share', rf'how much (?:of )?{WHOLE} {_BE} {COVERED}{_X}'),
    ('share', rf'how much (?:of )?{WHOLE} (?:do|does) {_X} {_COVER}'),
    ('share', rf'in percent how much {_X} {_BE} there'),
    ('area', rf'how many {_UNIT} of {_X}(?: {_BE} there)?'),
    ('area', rf'how many {_UNIT} (?:of {WHOLE} )?{_BE} {COVERED}{_X}'),
    ('area', rf'how many {_UNIT} (?:do|does) {_X} {_COVER}'),
    ('area', rf'(?:what|how (?:large|big|much)) {_BE} the (?:total |whole |overall )?'
             rf'(?:area|surface|extent|size) (?:of|covered by|covered with|under) {_X}'),
    ('area', rf'(?:what|which|how much|how large an|how big an) area (?:do|does) {_X} {_COVER}'),
    ('area', rf'(?:what|which|how much|how large an|how big an) area {_BE} {COVERED}{_X}'),
    ('area', rf'how much {_X} {_BE} (?:there|visible|present)'),
    ('area', rf'how much {_X} (?:do you see|can be seen|can you see|exists?)'),
    ('area', rf'how (?:large|big) {_BE} {_X}'),
    ('area', rf'how much {_BE} {COVERED}{_X}'),
    ('area', rf'how much {_X}(?: {_BE})?'),
    ('area', rf'(?:the )?(?:total )?area (?:of|covered by) {_X}'),
    ('area', rf'(?:the )?total {_X} area'),
    ('count', rf'how many {_X} (?:{_BE} (?:there|visible|present)|exist|do you see|can be seen|can you see)'),
    ('count', rf'how many {_X} {_BE}'),
    ('count', rf'how many {_X}'),
    ('count', rf'(?:what {_BE} )?(?:the )?(?:total )?(?:number|count|amount) of {_X}'),
    ('count', rf'count (?:the |all )?{_X}'),
    ('distance', rf'how (?:far|close|near) (?:away )?{_BE} {_X} (?:away )?(?:from|to) {_Y}'),
    ('distance', rf'(?:what {_BE} )?the (?:shortest |smallest |least )?distance '
                 rf'(?:between|from|of) {_X} (?:and|to|from) {_Y}'),
    ('where', rf'where (?:{_BE}|do i find|can i find|do you see|lies?) {_X}'),
    ('where', rf'(?:in|on) (?:which|what) (?:part|side|corner)(?: of {WHOLE})? {_BE} {_X}'),
    ('where', rf'show (?:me )?(?:where )?{_X}(?: {_BE})?'),
    ('presence', rf'{_BE} there {_X}'),
    ('presence', rf'(?:do|does) (?:{WHOLE}|you) (?:show|contain|have|include|see) {_X}'),
    ('presence', rf'(?:do|does) {_X} (?:exist|lie|occur)'),
    ('presence', rf'can (?:you|i) (?:see|find) {_X}'),
    ('presence', rf'{_BE} {_X}(?: (?:there|present|visible))?'),
    ('presence', rf'any {_X}'),
)  # fmt: skip
_COMPARISONS: tuple[tuple[str, str, str], ...] = (
    ('more', 'area', rf'is there more (?:area of |land of )?{_X} than {_Y}'),
    ('less', 'area', rf'is there less (?:area of |land of )?{_X} than {_Y}'),
    ('equal', 'area', rf'is there as much {_X} as {_Y}'),
    ('more', 'number', rf'are there more {_X} than {_Y}'),
    ('less', 'number', rf'are there (?:fewer|less) {_X} than {_Y}'),
    ('equal', 'number', rf'are there as many {_X} as {_Y}'),
    ('equal', 'number', rf'is the number of {_X} equal to the number of {_Y}'),
    ('more', 'area', rf'(?:do|does) {_X} cover (?:more|a larger area|more (?:area|ground|land)) than {_Y}'),
    ('less', 'area', rf'(?:do|does) {_X} cover (?:less|a smaller area|less (?:area|ground|land)) than {_Y}'),
    ('more', 'area', rf'is the (?:total )?area of {_X} (?:larger|bigger|greater) than {_THAT}{_Y}'),
    ('less', 'area', rf'is the (?:total )?area of {_X} smaller than {_THAT}{_Y}'),
    ('which', 'area', rf'(?:what is there more of|which covers more(?: area)?|which is larger) {_X} or {_Y}'),
    ('which', 'area', rf'is there more {_X} or {_Y}'),
    ('more', 'area', rf'more {_X} than {_Y}'),
)  # fmt: skip
_RULES = tuple((kind, re.compile(pattern)) for kind, pattern in _TEMPLATES)
_COMPARING = tuple((choice, by, re.compile(pattern)) for choice, by, pattern in _COMPARISONS)
_HEAD = re.compile(
    r'^(?:please |hello |hi |(?:can|could|would) you (?:please )?(?:tell|say)(?: me)? |tell me |do you know '
    r'|i want to know )+'
)
_TAIL = re.compile(
    r' (?:here|please|at all|altogether|in total|overall|around here|on (?:the|this) map|anywhere|somewhere'
    r'|(?:in|on|of|within|over) (?:this|the|that) (?:whole |entire )?'
    r'(?:image|scene|picture|photo|area|region|place|map|tile))$'
)
_IN_UNIT = re.compile(rf' (?:in|measured in) {_UNIT}$')
_DETERMINER = re.compile(
    r'^(?:an?|any|the|some|all|all of|of|more|single|separate|individual|different|nearest|closest|next|total'
    r'|most|(?:areas?|bod(?:y|ies)|patch(?:es)?|stretch(?:es)?|pieces?|zones?|regions?|parts?)'
    r' (?:of|with|covered by))'
    r' (?=\S)'
)
_EVERY = re.compile(r'(?:is|are|was|were|do|does) (?:all|most|each|every)\b')
_PATCHES = re.compile(r' (?:patch(?:es)?|areas?|stands?|stretch(?:es)?|pieces?)$')
_ADJECTIVE = re.compile(r'^(?:small|medium|large|big|huge|tiny|little)(?=\s)')


def check_quantities(text: str) -> None:
    """Raise `QuestionError` where a question names a size or a distance that cannot be."""
    tidy = _tidy(text)
    if (limited := take_limit(tidy)) is not None:
        tidy = limited[0]
    near = take_distance(tidy)
    for part in (tidy,) if near is None else near[:2]:
        take_sizes(part)


def read_map_question(text: str, words: CoverWords) -> MapQuestion | CannotTell | None:
    """Read a question about what a map of land cover shows.

    Returns:
        The question; why a map cannot answer it; or None where it is about something else.

    Raises:
        QuestionError: if it names a size or a distance that cannot be.
    """
    tidy = _tidy(text)
    if (place := place_among_covers(tidy)) is not None:
        return MapQuestion('covers', place=place)
    if (limited := take_limit(tidy)) is not None:
        found = _limited(*limited, words)
        if found is not None:
            return found
    return _read_tidy(tidy, words) or _by_grammar(text, words)


def _limited(
    numbered: str, limit: Limit, unit: str | None, words: CoverWords
) -> MapQuestion | CannotTell | None:
    """A question whether a number reaches a limit, from the question for the number."""
    found = _read_tidy(numbered, words)
    if isinstance(found, CannotTell):
        return replace(found, type='limit')
    return None if found is None else replace(found, limit=limit, unit=unit)


def _tidy(text: str) -> str:
    """The text in lower case, without mark, courtesies and " in the image"."""
    plain = text.lower().replace('\N{RIGHT SINGLE QUOTATION MARK}', "'").replace("'s ", ' is ')
    plain = re.sub(r'[?!]+|[.,;](?=\s|$)|["“”]', ' ', plain)
    plain = _HEAD.sub('', tidy_units(plain).rstrip('. '))
    while (shorter := _TAIL.sub('', plain)) != plain:
        plain = shorter
    return plain


def _read_tidy(tidy: str, words: CoverWords) -> MapQuestion | CannotTell | None:
    near, every = take_distance(tidy), _EVERY.match(tidy) is not None
    if near is None:
        tidy, sizes = take_sizes(tidy)
        if every and sizes:  # "are all lakes larger than 1 ha" is not whether there is such a one
            return None
        return _matched(tidy, sizes, words)
    if every:
        return None
    before, after, metres = near
    before, sizes = take_sizes(before)
    other = _named(after, words)
    if other is None:
        return None
    found = _matched(before, sizes, words)
    if other.role == 'hidden':
        return CannotTell('presence' if found is None else found.type, _hidden(other))
    if not isinstance(found, MapQuestion):
        return found
    if found.thing is None or found.type in ('comp', 'distance'):
        return None
    return replace(found, thing=replace(found.thing, near=other.cover.key, metres=metres))


def _matched(tidy: str, sizes: Sizes, words: CoverWords) -> MapQuestion | CannotTell | None:
    unit = None
    if match := _IN_UNIT.search(tidy):
        unit, tidy = unit_of(match['unit']), tidy[: match.start()]
    elif tidy.endswith(' in percent'):
        tidy = f'in percent {tidy.removesuffix(" in percent")}'
    for choice, by, rule in _COMPARING:
        if match := rule.fullmatch(tidy):
            found = _comparison(choice, by, match['x'], match['y'], words)
            if found is not None and not sizes:
                return found
    for kind, rule in _RULES:
        if match := rule.fullmatch(tidy):
            groups = match.groupdict()
            found = _question(kind, groups['x'], groups.get('y'), sizes, words)
            if isinstance(found, MapQuestion):
                asked = unit_of(groups.get('unit') or '') or unit
                return replace(found, unit=asked) if asked and kind in ('area', 'largest') else found
            if found is not None:
                return found
    named = _named(tidy, words)  # "water?"
    return None if named is None else _question('presence', tidy, None, sizes, words)


def _question(
    kind: Kind, x: str, y: str | None, sizes: Sizes, words: CoverWords
) -> MapQuestion | CannotTell | None:
    first = _named(x, words)
    if first is None:
        bare = _DETERMINER.sub('', x)
        if (match := _ADJECTIVE.match(bare)) and _named(bare[match.end() :].strip(), words):
            reason = f'what is {match[0]!r} is not said; ask for sizes, such as "larger than 10 hectares"'
            return CannotTell(kind, reason)
        return None
    second = None if y is None else _named(y, words)
    if y is not None and second is None:
        return None
    for named in (first, second):
        if named is not None and named.role == 'hidden':
            return CannotTell(kind, _hidden(named))
    if first.role == 'single' and (kind in ('count', 'largest') or (sizes and kind == 'presence')):
        return CannotTell(kind, _single(first))
    thing = Thing(first.cover.key, first.words, sizes)
    other = None if second is None else Thing(second.cover.key, second.words)
    return MapQuestion(kind, thing, other)


def _comparison(choice: str, by: str, x: str, y: str, words: CoverWords) -> MapQuestion | CannotTell | None:
    first, second = _named(x, words), _named(y, words)
    if first is None or second is None:
        return None
    for named in (first, second):
        if named.role == 'hidden':
            return CannotTell('comp', _hidden(named))
    if by == 'number' and not all(_countable(text, named) for text, named in ((x, first), (y, second))):
        single = next((named for named in (first, second) if named.role == 'single'), None)
        if single is not None and single.words != 'tree':
            return CannotTell('comp', _single(single))
        by = 'area'  # "are there more trees than crops": mass nouns are compared by what they cover
    return MapQuestion(
        'comp',
        Thing(first.cover.key, first.words),
        Thing(second.cover.key, second.words),
        choice,  # type: ignore[arg-type]
        by,  # type: ignore[arg-type]
    )


def _countable(text: str, named: Named) -> bool:
    """Whether words name things that a map can count: "forests" and "lakes", not "trees" or "water"."""
    last = _stripped(text)
    is_plural = last == plural(named.words) != named.words
    return named.role != 'single' and (is_plural or ' of ' in text)


def _hidden(named: Named) -> str:
    return (
        f'the map shows {named.cover.noun}, and cannot tell {plural(named.words)} from other '
        f'{named.cover.noun}'
    )


def _single(named: Named) -> str:
    return (
        f'the map shows where {named.cover.noun} is, and no single {plural(named.words)}; ask for its area, '
        f'or for the number of areas of {named.cover.noun}'
    )


def _stripped(text: str) -> str:
    text = text.strip()
    while (shorter := _DETERMINER.sub('', text)) != text:
        text = shorter
    return text


def _named(text: str, words: CoverWords) -> Named | None:
    """The cover that a noun phrase names, which may say that its areas are meant: "forest patches"."""
    found = words.find(text.strip()) or words.find(_stripped(text))
    if found is None and (match := _PATCHES.search(text)):
        found = words.find(_stripped(text[: match.start()]))
        found = found if found is not None and found.role == 'name' else None
    return found


def _by_grammar(text: str, words: CoverWords) -> MapQuestion | CannotTell | None:
    """Read what the grammar of `geores questions` reads, and the looser wordings that `suggest` takes."""
    form: Form | None
    try:
        form = parse(text)
    except QuestionError:
        form = None
    if isinstance(form, RuralUrban):
        return MapQuestion('rural_urban')
    found = None if form is None else _of_form(form, words)
    if found is None:
        names = tuple(name for cover in words.covers for name in (*cover.names, *cover.kinds, *cover.singles))
        guess = suggest(text, names)
        if guess is not None and isinstance(guess.form, RuralUrban):
            return MapQuestion('rural_urban') if 'built' in words else None
        found = None if guess is None else _of_form(guess.form, words)
    return found


_KINDS: tuple[tuple[type[Form], Kind], ...] = ((Presence, 'presence'), (Count, 'count'), (Area, 'area'))


def _of_form(form: Form, words: CoverWords) -> MapQuestion | CannotTell | None:
    parts = list(form.parts())
    if not parts or any(part.size or part.shape or part.relation for part in parts):
        return None
    if isinstance(form, Comparison):
        first, second = (plural(part.category) for part in parts)
        return _comparison(form.choice, 'number', first, second, words)
    for kind, name in _KINDS:
        if isinstance(form, kind):
            return _question(name, parts[0].category, None, Sizes(), words)
    return None
