"""Land cover as questions name it: the words for each kind, and the labels of maps that show it.

A map of land cover knows less than words say: it shows water, and does not tell a lake from a pond. `Cover`
keeps apart the words that a map's label covers (``names``), the words for kinds of it whose connected areas
can stand for them (``kinds``), the words for single things that run together on a map (``singles``), and the
words for what a map cannot tell from other things (``hidden``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Literal

from geores.questions.grammar_phrases import plural, singular

__all__ = ['COVERS', 'Cover', 'CoverWords', 'Named', 'covers_of']

Role = Literal['name', 'kind', 'single', 'hidden']


@dataclass(frozen=True)
class Cover:
    """One kind of land cover.

    Attributes:
        key: unique name.
        noun: mass noun that answers use.
        labels: labels of maps that show it, in lower case with spaces.
        names: words that mean the same.
        kinds: words for kinds of it that the map does not tell apart.
        singles: words for single things of it, which cannot be counted on a map.
        hidden: words for things that a map shows as this, among others.
        parts: keys of the covers that it sums up; empty for one that labels show.
    """

    key: str
    noun: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    singles: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


COVERS: tuple[Cover, ...] = (
    Cover(
        'water',
        'open water',
        ('water', 'open water', 'water bodies', 'inland waters'),
        (
            'water',
            'water area',
            'open water',
            'surface water',
            'water body',
            'body of water',
            'water surface',
        ),
        ('lake', 'pond', 'reservoir'),
        (),
        (
            *('river', 'stream', 'canal', 'creek', 'sea', 'ocean', 'bay', 'lagoon', 'fjord', 'waterfall'),
            *('pool', 'swimming pool', 'salt pond', 'basin', 'harbour', 'port', 'ditch', 'coast', 'beach'),
        ),
    ),
    Cover(
        'forest',
        'forest (trees)',
        ('trees', 'tree', 'forest', 'forests', 'tree cover', 'woodland'),
        (
            *('forest', 'wood', 'woods', 'woodland', 'forested area', 'wooded area', 'forest area'),
            *('tree cover', 'forest cover', 'forested land'),
        ),
        (),
        ('tree',),
        ('orchard', 'park', 'plantation', 'jungle', 'rainforest', 'mangrove', 'nature reserve', 'vineyard'),
    ),
    Cover(
        'grass',
        'grass',
        ('grass', 'grassland', 'herbaceous vegetation'),
        ('grass', 'grass area', 'grassland', 'grassy area'),
        ('meadow', 'pasture', 'prairie'),
        (),
        (
            *('lawn', 'village green', 'garden', 'park', 'golf course', 'pitch', 'sports field', 'heath'),
            *('recreation ground', 'greenfield', 'steppe', 'savanna'),
        ),
    ),
    Cover(
        'crops',
        'cropland',
        ('crops', 'crop', 'cropland', 'farmland', 'agriculture', 'arable land'),
        (
            *('cropland', 'crop', 'farmland', 'farm land', 'arable land', 'cultivated land', 'crop land'),
            *('agriculture', 'agricultural land', 'agricultural area', 'cultivated area'),
        ),
        (),
        ('field', 'crop field', 'farm'),
        ('vineyard', 'orchard', 'rice field', 'paddy', 'paddy field', 'farmyard', 'allotment', 'greenhouse'),
    ),
    Cover(
        'shrub',
        'shrub and scrub',
        ('shrub and scrub', 'shrub', 'shrubland', 'scrub', 'shrubs'),
        ('shrub', 'scrub', 'shrubland', 'scrubland', 'shrub and scrub', 'bushland'),
        (),
        ('bush',),
        ('chaparral', 'heath', 'moorland', 'tundra', 'heathland'),
    ),
    Cover(
        'built',
        'built-up land',
        ('built', 'built up', 'urban', 'built area', 'buildings', 'artificial surfaces', 'built up land'),
        (
            *(
                'built-up land',
                'built-up',
                'built up',
                'urban',
                'built-up area',
                'built up area',
                'built up land',
                'built-up ground',
            ),
            *('urban land', 'urban area', 'urban fabric', 'developed land'),
        ),
        ('settlement', 'residential area', 'housing'),
        ('building', 'house', 'home', 'residential building'),
        (
            *(
                'industrial area',
                'commercial area',
                'factory',
                'school',
                'hospital',
                'church',
                'road',
                'street',
            ),
            *(
                'railway',
                'airport',
                'parking',
                'village',
                'town',
                'city',
                'commercial building',
                'university',
            ),
        ),
    ),
    Cover(
        'bare',
        'bare ground',
        ('bare', 'bare ground', 'bare soil', 'bare land', 'barren'),
        ('bare ground', 'bare soil', 'bare land', 'barren land', 'bare earth', 'bare area', 'soil'),
        (),
        (),
        (
            'sand',
            'beach',
            'quarry',
            'desert',
            'rock',
            'dune',
            'mine',
            'landfill',
            'construction area',
            'salt',
        ),
    ),
    Cover(
        'snow',
        'snow or ice',
        ('snow and ice', 'snow', 'ice', 'snow ice', 'permanent snow and ice'),
        ('snow', 'ice', 'snow or ice', 'snow and ice', 'ice and snow', 'ice or snow', 'snow cover'),
        (),
        (),
        ('glacier', 'iceberg', 'frozen lake', 'sea ice'),
    ),
    Cover(
        'wetland',
        'flooded vegetation',
        ('flooded vegetation', 'wetland', 'wetlands', 'herbaceous wetland', 'marsh'),
        ('flooded vegetation', 'wetland'),
        ('marsh', 'swamp'),
        (),
        ('bog', 'peatland', 'mangrove', 'reed', 'mudflat', 'rice paddy'),
    ),
    Cover(
        'vegetation',
        'vegetation',
        (),
        ('vegetation', 'vegetated area', 'vegetated land', 'plant cover', 'vegetation cover'),
        parts=('forest', 'grass', 'crops', 'shrub', 'wetland'),
    ),
)
"""Kinds of land cover; the labels of Dynamic World (Brown et al. 2022) are the first of each."""


@dataclass(frozen=True)
class Named:
    """What a noun phrase names.

    Attributes:
        cover: the kind of land cover.
        role: how the words relate to it.
        words: the words, in the singular.
    """

    cover: Cover
    role: Role
    words: str


@dataclass(frozen=True)
class CoverWords:
    """The words for the covers that a map shows.

    Attributes:
        labels: numbers of the labels, counted from 0, by key of the cover.
        covers: the covers.
    """

    labels: Mapping[str, tuple[int, ...]]
    covers: tuple[Cover, ...]

    def __getitem__(self, key: str) -> Cover:
        return self._by_key[key]

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    @cached_property
    def _by_key(self) -> dict[str, Cover]:
        return {cover.key: cover for cover in self.covers}

    @cached_property
    def _index(self) -> dict[str, Named]:
        found: dict[str, Named] = {}
        roles: tuple[tuple[Role, str], ...] = (
            ('name', 'names'),
            ('kind', 'kinds'),
            ('single', 'singles'),
            ('hidden', 'hidden'),
        )
        for role, field in roles:
            for cover in self.covers:
                for words in getattr(cover, field):
                    for spelling in (words, plural(words), f'{words}s'):
                        found.setdefault(spelling, Named(cover, role, words))
        return found

    @property
    def examples(self) -> list[str]:
        """A word for each cover, for lists of what can be asked."""
        return [cover.names[0] for cover in self.covers]

    def find(self, words: str) -> Named | None:
        """The cover that words name, in the singular or plural; a single long word may be misspelt."""
        found = self._index.get(words) or self._index.get(singular(words))
        if found is None and ' ' not in words and len(words) > 4:
            close = get_close_matches(words, [name for name in self._index if ' ' not in name], 1, 0.84)
            found = self._index[close[0]] if close else None
        return found

    def named_in(self, text: str) -> list[Named]:
        """What a text names, word for word and in its order; the longest words first."""
        found, rest = [], text.split()
        while rest:
            spans = ((count, ' '.join(rest[:count])) for count in (3, 2, 1))
            taken = next(
                ((count, one) for count, span in spans if (one := self._index.get(span)) is not None), None
            )
            if taken is not None:
                found.append(taken[1])
            rest = rest[1 if taken is None else taken[0] :]
        return found


def covers_of(labels: Sequence[str]) -> CoverWords:
    """The covers that a map with these labels shows; a label of another kind is a cover of its own."""
    plain = [' '.join(label.lower().replace('_', ' ').replace('-', ' ').split()) for label in labels]
    numbers: dict[str, tuple[int, ...]] = {}
    covers: list[Cover] = []
    for cover in COVERS:
        own = tuple(k for k, label in enumerate(plain) if label in cover.labels)
        if cover.parts:
            own = tuple(sorted({k for part in cover.parts for k in numbers.get(part, ())}))
            if sum(part in numbers for part in cover.parts) < 2:
                continue
        if own:
            numbers[cover.key] = own
            covers.append(cover)
    taken = {k for own in numbers.values() for k in own}
    for k, label in enumerate(plain):
        if k not in taken:
            numbers[label] = (k,)
            covers.append(Cover(label, label, (label,), (label,)))
    return CoverWords(numbers, tuple(covers))
