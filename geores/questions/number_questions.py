"""Questions where a number of a map stands: beside a limit, or among those of all covers.

Those of a limit are the question for the number, and the limit: "Is half of it forest?" is "How much of it is
forest?" with 50 %, "Are there more than 5 lakes?" is "How many lakes?" with 5. "Is there more than 10 km² of
forest?" is one of all the forest, where "larger than 10 km²" is said of each area.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from geores.questions.forms import QuestionError
from geores.questions.vocabulary import AREAS, NUMBER, UNITS, measured

__all__ = ['COVERED', 'WHOLE', 'Limit', 'place_among_covers', 'take_limit']

Side = Literal['more', 'least', 'less', 'most', 'exactly']

WHOLE = (
    r'(?:the |this |that )?(?:whole |total |entire )?'
    r'(?:area|scene|image|picture|photo|land|ground|map|region|place|it)'
)
"""Words for all that is seen."""
COVERED = (
    r'(?:(?:covered|taken up|occupied|made up) (?:by|with|of|in) |used (?:for|as) '
    r'|(?:given over|devoted) to |under )?'
)
"""Words between a share of the scene and what it is."""
SLACK = 1e-9
"""Relative error of numbers that are added up."""


@dataclass(frozen=True)
class Limit:
    """A number that another is compared with.

    Attributes:
        side: whether the other has to be more, at least, less, at most, or exactly that.
        value: the limit: percent of a share, square metres of an area, or a number of areas.
        words: as it was written: 'half', '30 %', '10 km2'.
        said: whether the side was written; else "at least" is meant.
    """

    side: Side
    value: float
    words: str
    said: bool = True

    def holds(self, number: float, scale: float = 1.0) -> bool:
        """Whether a number is on the side that is asked for.

        Args:
            number: the number.
            scale: what a unit of it is in units of the limit.
        """
        side = self.compare(number, scale)
        return {
            'more': side > 0,
            'least': side >= 0,
            'less': side < 0,
            'most': side <= 0,
            'exactly': side == 0,
        }[self.side]

    def compare(self, number: float, scale: float = 1.0) -> int:
        """-1 where a number is less than the limit, 0 where it is the same, 1 where it is more.

        Args:
            number: as in `holds`.
            scale: likewise.
        """
        gap = number * scale - self.value
        if abs(gap) <= SLACK * max(abs(self.value), abs(number * scale)):
            return 0
        return 1 if gap > 0 else -1


_SIDES: dict[Side, str] = {
    'exactly': r'exactly|precisely',
    'least': r'at least|a minimum of|no (?:less|fewer) than|not (?:less|fewer) than',
    'most': r'at most|a maximum of|no more than|not more than|up to',
    'more': r'more(?: than)?|over|above|greater than|larger than|bigger than|exceeding',
    'less': r'(?:less|fewer)(?: than)?|under|below|smaller than',
}
_SIDE = rf'(?:(?P<side>{"|".join(_SIDES.values())}) )?'
_PARTS: dict[str, float] = {
    'half': 50.0,
    'a third': 100 / 3,
    'two thirds': 200 / 3,
    'a quarter': 25.0,
    'three quarters': 75.0,
    'a fifth': 20.0,
    'a tenth': 10.0,
    'all': 100.0,
}
_FRACTION = r'(?:(?:a|one|two|three) )?(?:half|thirds?|quarters?|fourths?|fifths?|tenths?)'
_PART = rf'{_FRACTION}|all'
_SHARE = rf'(?:{NUMBER} percent|(?P<part>{_PART}))'
_MOSTLY = r'(?P<mostly>mostly|mainly|predominantly|largely|for the most part)'
_MAJORITY = r'(?P<mostly>most|the (?:majority|greater part|larger part|bulk)|the most part)'
_UNIT = rf'(?P<unit>{"|".join(AREAS)})'
_WORDS = {
    word: number
    for number, word in enumerate(
        ('one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve'), 1
    )
}
_COUNT = rf'(?:{NUMBER}|(?P<count>{"|".join(_WORDS)}))(?! ?(?:percent|{"|".join(AREAS)})\b)'
_OR_MORE = r'(?: or (?P<after>more|fewer|less))?'
_BE, _X = r'(?:is|are|was|were)', r'(?P<x>.+?)'
_COVERS = r'(?:cover|make up|take up|occupy|measure|have)'
_COVERS_IT = rf'(?:{_COVERS}|covers|makes up|takes up|has)'
_OF = r'(?:of|covered by|covered with|under)'
_PROPORTION = r'(?:share|percentage|proportion|fraction)'
_HAS = rf'(?:{_BE} there|(?:do|does) (?:{WHOLE}|you) (?:show|contain|have|include|see)|can (?:you|i) see)'
_TEMPLATES = tuple(
    (asks, re.compile(pattern))
    for asks, pattern in (
        ('share', rf'{_BE} {_SIDE}{_SHARE}(?: of)? {WHOLE} {COVERED}{_X}'),
        ('share', rf'{_BE} {_SIDE}{_SHARE} (?:covered|taken up|occupied|made up) (?:by|with|of) {_X}'),
        ('share', rf'{_BE} {_MAJORITY} of {WHOLE} {COVERED}{_X}'),
        ('share', rf'{_BE} {WHOLE} {_MOSTLY} {COVERED}{_X}'),
        ('share', rf'{_BE} {WHOLE} {_SIDE}{_SHARE} {COVERED}{_X}'),
        ('share', rf'(?:do|does) {_X} {_COVERS} {_SIDE}{_SHARE}(?: of {WHOLE})?'),
        ('share', rf'(?:do|does) {_X} {_COVERS} {_MAJORITY}(?: of {WHOLE})?'),
        ('share', rf'{_BE} the {_PROPORTION} of {_X} {_SIDE}{_SHARE}'),
        ('share', rf'{_BE} the {_X} {_PROPORTION} {_SIDE}{_SHARE}'),
        ('share', rf'{_HAS} {_SIDE}{NUMBER} percent (?:of )?{_X}'),
        ('share', rf'{_BE} {_X} {_SIDE}{_SHARE}(?: of {WHOLE})?'),
        ('area', rf'{_BE} {_SIDE}{NUMBER} ?{_UNIT}(?: of {WHOLE})? {COVERED}{_X}'),
        ('area', rf'{_HAS} {_SIDE}{NUMBER} ?{_UNIT}{_OR_MORE} (?:of )?{_X}'),
        ('area', rf'{_BE} there (?P<side>more|less) {_X} than {NUMBER} ?{_UNIT}'),
        ('area', rf'(?:do|does) {_X} {_COVERS} {_SIDE}{NUMBER} ?{_UNIT}'),
        ('area', rf'{_BE} the (?:total )?(?:area|extent) {_OF} {_X} {_SIDE}{NUMBER} ?{_UNIT}'),
        ('area', rf'{_BE} (?:the )?(?:total )?{_X} (?:area|cover|extent) {_SIDE}{NUMBER} ?{_UNIT}'),
        ('count', rf'{_HAS} {_SIDE}{_COUNT}{_OR_MORE} {_X}'),
        ('count', rf'{_BE} there (?P<side>more|fewer|less) {_X} than {_COUNT}'),
        ('count', rf'{_BE} the number of {_X} {_SIDE}{_COUNT}'),
    )
)
_SORT = r'(?:class(?:es)?|types?|kinds?)'
_KIND_OF_LAND = rf'(?:{_SORT} of )?(?:land ?)?(?:covers?|uses?|cover {_SORT}|class(?:es)?)'
_PLACE = (
    r'(?:(?P<second>second|third)[- ])?(?P<place>most (?:common|frequent|widespread|abundant)|commonest'
    r'|largest|biggest|dominant|dominating|predominant|prevailing|main'
    r'|least (?:common|frequent|widespread|abundant)|rarest|smallest)'
)
_ABOUT_COVERS = tuple(
    re.compile(pattern)
    for pattern in (
        rf'(?:what|which) {_KIND_OF_LAND} (?:{_BE}|has|have) (?:the )?{_PLACE}(?: (?:area|share|one))?',
        rf'(?:what|which) {_BE} the {_PLACE} {_KIND_OF_LAND}',
        rf'(?:the )?{_PLACE} {_KIND_OF_LAND}',
        rf'(?:what|which) {_KIND_OF_LAND} {_COVERS_IT} (?:the )?(?P<most>most|least)'
        rf'(?: (?:area|land|ground|space))?',
        rf'what (?:{_BE}|{_COVERS_IT}) (?:the )?(?P<most>most)(?: (?:part )?of {WHOLE}| land| area)?',
        rf'what {_BE} {WHOLE} (?P<most>mostly|mainly) (?:covered|made up|made) (?:by|with|of)',
        rf'(?:what|which) {_PROPORTION}s?(?: of {WHOLE})? (?:{_BE}|do|does|has|have) '
        rf'(?:which|what|each|every|the) {_KIND_OF_LAND}(?: have| {_COVERS})?',
        rf'(?:what|which) {_BE} the {_PROPORTION}s? of (?:the |each |every |all )?{_KIND_OF_LAND}',
        rf'how much (?:of {WHOLE} )?{_BE} (?:there of )?(?:which|each|every) {_KIND_OF_LAND}',
        rf'how {_BE} {WHOLE} (?:covered|made up|composed|divided)',
        rf'what {_BE} {WHOLE} (?:covered|made up|made|composed) (?:by|with|of)',
        rf'(?:what|which) {_KIND_OF_LAND} (?:{_BE} there|{_BE} present|can be seen|do you see)',
        rf'what (?:(?:do|does) {WHOLE} (?:show|contain)|{_BE} there|can be seen|do you see|{_BE})',
    )
)
"""Questions about all covers: one by its place (`second`, `place`, `most`), or the shares of all."""
_TWICE = re.compile(rf'\b(?:{_PART}|\d+ percent) of (?:{_FRACTION}|\d+ percent)\b')
_ONE_THING = re.compile(r'(?:there|an?|one|any|each|every|single|separate|individual) ')
_AFTER = {'more': 'at least', 'fewer': 'at most', 'less': 'at most'}
_NUMBERS = {'number', 'part', 'mostly', 'count'}
"""Groups of the templates that hold the limit."""
_NUMBERED = {'share': 'how much of it is {}', 'area': 'how much {}', 'count': 'how many {}'}


def take_limit(text: str) -> tuple[str, Limit, str | None] | None:
    """Split a question whether a number reaches a limit into the question for the number, and the limit.

    Args:
        text: a tidy question.

    Returns:
        The question, the limit and the unit of area that it is in; None where no limit is asked for.

    Raises:
        QuestionError: if no share, area or number can be as large or as small as that.
    """
    if match := _TWICE.search(text):
        raise QuestionError(
            f'{match[0]!r} is no share of a scene: give one number, as in "at least 25 % of it"'
        )
    for asks, rule in _TEMPLATES:
        if match := rule.fullmatch(text):
            groups = {name: value for name, value in match.groupdict().items() if value is not None}
            if re.match(r'(?:and|but) ', groups['x']) or re.search(r' (?:and|but)$', groups['x']):
                raise QuestionError(
                    'a question has one limit, as in "more than 5 lakes": ask for each by itself'
                )
            number = max(match.start(name) for name in groups if name in _NUMBERS)
            if asks != 'count' and match.start('x') < number and _ONE_THING.match(groups['x']):
                return None  # "does any lake cover more than 1 ha" is about each by itself
            limit = _limit_of(asks, groups)
            return None if limit is None else (_NUMBERED[asks].format(groups['x']), limit, groups.get('unit'))
    return None


def place_among_covers(text: str) -> int | None:
    """Which land cover a question asks for by its share.

    Args:
        text: a tidy question.

    Returns:
        1 for the largest share, 2 for the next; -1 for the smallest; 0 for all; None where no covers are
        asked for.
    """
    for rule in _ABOUT_COVERS:
        if match := rule.fullmatch(text):
            groups = match.groupdict()
            said = groups.get('place') or groups.get('most')
            if said is None:
                return 0
            place = {'second': 2, 'third': 3}.get(groups.get('second') or '', 1)
            return -place if re.match('least|rarest|smallest', said) else place
    return None


def _limit_of(asks: str, groups: dict[str, str]) -> Limit | None:
    if 'mostly' in groups:
        return Limit('more', 50.0, 'half')
    written = groups.get('side') or _AFTER.get(groups.get('after', ''))
    side: Side = next((name for name, one in _SIDES.items() if re.fullmatch(one, written or '')), 'least')
    said = written is not None
    if 'part' in groups:
        words = re.sub(r'^one ', 'a ', groups['part']).replace('fourth', 'quarter').replace('a half', 'half')
        words = words if words in ('half', 'all') or ' ' in words else f'a {words}'
        return Limit(side, _PARTS[words], words, said or words == 'all') if words in _PARTS else None
    if 'count' in groups:
        return Limit(side, float(_WORDS[groups['count']]), groups['count'], said)
    if asks == 'area':
        value = measured(groups['number'], groups['unit'], AREAS, 'area', 'more than 10 hectares of forest')
        unit = UNITS.get(groups['unit'], groups['unit'])
        if (value, side) == (0, 'less'):
            raise QuestionError(f'"{written} 0 {unit}" is no area: give a number above 0')
        return Limit(side, value, f'{groups["number"]} {unit}', said)
    value = float(groups['number'].replace(',', '').replace('\N{MINUS SIGN}', '-').replace(' ', ''))
    if asks == 'share':
        # Nothing is more than all of it, or less than nothing of it.
        if not 0 <= value <= 100 or (value, side) in ((100, 'more'), (0, 'less')):
            raise QuestionError(
                f'"{written or "at least"} {groups["number"]} %" is no share of a scene: '
                f'give one of 0 to 100 %, as in "at least 30 % of it"'
            )
        return Limit(side if said or value else 'exactly', value, f'{value:g} %', said or not value)
    if not math.isfinite(value) or value < 0 or value % 1 or (value, side) == (0, 'less'):
        raise QuestionError(
            f'"{written or "at least"} {groups["number"]}" is no number of areas: give a whole number, '
            f'as in "more than 5 lakes"'
        )
    return Limit(side if said or value else 'exactly', value, groups['number'].strip(), said or not value)
