"""Words in questions: nouns with their plurals and synonyms, and areas and lengths with their units.

Any noun can be asked about. These tables hold what rules cannot know: which words are plural already, which
have no plural, and which category `geores.questions.suggest` may take a word for. The categories are those
of the released RSVQA questions (Lobry et al. 2020), then those of the multi-label and land-cover datasets
that geores reads.
"""

import math
import re
from dataclasses import dataclass

from geores.questions.forms import QuestionError

__all__ = [
    'AREAS',
    'CATEGORIES',
    'LENGTHS',
    'MASS',
    'NO_SIZES',
    'NUMBER',
    'PHRASES',
    'PLURALS',
    'RSVQA_CATEGORIES',
    'SYNONYMS',
    'UNITS',
    'Sizes',
    'measured',
    'take_distance',
    'take_sizes',
    'tidy_units',
    'unit_of',
]

RSVQA_CATEGORIES: tuple[str, ...] = (
    'building',
    'residential building',
    'commercial building',
    'road',
    'water area',
    'allotment',
    'allotments',
    'barracks',
    'cemetery',
    'commercial',
    'commercial area',
    'construction area',
    'depot',
    'farmland',
    'farmyard',
    'forest',
    'garage',
    'garden',
    'golf course',
    'grass area',
    'greenfield',
    'heath',
    'hospital',
    'industrial',
    'industrial area',
    'island',
    'landfill',
    'meadow',
    'military area',
    'nature reserve',
    'orchard',
    'park',
    'parking',
    'pedestrian',
    'pier',
    'pitch',
    'place of worship',
    'playground',
    'port',
    'railway',
    'recreation ground',
    'religious area',
    'residential area',
    'retail area',
    'salt pond',
    'school',
    'scrub',
    'sports centre',
    'theatre',
    'university',
    'village green',
    'vineyard',
    'wetland',
    'wood',
)

CATEGORIES: tuple[str, ...] = (
    *RSVQA_CATEGORIES,
    'airplane',
    'airport',
    'bare soil',
    'basin',
    'beach',
    'bridge',
    'car',
    'chaparral',
    'church',
    'college',
    'court',
    'dock',
    'farm',
    'field',
    'footway',
    'grass',
    'harbour',
    'highway',
    'house',
    'lake',
    'library',
    'mobile home',
    'pasture',
    'pavement',
    'pond',
    'prairie',
    'quarry',
    'reservoir',
    'river',
    'sand',
    'sea',
    'ship',
    'stadium',
    'storage tank',
    'swimming pool',
    'tank',
    'tennis court',
    'tree',
    'village',
    'warehouse',
    'water',
)

# Nouns without a plural, and the phrase that counts them.
MASS: dict[str, str] = {
    'bare soil': 'patch of bare soil',
    'chaparral': 'patch of chaparral',
    'cropland': 'area of cropland',
    'farmland': 'area of farmland',
    'grass': 'patch of grass',
    'grassland': 'patch of grassland',
    'heathland': 'patch of heathland',
    'moorland': 'patch of moorland',
    'pavement': 'area of pavement',
    'sand': 'patch of sand',
    'scrub': 'patch of scrub',
    'shrubland': 'patch of shrubland',
    'snow': 'patch of snow',
    'soil': 'patch of soil',
    'vegetation': 'patch of vegetation',
    'water': 'body of water',
    'woodland': 'patch of woodland',
}

# Categories of the released questions that are no nouns in English, and the phrase that says them.
PHRASES: dict[str, str] = {
    'allotments': 'area of allotments',
    'commercial': 'area of commercial use',
    'industrial': 'area of industrial use',
    'parking': 'area for parking',
    'pedestrian': 'area for pedestrians',
}

# Plurals that no rule gives.
PLURALS: dict[str, str] = {
    'aircraft': 'aircraft',
    'barracks': 'barracks',
    'cache': 'caches',
    'person': 'people',
    'prairie': 'prairies',
    'roof': 'roofs',
    'shelf': 'shelves',
    'volcano': 'volcanoes',
    'wharf': 'wharves',
}

