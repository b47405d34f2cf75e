"""What everyday words say: what is asked about, how, and whether anything else is said."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from geores.questions.forms import SHAPES, SIZES, Place, Shape, Size

__all__ = ['Found', 'scan']

Thing = tuple[str, Size | None, Shape | None]

# Words that say what kind of question it is; the first kind that fits is taken.
_CUES = (
    ('equal', r'as many .* as|same (?:number|amount) of|equally many|equal(?:s)?(?: to)?'),
    ('more', r'more '),
    ('less', r'(?:fewer|less) '),
    ('count', r'how many|number of|amount of|count(?: of)?|quantity of'),
    ('area', r'how much|area (?:of|covered)|share|proportion|percentage|percent|fraction|cover\w*|surface'),
    (
        'presence',
        r'any|(?:is|are) there|there (?:is|are)|see|has|have|show\w*|contain\w*|includ\w*|visible|present'
        r'|exist\w*|find|spot|detect',
    ),
)
_RURAL = re.compile(r'\b(?:urban|rural|city|town|countryside|built[- ]up|metropolis)\b')
_RURAL_REST = frozenset(
    re.findall(
        r'\w+',
        'like more less rather mostly area region place land zone kind type sort called say looking look '
        'taken located over',
    )
)
_SIZES: dict[str, Size] = {
    **{size: size for size in SIZES},
    'tiny': 'small',
    'little': 'small',
    'big': 'large',
    'huge': 'large',
    'mid-sized': 'medium',
    'medium-sized': 'medium',
}
_SHAPES: dict[str, Shape] = {
    **{shape: shape for shape in SHAPES},
    'round': 'circular',
    'rectangle-shaped': 'rectangular',
    'oblong': 'rectangular',
}
_NEAR: dict[str, Place] = {
    r'(?:on|at) (?:the )?top of|above|north of': 'top',
    r'(?:at|on) (?:the )?bottom of|below|south of': 'bottom',
    r'(?:on|to) the left(?: side)? of|left of|west of': 'left',
    r'(?:on|to) the right(?: side)? of|right of|east of': 'right',
    r'next to|near(?: to)?|close to|beside|by|adjacent to|around|along': 'next',
}
# What may stand around the words that matter; any other word means that something else is asked.
_FILLERS = frozenset(
    re.findall(
        r"[\w']+",
        "a an the of in on at to for it its it's is are was were do does did be been there here this that "
        "these those what what's which how many much more less fewer than as or and any some all total me "
        'us you we i can could would will please tell give show shows see seen find visible present '
        'anywhere somewhere image images scene picture photo photograph tile area areas covered cover '
        'covers covering by number amount count quantity share proportion percentage percent fraction '
        'surface large big made up contain contains include includes have has exist exists think land '
        'ground within inside over one ones same equal equally shown spot detect detected found located '
        'every each whole entire map ',
    )
)


@dataclass
class Found:
    """What a text says.

    Attributes:
        things: Category, size and shape of each thing, in order.
        cue: Kind of question: count, area, presence, or the comparison less, more or equal.
        place: Where the first thing lies beside the second.
        rural: Whether it speaks of city or countryside.
    """

    things: list[Thing]
    cue: str | None
    place: Place | None
    rural: bool


def scan(text: str, category: Callable[[str], str | None], spellings: tuple[str, ...]) -> Found | None:
    """Read a text word by word.

    Args:
        text: Any text.
        category: The category that some words name, or None.
        spellings: Words that a misspelt one may be meant for.

    Returns:
        What it says; None where it holds a word that says something else.
    """
    plain = ' '.join(re.findall(r"[^\W_](?:[\w'-]*[^\W_])?", text.lower()))
    plain = re.sub(r'how (?:large|big) (?:is|are)', 'how much is', plain)
    rural = bool(_RURAL.search(plain))
    cue = next((name for name, pattern in _CUES if re.search(rf'\b(?:{pattern})', f'{plain} ')), None)
    place, plain = _place(plain)
    things: list[Thing] = []
    size: Size | None = None
    shape: Shape | None = None
    words = plain.split()
    while words:
        taken, name = _thing(words, category, spellings)
        word = words[0]
        words = words[taken:]
        if name is not None:
            things.append((name, size, shape))
            size = shape = None
        elif word in _SIZES:
            size = _SIZES[word]
        elif word in _SHAPES:
            shape = _SHAPES[word]
        elif not (word in _FILLERS or (rural and (word in _RURAL_REST or _RURAL.fullmatch(word)))):
            return None
    return Found(things, cue, place, rural) if size is None and shape is None else None


def _thing(
    words: list[str], category: Callable[[str], str | None], spellings: tuple[str, ...]
) -> tuple[int, str | None]:
    """The category that the next words name, the longest first, and how many words that takes."""
    for count in (4, 3, 2, 1):
        if count <= len(words) and (name := category(' '.join(words[:count]))) is not None:
            return count, name
    word = words[0]
    if len(word) < 5 or word in _FILLERS or _RURAL.fullmatch(word):
        return 1, None
    close = get_close_matches(word, spellings, n=1, cutoff=0.84)
    return 1, category(close[0]) if close else None


def _place(plain: str) -> tuple[Place | None, str]:
    """Where the first thing lies, and the text without the words that say so."""
    for pattern, place in _NEAR.items():
        pieces = re.split(rf'(?<=\w) (?:{pattern}) (?=\w)', plain, maxsplit=1)
        if len(pieces) == 2 and place != 'next':
            return place, ' '.join(pieces)
        if len(pieces) == 2 and not re.search(r'\b(?:cover\w*|taken up|made up|occupied) by\b', plain):
            return place, ' '.join(pieces)
    return None, plain
