"""Find the question of the grammar that a question in everyday words most likely means.

The text is scanned word by word for things, attributes and the type of question. Any word that is not
understood ends the search, because a wrong question would be answered otherwise.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from geores.questions.forms import (
    SHAPES,
    SIZES,
    Area,
    Comparison,
    Count,
    Form,
    LabelPresence,
    Objects,
    Place,
    Presence,
    QuestionError,
    Relation,
    RuralUrban,
    Shape,
    Size,
)
from geores.questions.grammar import MAX_LENGTH, parse, phrase
from geores.questions.grammar_phrases import plural, singular, unspoken
from geores.questions.vocabulary import CATEGORIES, MASS, PHRASES, SYNONYMS

__all__ = ['TYPES', 'ScannedText', 'Suggestion', 'scan', 'suggest', 'what_is_known']

Thing = tuple[str, Size | None, Shape | None]

# Words that indicate the type of question; the first type that fits is taken.
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
# Words that carry no meaning here; any other unknown word means that something else is asked.
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
class ScannedText:
    """What was found in a text.

    Attributes:
        things: category, size and shape of each thing, in order.
        cue: type of question: count, area, presence, or the comparison less, more or equal.
        place: where the first thing lies relative to the second.
        rural: whether the text mentions city or countryside.
    """

    things: list[Thing]
    cue: str | None
    place: Place | None
    rural: bool


def scan(text: str, category: Callable[[str], str | None], spellings: tuple[str, ...]) -> ScannedText | None:
    """Scan a text word by word.

    Args:
        text: any text.
        category: returns the category that some words name, or None.
        spellings: correct words that a misspelt word may stand for.

    Returns:
        What was found; None if the text has a word that is not understood.
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
    return ScannedText(things, cue, place, rural) if size is None and shape is None else None


def _thing(
    words: list[str], category: Callable[[str], str | None], spellings: tuple[str, ...]
) -> tuple[int, str | None]:
    """Number of words taken, and the category that they name; the longest match wins."""
    for count in (4, 3, 2, 1):
        if count <= len(words) and (name := category(' '.join(words[:count]))) is not None:
            return count, name
    word = words[0]
    if len(word) < 5 or word in _FILLERS or _RURAL.fullmatch(word):
        return 1, None
    close = get_close_matches(word, spellings, n=1, cutoff=0.84)
    return 1, category(close[0]) if close else None


def _place(plain: str) -> tuple[Place | None, str]:
    """Where the first thing lies relative to the second, and the text without those words."""
    for pattern, place in _NEAR.items():
        pieces = re.split(rf'(?<=\w) (?:{pattern}) (?=\w)', plain, maxsplit=1)
        if len(pieces) == 2 and place != 'next':
            return place, ' '.join(pieces)
        if len(pieces) == 2 and not re.search(r'\b(?:cover\w*|taken up|made up|occupied) by\b', plain):
            return place, ' '.join(pieces)
    return None, plain


TYPES = ('presence', 'count', 'area', 'comp', 'rural_urban')


@dataclass(frozen=True)
class Suggestion:
    """A question that can be parsed.

    Attributes:
        form: the form of the question.
        text: its wording.
    """

    form: Form
    text: str


def suggest(
    text: str, known: Iterable[str] | None = None, types: Collection[str] = TYPES
) -> Suggestion | None:
    """Suggest the question that a text most likely means.

    Everything in the text has to go into the suggestion: an unknown word gives no suggestion rather than
    a different question.

    Args:
        text: a question in everyday words: "any rivers here?", "how much of it is forest".
        known: categories that can be asked about; by default all that geores knows.
        types: question types that can be answered.

    Returns:
        Form and wording; None if the text asks for something else, or is in another language.
    """
    categories = tuple(known) if known is not None else (*CATEGORIES, *MASS, *PHRASES)
    form: Form | None
    try:
        form = parse(text)
    except QuestionError:
        form = _guess(text, categories) if isinstance(text, str) and len(text) <= MAX_LENGTH else None
    else:
        kind, form = form.type, _known_form(form, categories)
        if form is None:  # "a big lake" was read as the name of a thing
            form = _guess(text, categories)
            form = form if form is not None and form.type == kind else None
    return None if form is None or form.type not in types else Suggestion(form, phrase(form))


