"""The streaming engine: plan, read, batch, step, sinks; journal and resume."""

from geores.inference.cells import Quicklook, TileTable, VectorSink
from geores.inference.engine import ChunkWork, LazyStore, Reader, Region, Sink, Step, run
from geores.inference.plan import Chunk, Plan, plan_chunks
from geores.inference.reader import GridReader, Mask, UnitTransform
from geores.inference.store import ChunkStore, FolderStore, MemoryStore

__all__ = [
    'Chunk',
    'ChunkStore',
    'ChunkWork',
    'FolderStore',
    'GridReader',
    'LazyStore',
    'Mask',
    'MemoryStore',
    'Plan',
    'Quicklook',
    'Reader',
    'Region',
    'Sink',
    'Step',
    'TileTable',
    'UnitTransform',
    'VectorSink',
    'plan_chunks',
    'run',
]
