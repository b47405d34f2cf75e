"""Assign questions to the tiles of a dataset so that every question is balanced over its answers.

Questions are assigned to groups of tiles with different answers, the same number of tiles per answer.
Within a tile and type, the numbers of negative answers ("no", "0", "rural") and of others differ by at most
two. So neither the words of a question nor the tile alone predict the answer. The remaining room is filled
by assigning questions to one more tile each, so that the answers of a question differ by at most one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from geores.questions.facts import BOUNDS, TYPES, URBAN, QuestionBalance, comparison_holds
from geores.questions.forms import Area, Count, Form, Objects, Presence, RuralUrban
from geores.questions.tile_questions import Pool, TileSurvey

__all__ = ['ChosenQuestion', 'choose_questions']

Classes = NDArray[np.int8]
SHARES = (0.5, 0.8, 1.0)
"""Cumulative shares of the questions of a type: plain ones first, then those with a size or shape, then
those with a relation. The pool holds mostly relations, but in the released RSVQA sets (Lobry et al. 2020)
two of five questions have an attribute and few have a relation."""
LEAN = 2
"""Maximum difference between negative and other answers of a type in a tile."""
AT_MOST = 8
"""A question gets at most 1 / `AT_MOST` of all tiles before the next one has its turn."""


@dataclass(frozen=True)
class ChosenQuestion:
    """A question assigned to a tile.

    Attributes:
        form: the question.
        turn: how often the form was assigned with this answer before; the same turn of another answer gets
            the same wording.
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
    """Assign questions to the tiles of one part of a dataset.

    Args:
        pool: the objects and comparisons that may be asked about.
        surveys: what each of the T tiles holds, in order.
        kilometres: area of each tile in square kilometres, (T,).
        count: number of questions wanted per tile; fewer if answers cannot be balanced otherwise.
        balance: balance of the types.
        rng: random generator for ties.

    Returns:
        One list of questions per tile, sorted by type, without duplicates.
    """
    quotas = balance.quotas(count - balance.place)
    tables = _tables(pool, surveys, kilometres)
    rooms = ({'rural_urban': 1} if balance.place else {}) | quotas
    choosers = {kind: _Chooser(*tables[kind], rng) for kind in rooms}
    for kind, room in rooms.items():
        choosers[kind].fill(np.full(len(surveys), room))
    # The questions that a type could not fill go to the other types, in turn.
    for kind in quotas:
        left = count - sum(one.used for one in choosers.values())
        choosers[kind].fill(choosers[kind].used + left)
    order = [kind for kind in ('rural_urban', *TYPES) if kind in choosers]
    return [[one for kind in order for one in choosers[kind].of(tile)] for tile in range(len(surveys))]


Table = tuple[list[Form], Classes, NDArray[np.bool_]]
"""F forms; class of the answer per form and tile, (F, T), 0 if negative; whether it may be asked, (F, T)."""


def _tables(pool: Pool, surveys: Sequence[TileSurvey], kilometres: Sequence[float]) -> Mapping[str, Table]:
    """Answers to all questions in all tiles, by type."""
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
    # Where only parts of objects lie inside that are too small to count, presence is not clear.
    clear = sensible & ((counted > 0) | (seen == 0))
    # A comparison needs an object on at least one side.
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
    """The bin of each number, 0 for none."""
    return np.searchsorted(BOUNDS, numbers).astype(np.int8)


def _wordy(form: Form) -> int:
    """0 for plain objects, 1 with a size or shape, 2 with a relation."""
    parts = list(form.parts())
    return 2 * any(one.relation for one in parts) or int(any(one.size or one.shape for one in parts))


class _Chooser:
    """Assigns the questions of one type.

    A greedy assignment in rounds. Each round goes through the questions in random order and gives every
    question to equally many tiles per answer. The number of tiles per answer doubles with each round, up to
    1 / `AT_MOST` of the tiles: early rounds spread the tiles over many questions, and later ones fill up.

    Attributes:
        used: number of questions per tile, (T,).
    """

    def __init__(
        self, forms: Sequence[Form], classes: Classes, clear: NDArray[np.bool_], rng: Random
    ) -> None:
        self.forms, self.classes, self.clear, self.rng = forms, classes, clear.copy(), rng
        tiles = clear.shape[1]
        self.used = np.zeros(tiles, np.int64)
        self._leaning = np.zeros(tiles, np.int64)  # other answers minus negative ones
        self._turns = np.full(clear.shape, -1, np.int32)
        self._tie = np.array(rng.sample(range(tiles), tiles))
        self._single = np.zeros(len(forms), bool)

    def fill(self, room: NDArray[np.int64]) -> None:
        """Assign questions until each tile has `room` (T,) of them, as far as the balance allows."""
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
        """The questions of a tile, in random order."""
        found = [
            ChosenQuestion(self.forms[index], int(self._turns[index, tile]))
            for index in np.flatnonzero(self._turns[:, tile] >= 0).tolist()
        ]
        self.rng.shuffle(found)
        return found

    def _together(self, index: int, room: NDArray[np.int64], most: int) -> bool:
        """Assign one question to tiles with balanced answers. Returns whether any tile had room."""
        free = self._free(index, room)
        answers = self.classes[index, free]
        if not len(free) or (answers == answers[0]).all():
            return False
        tiles = [free[answers == answer][:most] for answer in np.unique(answers)]
        equal = sorted(map(len, tiles))[-2]  # the second most frequent answer limits all
        for group in tiles:
            self._ask(index, group[:equal])
        return True

    def _once_more(self, index: int, room: NDArray[np.int64]) -> None:
        """Assign one question to a single further tile; at most once per question."""
        free = self._free(index, room)
        if len(free) and not self._single[index]:
            self._single[index] = True
            self._ask(index, free[:1])

    def _free(self, index: int, room: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tiles that a question may still be assigned to.

        First come tiles whose balance its answer improves, then tiles with few questions.
        """
        tiles = np.flatnonzero(self.clear[index] & (self.used < room))
        leaning = np.where(self.classes[index, tiles] > 0, 1, -1) * self._leaning[tiles]
        tiles, leaning = tiles[leaning < LEAN], leaning[leaning < LEAN]
        tie = (self._tie[tiles] + 37 * index) % len(room)  # ties in another order for every question
        return tiles[np.lexsort((tie, self.used[tiles], leaning))]

    def _ask(self, index: int, tiles: NDArray[np.int64]) -> None:
        """Assign one question to tiles that have the same answer."""
        answer = self.classes[index, tiles[0]]
        before = np.count_nonzero((self._turns[index] >= 0) & (self.classes[index] == answer))
        self._turns[index, tiles] = before + np.arange(len(tiles))
        self.clear[index, tiles] = False
        self.used[tiles] += 1
        self._leaning[tiles] += 1 if answer > 0 else -1