def what_is_known(
    known: Iterable[str] | None = None,
    types: Collection[str] = TYPES,
    text: str = '',
    answered: Callable[[Form], bool] = lambda form: True,
) -> str:
    """Describe what can be asked, in two sentences for people.

    Args:
        known: categories that can be asked about; by default all that geores knows.
        types: question types that can be answered.
        text: a question that cannot be answered; samples are about what it names.
        answered: whether a sample can be answered.
    """
    categories = tuple(dict.fromkeys(CATEGORIES if known is None else known))
    things = list(dict.fromkeys((*_named(text, categories), *categories))) or ['road']
    pairs = ((a, b) for a in things for b in things if not set(a.split()) & set(b.split()))
    samples: dict[str, Iterable[Form]] = {
        'presence': (Presence(Objects(one)) for one in things),
        'count': (Count(Objects(one)) for one in things),
        'area': (Area(Objects(one)) for one in things),
        'comp': (Comparison('more', Objects(a), Objects(b)) for a, b in pairs),
        'rural_urban': (RuralUrban(),),
    }
    found = [next(filter(answered, forms), None) for kind, forms in samples.items() if kind in types]
    asked = ' '.join(phrase(form) for form in found if form is not None)
    return f'Questions such as: {asked} They can be about: {", ".join(sorted(categories))}.'


def _named(text: str, categories: tuple[str, ...]) -> list[str]:
    """Categories that words of a text name, in their order."""
    words, named = re.findall(r"[^\W_][\w'-]*", text.lower()), []
    while words:
        taken, name = _thing(words, lambda some: _category(some, categories), ())
        words = words[taken:]
        named += [] if name is None else [name]
    return named


def _known_form(form: Form, categories: tuple[str, ...]) -> Form | None:
    """The form with every category replaced by a known one; None if one is unknown."""
    if isinstance(form, LabelPresence):
        if len(form.classes) > 1 or len(form.classes[0]) > 1:
            return form
        found = _category(form.classes[0][0], categories)
        return None if found is None else Presence(Objects(found))
    parts = [_known_objects(part, categories) for part in form.parts()]
    if any(part is None for part in parts):
        return None
    made = [part for part in parts if part is not None]
    if isinstance(form, Comparison):
        return Comparison(form.choice, *made)
    return type(form)(made[0]) if made else form  # type: ignore[call-arg]


def _known_objects(objects: Objects, categories: tuple[str, ...]) -> Objects | None:
    relation = objects.relation
    if relation is not None:
        other = _known_objects(relation.other, categories)
        if other is None:
            return None
        relation = Relation(relation.place, other)
    found = _category(objects.category, categories)
    return None if found is None else Objects(found, objects.size, objects.shape, relation)


def _category(words: str, categories: tuple[str, ...]) -> str | None:
    """The known category that words name: literally, in the singular, or by a synonym."""
    for name in dict.fromkeys((words, unspoken(words), singular(words))):
        if name in categories:
            return name
        for other in SYNONYMS.get(name, ()):
            if other in categories:
                return other
    return None


def _guess(text: str, categories: tuple[str, ...]) -> Form | None:
    """Build the form from what was found in the text."""
    found = scan(text, lambda words: _category(words, categories), tuple(_spellings(categories)))
    if found is None:
        return None
    if not found.things:
        return RuralUrban() if found.rural else None
    things = [Objects(*thing) for thing in found.things]
    if len(things) == 1:
        kind = _KINDS.get(found.cue or 'presence')
        return None if kind is None or found.place is not None else kind(things[0])
    if len(things) > 2 or found.rural:
        return None
    if found.cue in _CHOICES and found.place is None:
        return Comparison(found.cue, *things)  # type: ignore[arg-type]
    kind = _KINDS.get(found.cue or 'presence')
    if found.place is None or kind is None:
        return None
    first, other = things
    return kind(Objects(first.category, first.size, first.shape, Relation(found.place, other)))


def _spellings(categories: tuple[str, ...]) -> list[str]:
    """Single words, singular and plural, that misspelt words are compared with."""
    usual = [word for word, others in SYNONYMS.items() if set(others).intersection(categories)]
    return sorted(
        {form for word in (*categories, *usual) if ' ' not in word for form in (word, plural(word))}
    )


_KINDS: dict[str, Callable[[Objects], Form]] = {'presence': Presence, 'count': Count, 'area': Area}
_CHOICES = ('less', 'more', 'equal')
