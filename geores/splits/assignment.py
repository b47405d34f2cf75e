"""Assign rows, or whole groups of rows, to parts with given fractions and balanced labels.

Rows and groups are processed in the order of a hash, so that the result does not depend on the machine or
on the order of the rows. The result is a `Partition`, whose id names the split.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError
from geores.splits.stratified import digest

__all__ = [
    'DROPPED',
    'FORMER',
    'LEFT_OUT',
    'PARTS',
    'PartCounts',
    'Partition',
    'assign_groups',
    'assign_rows',
    'check_fractions',
    'hash_order',
    'part_name',
    'split_id',
]

PARTS = ('train', 'val', 'test')
"""Names of the parts, in the order of fractions."""
FORMER = {'validation': 'val'}
"""Names of parts of geores 0.1, which are understood for one more version."""
_ALIASES = FORMER | {'valid': 'val', 'dev': 'val', 'training': 'train', 'testing': 'test', 'none': 'dropped'}
DROPPED = 'dropped'
"""Name of the rows that are in no part."""
LEFT_OUT = -1
"""Code of rows that are in no part."""


def part_name(text: str) -> str:
    """The name of a part as geores writes it, of one that people and other tools write.

    Args:
        text: such as 'validation', 'Training' or 'val'; what is no part stays as it is.
    """
    name = text.strip().lower()
    name = _ALIASES.get(name, name)
    return name if name in {*PARTS, DROPPED} else text


class PartCounts(dict[str, int]):
    """Number of rows per part; a part's former name warns."""

    def __missing__(self, name: str) -> int:
        """The number of a part by its former name."""
        if name not in FORMER:
            raise KeyError(name)
        return self[_renamed(name)]


def _renamed(name: str) -> str:
    if name in FORMER:
        warnings.warn(f'part {name!r} is called {FORMER[name]!r} now', DeprecationWarning, stacklevel=3)
    return FORMER.get(name, name)