# Everyday words, and the categories that they may stand for, best first.
SYNONYMS: dict[str, tuple[str, ...]] = {
    'aeroplane': ('airplane',),
    'aircraft': ('airplane',),
    'boat': ('ship',),
    'bush': ('scrub', 'chaparral'),
    'canal': ('water area', 'water'),
    'car park': ('parking',),
    'parking lot': ('parking',),
    'cargo ship': ('ship',),
    'church': ('church', 'place of worship', 'religious area'),
    'crop': ('farmland', 'field'),
    'cropland': ('farmland', 'field'),
    'earth': ('bare soil',),
    'factory': ('industrial area', 'industrial'),
    'farm': ('farm', 'farmyard', 'farmland'),
    'farm land': ('farmland', 'field'),
    'field': ('field', 'farmland'),
    'grass': ('grass', 'grass area'),
    'grassland': ('grass area', 'grass', 'meadow'),
    'graveyard': ('cemetery',),
    'green space': ('park', 'grass area', 'grass'),
    'highway': ('highway', 'road'),
    'home': ('residential building', 'house', 'building'),
    'house': ('house', 'residential building', 'building'),
    'housing': ('residential area', 'residential building'),
    'industry': ('industrial area', 'industrial'),
    'lake': ('lake', 'water area', 'water'),
    'lawn': ('grass area', 'grass'),
    'motorway': ('highway', 'road'),
    'mosque': ('place of worship', 'religious area'),
    'ocean': ('sea', 'water area', 'water'),
    'office': ('commercial building',),
    'plane': ('airplane',),
    'pond': ('pond', 'water area', 'water'),
    'pool': ('swimming pool', 'water area', 'water'),
    'river': ('river', 'water area', 'water'),
    'rail': ('railway',),
    'sea': ('sea', 'water area', 'water'),
    'shop': ('commercial building', 'retail area'),
    'shrub': ('scrub', 'chaparral'),
    'soil': ('bare soil',),
    'sports field': ('pitch', 'sports centre'),
    'store': ('commercial building',),
    'stream': ('river', 'water area', 'water'),
    'street': ('road',),
    'structure': ('building',),
    'swamp': ('wetland',),
    'marsh': ('wetland',),
    'train track': ('railway',),
    'tree': ('tree', 'wood', 'forest'),
    'vehicle': ('car',),
    'vessel': ('ship',),
    'water': ('water', 'water area'),
    'water body': ('water area', 'water'),
    'body of water': ('water area', 'water'),
    'wood': ('wood', 'forest'),
    'woodland': ('wood', 'forest'),
    'woods': ('wood', 'forest'),
    'yard': ('garden',),
}

AREAS: dict[str, float] = {
    'm2': 1.0,
    'ha': 1e4,
    'km2': 1e6,
    'acres': 4046.8564224,
    'squaremiles': 2589988.110336,
}
"""Units of area that are understood, in square metres."""
UNITS: dict[str, str] = {'m2': 'm²', 'km2': 'km²', 'squaremiles': 'square miles'}
"""Units of area that are said otherwise than they are spelt here."""
LENGTHS: dict[str, float] = {'m': 1.0, 'km': 1e3, 'miles': 1609.344, 'feet': 0.3048, 'yards': 0.9144}
"""Units of length that are understood, in metres."""

_SPELLINGS: tuple[tuple[str, str], ...] = (
    (r'(?:sq\.?|square) ?(?:kilomet(?:re|er)s?|kms?)\b|km(?:\^2|²)|kilomet(?:re|er)s? squared', 'km2'),
    (r'(?:sq\.?|square) ?(?:met(?:re|er)s?|m)\b|m(?:\^2|²)|met(?:re|er)s? squared|\bsqm\b', 'm2'),
    (r'(?:sq\.?|square) ?miles?\b', 'squaremiles'),
    (r'\bhectares?\b|\bhas\b(?= of)', 'ha'),
    (r'\bacres?\b', 'acres'),
    (r'\bkilomet(?:re|er)s?\b|\bkms\b', 'km'),
    (r'\bmet(?:re|er)s?\b', 'm'),
    (r'\bmiles?\b', 'miles'),
    (r'\b(?:feet|foot|ft)\b', 'feet'),
    (r'\byards?\b', 'yards'),
    (r'\b(?:per ?cent|percents)\b|%', ' percent '),
)
NUMBER = r'(?P<number>[-\u2212]?\s?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?|[-\u2212]?inf(?:inity)?|nan)'
"""A number in a tidy text, as the group ``number``."""
_UNIT = r'(?: ?(?P<unit>[a-z]\w*))?'
_ABOVE = (
    r'larger than|bigger than|greater than|more than|over|above|at least|exceeding'
    r'|no(?:t)? (?:smaller|less) than'
)
_BELOW = r'smaller than|less than|under|below|at most|no(?:t)? (?:larger|bigger|more) than|up to'
_SIDES = r'larger|bigger|smaller|no(?:t)? (?:smaller|larger|bigger)|exceeding'
_THAT = r'(?:(?:that|which) (?:is|are|have|has|cover|covers|measure) |with (?:an area|a size) (?:of )?|of )?'
_SIZE = re.compile(
    rf'\b{_THAT}(?P<side>{_ABOVE}|{_BELOW}) (?:or equal to )?{NUMBER}{_UNIT}'
    r'(?: in (?:size|area)| large| each)?\b'
)
_OR_MORE = re.compile(rf'\bof {NUMBER}{_UNIT} (?:or|and) (?P<side>more|larger|bigger|less|smaller)\b')
_DISTANCE = re.compile(
    r'^(?P<before>.+?) (?:(?:that|which) (?:is|are|lies?) |lying |located |lies? )?'
    rf'(?P<how>within|closer than|less than|at most|no(?:t)? more than|up to|nearer than) {NUMBER}{_UNIT} '
    r'(?P<link>(?:away )?(?:of|from|to)) (?P<after>.+)$'
)
_NEXT = re.compile(
    r'^(?P<before>.+?) (?:next to|adjacent to|touching|bordering(?: on)?|that touch(?:es)?|beside) '
    r'(?P<after>.+)$'
)


