"""The streaming engine: plan, read, batch, step, sinks; journal and resume."""

from geores.inference.engine import ChunkWork, LazyStore, Reader, Region, Sink, Step, run
from geores.inference.plan import Chunk, Plan, plan_chunks
from geores.inference.reader import ChunkStore, FolderStore, GridReader, Mask, MemoryStore, UnitTransform
from geores.inference.sinks import Quicklook, TileTable, VectorSink

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
