"""The streaming engine: read chunks, run tiles through a step, keep what the sinks make of them.

Knows no network and no task: a step is any function from a batch of tiles to named arrays.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geores.inference.plan import AnyPlan, Chunk
from geores.inference.reader import Arrays, ChunkStore, MemoryStore
from geores.inference.region import Placement, Reader, Region, cut_tiles, places_of, read_region, valid_tiles

__all__ = [
    'ChunkWork',
    'LazyStore',
    'Reader',
    'Region',
    'Sink',
    'Step',
    'run',
    'tiles_of',
]

AHEAD_ON_DEVICE = 4
"""Regions that are read ahead of those that are computed, at most, where they are sent to a device."""

T = TypeVar('T')
R = TypeVar('R')

Step = Callable[[Any], Mapping[str, NDArray[Any]]]
"""Maps tiles (N, C, height, width) in the model's units to named arrays of N entries each.

The tiles are the step's own: it may write over them. They are float32 of numpy, and, where regions are sent
to devices, `geores.runtime.base.PlacedTiles`.
"""


@runtime_checkable
class RegionStep(Protocol):
    """A step that is given a whole region instead of batches of its tiles."""

    def of_region(self, values: NDArray[np.float32], places: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
        """Compute named arrays of n entries of the tiles at `places`, (n, 2), top and left in the region."""


@runtime_checkable
class RevisingStep(Protocol):
    """A step that may ask for some tiles of a region again, to compute them otherwise."""

    revises: bool

    def doubtful(self, arrays: Arrays) -> NDArray[np.bool_]:
        """Tell the tiles that are to be computed again by what was computed of them, (N,)."""

    def revise(self, tiles: Any) -> Mapping[str, NDArray[Any]]:  # noqa: ANN401 - as `Step`
        """Compute named arrays of tiles otherwise, which are the step's own, as `Step` describes them."""


@dataclass(frozen=True)
class Batch:
    """Tiles that go through the step together.

    Attributes:
        region: their pixels.
        tiles: row and column of each, (n, 2), row-major.
        last: whether it is the region's last batch.
    """

    region: Region
    tiles: NDArray[np.int64]
    last: bool


