"""How many questions of each type are asked, and which answers are balanced."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from geores.errors import UsageError

__all__ = ['ANSWERS', 'BOUNDS', 'TYPES', 'Level', 'QuestionBalance', 'answer_class', 'parse_balance']

Level: TypeAlias = Literal['types', 'answers', 'questions']
"""What is balanced: 'types', the types alone; 'answers', in each tile the answers of each type too;
'questions', in the whole dataset the answers of each question as well."""

TYPES = ('presence', 'count', 'comp', 'area')
BOUNDS = (0, 10, 100, 1000)
"""Upper ends of the bins of numbers in RSVQA (Lobry et al. 2020)."""
_YES_NO = ('yes', 'no')
_BINS = ('0', '1-10', '11-100', '101-1000', '>1000')
ANSWERS: Mapping[str, tuple[str, ...]] = {
    'presence': _YES_NO,
    'count': _BINS,
    'comp': _YES_NO,
    'area': _BINS,
    'rural_urban': ('rural', 'urban'),
}
"""Classes of answers that are balanced, per type; numbers are binned as in RSVQA."""


@dataclass(frozen=True)
class QuestionBalance:
    """Number of questions per type, and which answers are balanced.

    Attributes:
        shares: weight of each type; types without a weight are not asked.
        level: which answers are balanced, see `Level`.
        place: whether the first question is if the area is rural or urban.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(TYPES, 1.0))
    level: Level = 'questions'
    place: bool = False

    def quotas(self, count: int) -> dict[str, int]:
        """Number of questions per type, adding up to `count`, by largest remainders; ties by order."""
        total = sum(self.shares.values())
        exact = {name: count * share / total for name, share in self.shares.items()}
        quotas = {name: int(value) for name, value in exact.items()}
        left = sorted(exact, key=lambda name: (quotas[name] - exact[name], TYPES.index(name)))
        for name in left[: count - sum(quotas.values())]:
            quotas[name] += 1
        return quotas


def parse_balance(text: str) -> QuestionBalance:
    """Parse a balance: a level, weights of types, or both, as in 'answers,presence=2,count=1'.

    Raises:
        UsageError: if the text is none of these.
    """
    parts = [part.strip() for part in text.split(',')]
    levels: tuple[Level, ...] = get_args(Level)
    level: Level = QuestionBalance.level
    if parts[0] in levels:
        level = levels[levels.index(parts.pop(0))]
    if not parts:
        return QuestionBalance(level=level)
    shares: dict[str, float] = {}
    for part in parts:
        name, _, number = part.partition('=')
        try:
            shares[name.strip()] = float(number)
        except ValueError:
            shares[name.strip()] = -1.0
    drawn = {name: share for name, share in shares.items() if share > 0}
    wrong = [name for name, share in shares.items() if name not in TYPES or not 0 <= share < float('inf')]
    if wrong or not drawn:
        raise UsageError(
            f'balance has to be {", ".join(map(repr, levels))}, or weights of {", ".join(TYPES)} such as '
            f"'presence=2,count=1', not {text!r}"
        )
    return QuestionBalance(drawn, level)


def answer_class(kind: str, answer: str) -> str:
    """The class of a raw answer, see `ANSWERS`."""
    if kind not in ('count', 'area'):
        return answer
    number = int(answer.removesuffix('m2'))
    return next((name for name, most in zip(_BINS, BOUNDS, strict=False) if number <= most), _BINS[-1])
