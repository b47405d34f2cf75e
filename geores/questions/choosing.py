"""Which question to ask of which tile, so that the answers of each question come equally often.

A question is asked of a tile where one answer is right together with another tile where another is, as often
as it can be. Within a tile answers above "no", "0" and "rural" are at most two more or less than these, type
by type. So neither the words of a question nor the tile alone tell the answer. What room is left goes to
questions asked once more, so that the answers of a question differ by at most one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from geores.questions.balance import BOUNDS, TYPES, QuestionBalance
from geores.questions.facts import URBAN, comparison_holds
from geores.questions.forms import Area, Count, Form, Objects, Presence, RuralUrban
from geores.questions.pool import Pool, TileSurvey

__all__ = ['ChosenQuestion', 'choose_questions']

Classes = NDArray[np.int8]
SHARES = (0.5, 0.8, 1.0)
"""Of the questions of a type, those without, then those with a size or shape, then those with a relation, of
which there are most: released questions have an attribute in two of five, and few relations (spec 2.3)."""
LEAN = 2
"""Most by which answers of a type differ in a tile."""
AT_MOST = 8
"""A question is given at most this part of all tiles before the next one has its turn."""


@dataclass(frozen=True)
class ChosenQuestion:
    """A question for a tile.

    Attributes:
        form: of the question.
        turn: of the form with such an answer, from 0: questions of one turn are worded alike.
    """

    form: Form
    turn: int


def choose_questions(
    pool: Pool,
    surveys: Sequence[TileSurvey],
    kilometres: Sequence[float],
    count: int,
    balance: QuestionBalance,
    rng: Random,
) -> list[list[ChosenQuestion]]:
    """Choose what is asked of each tile of a part of a dataset.

    Args:
        pool: what may be asked of.
        surveys: of the T tiles, in order.
        kilometres: (T,), square kilometres.
        count: questions wanted a tile; fewer where answers cannot be balanced otherwise.
        balance: of the types.
        rng: decides between equals.

    Returns:
        (T,), questions of each tile, type by type; none twice.
    """
    quotas = balance.quotas(count - balance.place)
    tables = _tables(pool, surveys, kilometres)
    rooms = ({'rural_urban': 1} if balance.place else {}) | quotas
    choosers = {kind: _Chooser(*tables[kind], rng) for kind in rooms}
    for kind, room in rooms.items():
        choosers[kind].fill(np.full(len(surveys), room))
    # What a type could not fill goes to the others, in turn.
    for kind in quotas:
        left = count - sum(one.used for one in choosers.values())
        choosers[kind].fill(choosers[kind].used + left)
    order = [kind for kind in ('rural_urban', *TYPES) if kind in choosers]
    return [[one for kind in order for one in choosers[kind].of(tile)] for tile in range(len(surveys))]


Table = tuple[list[Form], Classes, NDArray[np.bool_]]
"""F forms; (F, T), class of the answer, 0 for no, 0 and rural; (F, T), whether to ask."""


def _tables(pool: Pool, surveys: Sequence[TileSurvey], kilometres: Sequence[float]) -> Mapping[str, Table]:
    """Answers of all tiles to all questions, by type."""
    counted, seen, covered, sensible = (
        np.stack([getattr(one, name) for one in surveys], axis=1)
        for name in ('counted', 'seen', 'areas', 'sensible')
    )
    areas = [index for index, one in enumerate(pool.objects) if one.category not in pool.lines]
    place = {one: index for index, one in enumerate(pool.objects)}
    pairs = [(counted[place[form.first]], counted[place[form.second]]) for form in pool.comparisons]
    holds: list[NDArray[np.bool_]] = [
        np.asarray(comparison_holds(form.choice, *pair))
        for form, pair in zip(pool.comparisons, pairs, strict=True)
    ]
    # Where parts alone are seen that are too little to count, "is there" has no clear answer.
    clear = sensible & ((counted > 0) | (seen == 0))
    # Nothing to be seen of either side is no comparison.
    either: list[NDArray[np.bool_]] = [(first > 0) | (second > 0) for first, second in pairs]
    buildings = counted[[place[one] for one in (Objects('building'),) if one in place]].sum(axis=0)
    urban = buildings > URBAN * np.asarray(kilometres)
    tiles = len(surveys)
    return {
        'presence': ([Presence(one) for one in pool.objects], (counted > 0).astype(np.int8), clear),
        'count': ([Count(one) for one in pool.objects], _bins(counted), sensible),
        'comp': (list(pool.comparisons), _rows(holds, tiles).astype(np.int8), _rows(either, tiles)),
        'area': (
            [Area(pool.objects[index]) for index in areas],
            covered[areas].astype(np.int8),
            sensible[areas],
        ),
        'rural_urban': ([RuralUrban()], urban[None].astype(np.int8), np.ones((1, tiles), bool)),
    }


def _rows(rows: Sequence[NDArray[np.bool_]], tiles: int) -> NDArray[np.bool_]:
    return np.array(rows, bool).reshape(-1, tiles)


def _bins(numbers: NDArray[np.int64]) -> Classes:
    return np.searchsorted(BOUNDS, numbers).astype(np.int8)


def _wordy(form: Form) -> int:
    """0 of plain objects, 1 with a size or shape, 2 with a relation."""
    parts = list(form.parts())
    return 2 * any(one.relation for one in parts) or int(any(one.size or one.shape for one in parts))


class _Chooser:
    """Chooses questions of one type.

    Attributes:
        used: (T,), questions of each tile.
    """

    def __init__(
        self, forms: Sequence[Form], classes: Classes, clear: NDArray[np.bool_], rng: Random
    ) -> None:
        self.forms, self.classes, self.clear, self.rng = forms, classes, clear.copy(), rng
        tiles = clear.shape[1]
        self.used = np.zeros(tiles, np.int64)
        self._leaning = np.zeros(tiles, np.int64)  # answers above class 0 less those of class 0
        self._turns = np.full(clear.shape, -1, np.int32)
        self._tie = np.array(rng.sample(range(tiles), tiles))
        self._single = np.zeros(len(forms), bool)

    def fill(self, room: NDArray[np.int64]) -> None:
        """Ask of each tile until it has ``room`` (T,) questions, where answers allow."""
        for wordy, share in enumerate(SHARES):
            order = [index for index, form in enumerate(self.forms) if _wordy(form) <= wordy]
            self._fill(order, np.ceil(share * room).astype(np.int64))
        self.rng.shuffle(order)
        for index in order:
            self._once_more(index, room)

    def _fill(self, order: list[int], room: NDArray[np.int64]) -> None:
        most, grown = 1, True
        while grown:
            self.rng.shuffle(order)
            grown = sum(self._together(index, room, most) for index in order) > 0
            most = min(2 * most, max(1, len(room) // AT_MOST))

    def of(self, tile: int) -> list[ChosenQuestion]:
        """The questions of a tile, in an order that tells nothing."""
        found = [
            ChosenQuestion(self.forms[index], int(self._turns[index, tile]))
            for index in np.flatnonzero(self._turns[:, tile] >= 0).tolist()
        ]
        self.rng.shuffle(found)
        return found

    def _together(self, index: int, room: NDArray[np.int64], most: int) -> bool:
        """Ask one question equally often with two answers or more; whether there was a place for it."""
        free = self._free(index, room)
        answers = self.classes[index, free]
        if not len(free) or (answers == answers[0]).all():
            return False
        tiles = [free[answers == answer][:most] for answer in np.unique(answers)]
        equal = sorted(map(len, tiles))[-2]  # none more often than the second most frequent
        for group in tiles:
            self._ask(index, group[:equal])
        return True

    def _once_more(self, index: int, room: NDArray[np.int64]) -> None:
        """Ask one question of one more tile, once."""
        free = self._free(index, room)
        if len(free) and not self._single[index]:
            self._single[index] = True
            self._ask(index, free[:1])

    def _free(self, index: int, room: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tiles that one question may still be asked of: first those that lack its answer, or questions."""
        tiles = np.flatnonzero(self.clear[index] & (self.used < room))
        leaning = np.where(self.classes[index, tiles] > 0, 1, -1) * self._leaning[tiles]
        tiles, leaning = tiles[leaning < LEAN], leaning[leaning < LEAN]
        tie = (self._tie[tiles] + 37 * index) % len(room)  # not the same tiles first for every question
        return tiles[np.lexsort((tie, self.used[tiles], leaning))]

    def _ask(self, index: int, tiles: NDArray[np.int64]) -> None:
        """Ask one question of some tiles that answer alike."""
        answer = self.classes[index, tiles[0]]
        before = np.count_nonzero((self._turns[index] >= 0) & (self.classes[index] == answer))
        self._turns[index, tiles] = before + np.arange(len(tiles))
        self.clear[index, tiles] = False
        self.used[tiles] += 1
        self._leaning[tiles] += 1 if answer > 0 else -1