class Sink(Protocol):
    """Turns a chunk's outputs into the arrays that are kept of it."""

    def reduce(self, plan: AnyPlan, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> Arrays:
        """Arrays to keep.

        Args:
            plan: the plan.
            region: the pixels.
            tiles: row and column of each tile that went through the step, (n, 2), row-major.
            outputs: the step's arrays, n entries each; empty where n is 0.
        """


@dataclass(frozen=True)
class ChunkWork:
    """Reads a chunk, runs the step on its tiles and keeps the results; safe to call from many threads.

    Attributes:
        plan: the chunks.
        reader: gives the pixels.
        step: what is computed of each batch of tiles.
        sinks: what is kept of the results.
        fill: value of invalid pixels in each band; 0 where not given.
        placement: sends regions to devices as they are stored, for steps that take `PlacedTiles`; where not
            given, tiles are cut here.
    """

    plan: AnyPlan
    reader: Reader
    step: Step
    sinks: Sequence[Sink]
    fill: Sequence[float] | None = None
    placement: Placement | None = None

    def read(self, chunk: Chunk) -> Region:
        """Read the pixels."""
        return read_region(self.plan, self.reader, chunk, self.fill, self.placement)

    def batches(self, region: Region) -> list[Batch]:
        """Cut the region's tiles into batches of about one size; one empty batch where it has none."""
        tiles = valid_tiles(self.plan, region)
        whole = isinstance(self.step, RegionStep)
        count = 1 if whole else max(1, -(-len(tiles) // self.plan.batch_size))
        parts = np.array_split(tiles, count)
        return [Batch(region, part, last=i == count) for i, part in enumerate(parts, start=1)]

    def compute(self, batch: Batch) -> tuple[Batch, Arrays]:
        """Run one batch through the step."""
        if not len(batch.tiles):
            return batch, {}
        if isinstance(self.step, RegionStep):
            return batch, self.step.of_region(
                batch.region.values, places_of(self.plan, batch.region, batch.tiles)
            )
        return batch, self.step(cut_tiles(self.plan, batch.region, batch.tiles))

    @property
    def revises(self) -> bool:
        """Whether regions are looked at once more when all their batches are computed."""
        return isinstance(self.step, RevisingStep) and self.step.revises

    def revise(self, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> None:
        """Compute tiles again that the step asks for; `outputs` is changed.

        In batches of one region's tiles, so that nothing depends on who computes the other regions.
        """
        if not (isinstance(self.step, RevisingStep) and self.step.revises and len(tiles)):
            return
        again = np.flatnonzero(self.step.doubtful(outputs))
        for part in np.array_split(again, -(-len(again) // self.plan.batch_size) or 1):
            if len(part):
                exact = self.step.revise(cut_tiles(self.plan, region, tiles[part]))
                for name, array in exact.items():
                    outputs[name][part] = array

    def reduce(self, computed: Sequence[tuple[Batch, Arrays]]) -> Arrays:
        """Reduce all batches of a region to the arrays that the sinks keep."""
        region = computed[0][0].region
        tiles = np.concatenate([batch.tiles for batch, _ in computed])
        outputs = {name: np.concatenate([arrays[name] for _, arrays in computed]) for name in computed[0][1]}
        self.revise(region, tiles, outputs)
        kept = [sink.reduce(self.plan, region, tiles, outputs) for sink in self.sinks]
        return {name: array for arrays in kept for name, array in arrays.items()}

    def whole(self, chunk: Chunk) -> Arrays:
        """Read, compute and reduce one chunk, in this thread."""
        return self.reduce([self.compute(batch) for batch in self.batches(self.read(chunk))])


def run(
    work: ChunkWork,
    store: ChunkStore,
    *,
    only: Collection[int] | None = None,
    readers: int = 2,
    computers: int = 1,
    on_start: Callable[[int], None] = lambda tiles: None,
    on_chunk: Callable[[int], None] = lambda tiles: None,
) -> None:
    """Work through every chunk of a plan that the store does not hold yet.

    Memory holds a few chunks at a time. Results do not depend on the number of threads.

    Args:
        work: what is done with each chunk.
        store: where the results are kept.
        only: indices of the chunks to work through; all where not given.
        readers: threads that read.
        computers: threads that compute.
        on_start: called with the number of tiles that the store holds already.
        on_chunk: called with the number of tiles of each chunk as it is finished.

    Raises:
        ReadError: if a source could not be read. Chunks finished before stay in the store.
        WriteError: if the store could not be written.
    """
    done = store.done()
    wanted = [chunk for chunk in work.plan if only is None or chunk.index in only]
    on_start(sum(_tiles(chunk) for chunk in wanted if chunk.index in done))
    todo = (chunk for chunk in wanted if chunk.index not in done)
    with ThreadPoolExecutor(readers) as read_pool, ThreadPoolExecutor(computers) as compute_pool:
        # On a device what was read ahead takes its memory, however many cores read.
        ahead = readers if work.placement is None else min(readers, AHEAD_ON_DEVICE)
        regions = _ordered(read_pool, work.read, todo, ahead=ahead)
        batches = (batch for region in regions for batch in work.batches(region))
        computed = _by_region(_ordered(compute_pool, work.compute, batches, ahead=computers))
        if work.revises:  # work of the network, beside the batches of the next regions
            reduced = _ordered(compute_pool, lambda one: (one, work.reduce(one)), computed, ahead=1)
        elif work.placement is not None:  # this thread alone would not keep up with a device
            reduced = _ordered(read_pool, lambda one: (one, work.reduce(one)), computed, ahead=1)
        else:
            reduced = ((one, work.reduce(one)) for one in computed)
        for of_chunk, arrays in reduced:
            chunk = of_chunk[0][0].region.chunk
            store.put(chunk.index, arrays)
            on_chunk(_tiles(chunk))


def _by_region(computed: Iterable[tuple[Batch, Arrays]]) -> Iterator[list[tuple[Batch, Arrays]]]:
    """Gather the batches of each region."""
    of_region: list[tuple[Batch, Arrays]] = []
    for batch, outputs in computed:
        of_region.append((batch, outputs))
        if batch.last:
            yield of_region
            of_region = []


class LazyStore(MemoryStore):
    """Holds each chunk in memory once it has been asked for; safe to read from many threads.

    Args:
        work: reads and computes a chunk.
    """

    def __init__(self, work: ChunkWork) -> None:
        super().__init__()
        self._work = work
        self._locks = [Lock() for _ in range(len(work.plan))]

    def get(self, index: int) -> Arrays:
        """Give a chunk, computed where it is not held yet."""
        with self._locks[index]:
            if index not in self.done():
                chunk = self._work.plan.chunk(*divmod(index, self._work.plan.shape[1]))
                self.put(index, self._work.whole(chunk))
            return super().get(index)


def _ordered(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], *, ahead: int
) -> Iterator[R]:
    """Results in the order of the items, at most ``ahead`` of them computed before they are asked for.

    Where an item cannot be had, results of those before it come first, and then its error.
    """
    pending: deque[Future[R]] = deque()
    failed: Exception | None = None
    waiting = iter(items)
    try:
        while True:
            try:
                item = next(waiting)
            except StopIteration:
                break
            except Exception as error:
                failed = error
                break
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        if failed is not None:
            raise failed
    finally:
        for future in pending:
            future.cancel()


def tiles_of(plan: AnyPlan, chunks: Collection[int] | None = None) -> int:
    """Count the tiles of some chunks of a plan; of all where not given."""
    if chunks is None:
        return int(plan.tiling.count)
    return sum(_tiles(chunk) for chunk in plan if chunk.index in chunks)


def _tiles(chunk: Chunk) -> int:
    """Number of tiles of a chunk."""
    return int((chunk.rows.stop - chunk.rows.start) * (chunk.cols.stop - chunk.cols.start))
