"""Questions about classes as RSVQAxBEN draws them (spec 2.8): which classes, joined how."""

import random
from collections.abc import Mapping, Sequence

from geores.questions.forms import LabelPresence, LandCover

__all__ = ['LEVELS_CUM', 'class_question', 'join_answer', 'land_cover_question']

# Shares up to which each pattern is drawn, and its shapes: p a class that is there, n one that is not,
# & "and", | "or". One shape of a pattern is taken with equal chance.
_Table = tuple[tuple[float, tuple[str, ...]], ...]
_NO: _Table = (
    (0.5, ('n',)),
    (0.65, ('n&p', 'p&n')),
    (0.725, ('n&n',)),
    (0.8, ('n|n',)),
    (1.0, ('n|n&p', 'p&n|n')),
)
_YES: _Table = (
    (0.5, ('p',)),
    (0.65, ('p&p',)),
    (0.8, ('p|n', 'n|p')),
    (1.0, ('p&p|n', 'n|p&p', 'p|p&n', 'p&n|p')),
)
# The same shapes at the same rates, each with yes as often as no: published, "or" mostly means yes.
_EVEN_NO: _Table = (
    (0.5, ('n',)),
    (0.65, ('n&p', 'p&n', 'n&n')),
    (0.8, ('n|n',)),
    (1.0, ('n|n&p', 'p&n|n', 'n|p&n', 'n&p|n')),
)
_EVEN_YES: _Table = (
    (0.5, ('p',)),
    (0.65, ('p&p',)),
    (0.8, ('p|n', 'n|p', 'p|p')),
    (1.0, ('p&p|n', 'n|p&p', 'p|p&n', 'p&n|p')),
)
# Land cover: shares of the first, second and third level, and of all three together.
LEVELS_CUM = (0.4, 0.5, 0.9, 1.0)
# Shares up to which no class, one, or two are named as given.
_GIVEN_CUM = (0.75, 0.9, 1.0)


def class_question(
    classes: Mapping[str, bool | None], answer: bool, rng: random.Random, *, even: bool = False
) -> LabelPresence | None:
    """Draw a yes/no question about one to three classes.

    Args:
        classes: Whether each class is there; those that are open are not asked about.
        answer: The answer that it shall have.
        rng: Draws.
        even: Join classes in the same way whatever the answer, so that "and" and "or" give nothing away;
            otherwise as published.

    Returns:
        The question; None where there are not enough classes for what was drawn.
    """
    draw = rng.random()
    table = _YES if answer else _NO
    if even:
        table = _EVEN_YES if answer else _EVEN_NO
    shapes = next(shapes for share, shapes in table if draw < share)
    shape = rng.choice(shapes)
    wanted = {'p': shape.count('p'), 'n': shape.count('n')}
    there = [name for name, is_there in classes.items() if is_there]
    missing = [name for name, is_there in classes.items() if is_there is False]
    if len(there) < wanted['p'] or len(missing) < wanted['n']:
        return None
    names = {'p': iter(rng.sample(there, wanted['p'])), 'n': iter(rng.sample(missing, wanted['n']))}
    return LabelPresence(
        tuple(tuple(next(names[letter]) for letter in group.split('&')) for group in shape.split('|'))
    )


def land_cover_question(
    classes: Mapping[str, bool | None], level: str, rng: random.Random
) -> tuple[LandCover, str] | None:
    """Draw a question for the classes of a level, and its answer.

    Args:
        classes: Whether each class is there.
        level: Name of the level; empty for the labels themselves.
        rng: Draws.

    Returns:
        Question and answer; None where a class is open or too few are there.
    """
    if any(is_there is None for is_there in classes.values()):
        return None
    there = [name for name, is_there in classes.items() if is_there]
    draw = rng.random()
    given = next(number for number, share in enumerate(_GIVEN_CUM) if draw < share)
    if len(there) < given:
        return None
    besides = rng.sample(there, given)
    return LandCover(level, tuple(besides)), join_answer([name for name in there if name not in besides])


def join_answer(names: Sequence[str]) -> str:
    """Sorted names as RSVQAxBEN joins them: "a, b and c", or "None".

    >>> join_answer(['water bodies', 'pastures', 'mixed forest'])
    'mixed forest, pastures and water bodies'
    """
    *first, last = sorted(names) or ['None']
    return f'{", ".join(first)} and {last}' if first else last
