"""A prepared scene with a step and sinks: the one way in which scenes are worked through."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from geores.errors import OutputError
from geores.inference.engine import ChunkWork, LazyStore, Sink, Step, run
from geores.inference.prepared import PreparedScene
from geores.inference.store import ChunkStore, FolderStore
from geores.scenes import gdal_env

__all__ = ['Progress', 'RunTime', 'SceneWork']

Progress = Callable[[int, int], None]
"""Called with the number of tiles just finished and of all tiles; first with those finished before."""


@dataclass(frozen=True)
class RunTime:
    """Time and tiles of a run.

    Attributes:
        seconds: time of this run from reading the first pixel to the last answer.
        tiles: tiles worked through in this run; fewer than all where one was resumed.
    """

    seconds: float
    tiles: int


@dataclass(frozen=True)
class SceneWork:
    """What is computed of a scene, and what is kept of it.

    Attributes:
        prepared: how the scene is read.
        step: maps batches of tiles to named arrays.
        sinks: what is kept of each chunk; the small picture is kept besides.
        device: kind of device that the step computes on.
        step_key: what decides the step's bits beside the card: weights, device, precision and the like.
    """

    prepared: PreparedScene
    step: Step
    sinks: Sequence[Sink]
    device: str
    step_key: dict[str, Any]

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides the bits of the results, for the journal."""
        return self.prepared.key | self.step_key

    @cached_property
    def chunk_work(self) -> ChunkWork:
        """What is done with each chunk."""
        prepared = self.prepared
        sinks = (*self.sinks, prepared.look)
        return ChunkWork(prepared.plan, prepared.reader, self.step, sinks, prepared.card.fill)

    def open_store(self, folder: Path, *, resume: bool) -> FolderStore:
        """Open the journal of this work in a folder, whose parent is created.

        Args:
            folder: folder of the finished chunks.
            resume: continue what the folder holds, else begin anew.

        Raises:
            OutputError: if the folder cannot be created.
            JournalError: if it holds work of another run.
        """
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'{folder.parent} cannot be created: {error.strerror}') from error
        return FolderStore(folder, self.key, resume=resume)

    def run(self, store: ChunkStore, progress: Progress | None = None) -> RunTime:
        """Compute what the store does not hold yet.

        Args:
            store: keeps finished chunks.
            progress: called as tiles are finished.

        Raises:
            ReadError: if the scene could not be read to the end; finished chunks stay in the store.
            WriteError: if the store could not be written.
        """
        from geores.runtime.base import one_thread_each

        prepared = self.prepared
        count, finished = prepared.plan.tiling.count, 0
        report = progress or (lambda tiles, of: None)

        def on_chunk(tiles: int) -> None:
            nonlocal finished
            finished += tiles
            report(tiles, count)

        prepared.reader.expect(*prepared.plan.windows())
        start = time.perf_counter()
        with gdal_env(), one_thread_each():
            run(
                self.chunk_work,
                store,
                readers=prepared.workers,
                computers=prepared.workers if self.device == 'cpu' else 2,
                on_start=lambda tiles: report(tiles, count),
                on_chunk=on_chunk,
            )
        return RunTime(time.perf_counter() - start, finished)

    def defer(self) -> LazyStore:
        """Compute nothing yet: each chunk is computed when something of it is asked for."""
        return LazyStore(self.chunk_work)