@dataclass(frozen=True)
class Sizes:
    """Limits of areas in square metres; None where there is none.

    Attributes:
        above: smallest area.
        below: largest area.
    """

    above: float | None = None
    below: float | None = None

    def __bool__(self) -> bool:
        return self.above is not None or self.below is not None


NO_SIZES = Sizes()


def tidy_units(text: str) -> str:
    """Spell every unit in one way: "sq. km", "km²" and "square kilometres" become "km2"."""
    for pattern, unit in _SPELLINGS:
        text = re.sub(pattern, unit, text)
    return ' '.join(text.split())


def unit_of(word: str) -> str | None:
    """The unit of area that a word of a tidy text names, or None."""
    return word if word in AREAS else None


def take_sizes(text: str) -> tuple[str, Sizes]:
    """Take limits of size out of a text.

    Returns:
        The text without them, and the limits.

    Raises:
        QuestionError: if a limit is negative, is not finite, or has a unit that is none of areas.
    """
    above = below = None
    for pattern in (_SIZE, _OR_MORE):
        while (match := pattern.search(text)) and not _is_distance(text, match):
            if not (match['unit'] in {*AREAS, *LENGTHS} or re.match(_SIDES, match['side'])):
                break  # a number of things, such as "more than 3 lakes"
            limit = measured(match['number'], match['unit'], AREAS, 'area', 'larger than 10 hectares')
            if re.fullmatch(rf'{_ABOVE}|more|larger|bigger', match['side']):
                above = limit
            else:
                below = limit
            text = ' '.join(f'{text[: match.start()]} {text[match.end() :]}'.split())
            text = re.sub(r' (?:and|but)$', '', text)
    if above is not None and below is not None and below <= above:
        raise QuestionError(
            f'nothing is at least {above:g} m² and at most {below:g} m²: ask for sizes that exist'
        )
    return text, Sizes(above, below)


def _is_distance(text: str, match: re.Match[str]) -> bool:
    """Whether the limit is one of distance: "less than 500 m from"."""
    return (
        bool(re.match(r' (?:away )?(?:of|from|to) ', f'{text[match.end() :]} '))
        and match['unit'] not in AREAS
    )


def take_distance(text: str) -> tuple[str, str, float] | None:
    """Split "X within 500 m of Y" into X, Y and metres; "X next to Y" has 0 metres.

    Returns:
        The three parts, or None where there is no such part.

    Raises:
        QuestionError: if the distance is negative, is not finite, or has a unit that is none of lengths.
    """
    match = _DISTANCE.search(text)
    # "Less than 10 km2 of", "at most 10 % of": a number of what follows, and no distance.
    amount = match is not None and match['link'] == 'of' and match['unit'] in (*AREAS, 'percent')
    if match is not None and not (amount and match['how'] not in ('within', 'closer than', 'nearer than')):
        metres = measured(match['number'], match['unit'], LENGTHS, 'distance', 'within 500 m of')
        return match['before'], match['after'], metres
    match = _NEXT.search(text)
    return None if match is None else (match['before'], match['after'], 0.0)


def measured(number: str, unit: str | None, units: dict[str, float], what: str, example: str) -> float:
    """A number with a unit, in square metres or metres."""
    value = float(number.replace(',', '').replace('\N{MINUS SIGN}', '-').replace(' ', ''))
    said = f'{number} {unit or ""}'.strip()
    if not math.isfinite(value) or value < 0:
        raise QuestionError(f'{said!r} is no {what}: give a number of 0 or more, as in "{example}"')
    if unit not in units:
        known = ', '.join(units).replace('squaremiles', 'square miles')
        raise QuestionError(f'{said!r} is no {what}: give it in {known}, as in "{example}"')
    return value * units[unit]
