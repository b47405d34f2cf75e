"""Pairs of an id and a number on disk, looked up by id in constant memory (a hash join)."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ['Buckets', 'Table']

Numbers = NDArray[np.int64]

PAIRS_AT_ONCE = 2**17
"""Number of pairs that are written or read together: 2 MiB."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio (Knuth: The Art of Computer Programming 3, 2nd ed. 1998, section 6.4)."""


class Table(NamedTuple):
    """Numbers by id in memory.

    Attributes:
        ids: sorted ids, (N,); if an id occurs twice, its first number counts.
        values: number of each id, (N,).
    """

    ids: Numbers
    values: Numbers

    def find(self, ids: Numbers, default: int) -> Numbers:
        """The number of each id, (N,), or the default if it is missing."""
        if not len(self.ids):
            return np.full(len(ids), default, np.int64)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, self.values[place], default)


class Buckets:
    """Pairs of an id and a number, distributed over files by a hash of the id.

    Two sets of pairs with the same number of files can be joined file by file, each read once, whatever the
    order of the ids (Shapiro, ACM TODS 11 (3), 1986, section 3).

    Args:
        folder: folder to create for the files.
        count: number of files; one of them is in memory at a time.
    """

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self._paths = [folder / str(place) for place in range(count)]
        self._waiting: list[Numbers] = []

    def __len__(self) -> int:
        """Number of files."""
        return len(self._paths)

    def add(self, ids: Numbers, values: Numbers) -> None:
        """Append pairs.

        Args:
            ids: ids, (N,).
            values: number of each id, (N,).

        Raises:
            OSError: if the disk is full.
        """
        self._waiting.append(np.stack([ids, values], axis=1))
        if sum(map(len, self._waiting)) >= PAIRS_AT_ONCE:
            self.write()

    def write(self) -> None:
        """Write buffered pairs; has to be called before reading."""
        rows = np.concatenate([np.empty((0, 2), np.int64), *self._waiting])
        self._waiting = []
        for place, chosen in self._places(rows[:, 0]):
            with self._paths[place].open('ab') as file:
                rows[chosen].tofile(file)

    def read(self, place: int) -> Iterator[Numbers]:
        """Iterate over the pairs of one file in the order of writing, (N, 2) at a time."""
        if self._paths[place].exists():
            with self._paths[place].open('rb') as file:
                while len(rows := np.fromfile(file, np.int64, 2 * PAIRS_AT_ONCE)):
                    yield rows.reshape(-1, 2)

    def table(self, place: int) -> Table:
        """All pairs of one file."""
        rows = np.concatenate([np.empty((0, 2), np.int64), *self.read(place)])
        return Table(*rows[np.argsort(rows[:, 0], kind='stable')].T.copy())

    def find(self, ids: Numbers, default: int) -> Numbers:
        """The number of each id, (N,), or the default if it is missing."""
        found = np.empty(len(ids), np.int64)
        for place, chosen in self._places(ids):
            found[chosen] = self.table(place).find(ids[chosen], default)
        return found

    def _places(self, ids: Numbers) -> Iterator[tuple[int, Numbers]]:
        """Each file to which some of the ids belong, with the positions of these ids."""
        places = (ids.astype(np.uint64) * SPREAD >> np.uint64(32)) % np.uint64(len(self._paths))
        order = np.argsort(places, kind='stable')
        for chosen in np.split(order, np.flatnonzero(np.diff(places[order])) + 1):
            if len(chosen):
                yield int(places[chosen[0]]), chosen
