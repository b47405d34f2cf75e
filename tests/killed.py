"""Kill a run again and again: a script that `test_resume` starts, so that torch is not imported.

Usage: killed.py BUNDLE SCENE FOLDER KILLS SEED. Writes FOLDER/whole, by a run that is left alone, and
FOLDER/<n>, by a run that is killed once and started again, with FOLDER/<n>.killed: what stood under
final names when it was killed.
"""

import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
from kill_at import finish, kill

# Imported before the first fork, not by every child again.
# isort: split
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import pyarrow.parquet  # noqa: F401
import scipy.sparse  # noqa: F401

import geores.cartography.polygons
import geores.classification.outputs
import geores.classification.tables  # noqa: F401
from geores.card import ModelCard
from geores.classification.outputs import work_folder
from geores.classification.result import Classification, PixelClassification
from geores.classification.scene_result import RunInfo
from geores.grid import Blocks, Tiling
from geores.inference import ChunkWork, FolderStore, GridReader, Plan, Quicklook, VectorSink, run
from geores.inference.sinks import ClassSink
from geores.scenes import open_scene


def step(tiles):
    """Scores that depend on every pixel."""
    sys.audit('step')
    means = tiles.mean(axis=(2, 3), dtype=np.float64)
    return {'scores': (means / means.sum(axis=1, keepdims=True)).astype(np.float32)}


def pixel_step(tiles):
    """The brightest band of each pixel; tiles are blocks of 16 pixels and margins of 4."""
    sys.audit('step')
    inner = tiles[:, :, 4:-4, 4:-4]
    return {'classes': inner.argmax(1).astype(np.uint8) + 1, 'confidence': inner.max(1).astype(np.uint8)}


def work_through(card, path, folder):
    """What `geores classify` does, without a network."""
    scene = open_scene(path)
    grid = scene.geobox
    look = Quicklook([0, 1, 2], step=2)
    reader = GridReader(scene, card.bands, grid)
    if card.task == 'segmentation':
        plan = Plan(Blocks(*grid.shape.yx, tile=24, margin=4), chunk_shape=(4, 4), batch_size=16)
        work = ChunkWork(plan, reader, pixel_step, (ClassSink(3), look))
    else:
        plan = Plan(Tiling(*grid.shape.yx, tile=32, stride=16), chunk_shape=(4, 4), batch_size=16)
        work = ChunkWork(plan, reader, step, (VectorSink(3), look))
    folder.mkdir(exist_ok=True)
    key = {'scene': scene.fingerprint, 'card': card.name}
    store = FolderStore(work_folder(folder, scene.name), key)
    run(work, store)
    if card.task == 'segmentation':
        info = RunInfo('cpu', 'fp32', 1.0, plan.tiling.count, {'polygons': 'gpkg'}, key, ())
        result = PixelClassification(scene, card, grid, 10.0, plan, store, look, info, None)
    else:
        info = RunInfo('cpu', 'fp32', 1.0, plan.tiling.count, {}, key, ())
        result = Classification(scene, card, grid, 10.0, plan, store, look, None, None, info)
    result.save(folder, overwrite=True)
    store.remove()


def main():
    bundle, scene, folder, kills, seed = sys.argv[1:]
    card, folder, kills = ModelCard.load(Path(bundle) / 'card.json'), Path(folder), int(kills)
    events = finish(partial(work_through, card, scene, folder / 'whole'))
    points = (np.arange(kills) + np.random.default_rng(int(seed)).random(kills)) / kills
    for number, point in enumerate(points):
        out = folder / str(number)
        work = partial(work_through, card, scene, out)
        kill(work, 1 + int(point * events))
        (folder / f'{number}.killed').mkdir()
        for path in out.glob('[!.]*'):
            shutil.copy(path, folder / f'{number}.killed')
        finish(work)


if __name__ == '__main__':
    main()