@dataclass(frozen=True)
class Partition:
    """A split of rows into training, validation and test.

    Attributes:
        codes: (N,) int8, index into `PARTS` per row, -1 for dropped rows.
        groups: (N,) int64, number of the cell, cluster or region per row, -1 for rows outside all of them.
        id: id of the split, as `split_id` makes it.
    """

    codes: NDArray[np.int8]
    groups: NDArray[np.int64]
    id: str

    @property
    def names(self) -> NDArray[np.object_]:
        """Part of each row, (N,): 'train', 'val', 'test' or 'dropped'."""
        return np.array([*PARTS, DROPPED], object)[self.codes]

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows per part, dropped rows included."""
        counted = np.bincount(self.codes + 1, minlength=len(PARTS) + 1).tolist()
        return PartCounts(zip((*PARTS, DROPPED), (*counted[1:], counted[0]), strict=True))

    def rows(self, part: str) -> NDArray[np.int64]:
        """Indices of the rows of a part."""
        part = _renamed(part)
        code = LEFT_OUT if part == DROPPED else PARTS.index(part)
        return np.flatnonzero(self.codes == code)


def check_fractions(fractions: Sequence[float]) -> NDArray[np.float64]:
    """Validate the fractions of a split and complete them to three.

    Args:
        fractions: fractions of (train, test) or of (train, val, test).

    Returns:
        (3,), fractions of train, validation and test.

    Raises:
        DatasetError: if there are not two or three fractions, one is out of range, the training fraction is
            0, or they do not sum to 1.
    """
    told = ','.join(f'{one:g}' for one in fractions)
    if len(fractions) not in (2, 3):
        raise DatasetError(f'fractions are of train,test or train,val,test, not {told!r}')
    if not all(math.isfinite(one) and 0 <= one < 1 for one in fractions):
        raise DatasetError(f'fractions have to be from 0 to below 1, not {told}')
    if abs(sum(fractions) - 1) > 1e-6:
        raise DatasetError(f'fractions have to sum to 1, but {told} sum to {sum(fractions):g}')
    if fractions[0] == 0:
        raise DatasetError(f'the fraction of train has to be above 0, not {told}')
    wanted = fractions if len(fractions) == 3 else (fractions[0], 0.0, fractions[1])
    return np.asarray(wanted, np.float64)


def split_id(title: str, ids: Sequence[str], names: Sequence[str]) -> str:
    """Make the id of a split: how it was made, and a hash of which row is in which part."""
    # Ids are those of geores 0.1, where the part had its former name.
    former = {new: old for old, new in FORMER.items()}
    told = '\n'.join(sorted(f'{one}\t{former.get(part, part)}' for one, part in zip(ids, names, strict=True)))
    return f'{title}-{digest(told)[:12]}'


ABSENT = 10.0
"""Cost of a label that is missing from a part although enough groups have it."""
SWEEPS = 20
"""Maximum number of passes over all groups."""
PARTNERS = 256
"""Number of other groups that a group may be swapped with per pass."""
MANY = 20_000
"""With more groups than this each is so small that placing them greedily is good enough."""
_DIGITS = 12
"""Decimals that costs are rounded to, so that machines agree on ties."""


def hash_order(keys: Sequence[object], seed: int) -> NDArray[np.int64]:
    """Order keys by a hash of seed and key."""
    hashes = [digest(f'{seed}:{key}') for key in keys]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), np.int64)


def assign_rows(
    order: NDArray[np.int64], labels: NDArray[np.bool_], fractions: NDArray[np.float64]
) -> NDArray[np.int8]:
    """Assign rows to parts one by one: sizes of parts are exact to a row, and labels are nearly balanced.

    Rows are sorted by their labels, rare labels first, and each row goes to the part that lacks the most.

    Args:
        order: (N,) of the rows, such as that of `hash_order`.
        labels: (N, K).
        fractions: (P,), which sum to 1.

    Returns:
        (N,): part of each row.
    """
    labels = labels[order]
    rare_last = np.argsort(-labels.sum(axis=0), kind='stable')
    order = order[np.lexsort(labels[:, rare_last].T)[::-1]] if labels.shape[1] else order
    parts = np.empty(len(order), np.int8)
    wanted, lacking = fractions.tolist(), [0.0] * len(fractions)
    for row in order.tolist():
        lacking = [one + share for one, share in zip(lacking, wanted, strict=True)]
        part = lacking.index(max(lacking))
        lacking[part] -= 1
        parts[row] = part
    return parts


def assign_groups(
    names: Sequence[object], counts: NDArray[np.int64], fractions: NDArray[np.float64], seed: int
) -> NDArray[np.int8]:
    """Assign whole groups to parts, so that each part gets about its fraction of rows and of each label.

    Groups are placed greedily; then single groups move and pairs swap as long as that brings the parts
    closer to their fractions (local search).

    Args:
        names: unique names of the groups.
        counts: (G, 1 + K): rows of each group, and rows with each label.
        fractions: (P,), which sum to 1.
        seed: random seed.

    Returns:
        (G,): part of each group.

    Raises:
        DatasetError: if there are fewer groups than parts.
    """
    used = np.flatnonzero(fractions > 0)
    if len(names) < len(used):
        raise DatasetError(
            f'{len(names)} places are too few for {len(used)} parts: choose smaller blocks, more clusters '
            'or regions, or fewer parts'
        )
    order = hash_order(names, seed)
    search = _Search(counts[order].astype(np.float64), fractions[used])
    search.place()
    for _ in range(SWEEPS if len(names) <= MANY else 0):
        if not search.sweep():
            break
    parts = np.empty(len(names), np.int8)
    parts[order] = used[search.parts]
    return parts


class _Search:
    """Local search for an assignment of groups to parts."""

    def __init__(self, counts: NDArray[np.float64], fractions: NDArray[np.float64]) -> None:
        self.counts = counts
        self.shares = fractions
        self.total = np.maximum(counts.sum(axis=0), 1)
        # A label in fewer groups than there are parts cannot be in all of them.
        self.needed = (counts > 0).sum(axis=0) >= len(fractions)
        self.weights = np.ones(counts.shape[1])
        self.weights[0] = max(1, counts.shape[1] - 1)  # sizes of parts count as much as all labels together
        self.inside = np.zeros((len(fractions), counts.shape[1]))
        self.parts = np.zeros(len(counts), np.int64)

    def cost(self, inside: NDArray[np.float64], part: int) -> NDArray[np.float64]:
        """Cost (...,) of a part that holds these numbers of rows and labels, (..., 1 + K)."""
        off = (inside / self.total - self.shares[part]) ** 2 @ self.weights
        return np.asarray(off + ABSENT * ((inside == 0) & self.needed).sum(axis=-1))

    def place(self) -> None:
        """Place each group in the part that lacks the most, relative to its fraction."""
        for group, count in enumerate(self.counts):
            lacking = (self.shares[:, None] * self.total - self.inside) / self.total / self.shares[:, None]
            gain = np.round(lacking @ (self.weights * count / self.total), _DIGITS)
            self._put(group, int(gain.argmax()))

    def sweep(self) -> bool:
        """Try to move or swap every group. Returns whether any changed its part."""
        moved = False
        for group in range(len(self.counts)):
            moved |= self._improve(group)
        return moved

    def _improve(self, group: int) -> bool:
        """Make the best move or swap of a group. Returns whether there was one."""
        mine = int(self.parts[group])
        partners = (group + 1 + np.arange(min(PARTNERS, len(self.parts) - 1))) % len(self.parts)
        now = [float(self.cost(self.inside[part], part)) for part in range(len(self.shares))]
        best: tuple[float, int, int | None] = (-1e-9, mine, None)
        for part in range(len(self.shares)):
            if part == mine:
                continue
            others = partners[self.parts[partners] == part]
            shift = self.counts[group] - np.vstack([np.zeros(len(self.total)), self.counts[others]])
            change = self.cost(self.inside[mine] - shift, mine) + self.cost(self.inside[part] + shift, part)
            change = np.round(change - now[mine] - now[part], _DIGITS)
            lowest = int(change.argmin())
            if change[lowest] < best[0]:
                best = (float(change[lowest]), part, int(others[lowest - 1]) if lowest else None)
        if best[1] == mine:
            return False
        if best[2] is not None:
            self._take(best[2])
            self._put(best[2], mine)
        self._take(group)
        self._put(group, best[1])
        return True

    def _put(self, group: int, part: int) -> None:
        self.parts[group] = part
        self.inside[part] += self.counts[group]

    def _take(self, group: int) -> None:
        self.inside[self.parts[group]] -= self.counts[group]
