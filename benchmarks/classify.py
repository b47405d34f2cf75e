"""Speed of `geores.classify` beside torchgeo's loop, reading alone and the bare forward, in one run.

    python benchmarks/classify.py SCENE [--side 3600] [--tile 120] [--repeats 3]

SCENE is a Sentinel-2 scene with the ten bands of the bundle `sentinel2`, as `make demo` installs one. It
is mirrored to a square of SIDE pixels and written uncompressed, with deflate and as JPEG 2000; every way
of classifying it uses the same weights. Figures are medians of REPEATS; ratios are of one run.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler

import geores
from geores.inference import GridReader
from geores.inference.predictor import Predictor, one_thread_each
from geores.model import Model

CORES = len(os.sched_getaffinity(0))
BATCH = 32
FORMATS = {
    'uncompressed': {'driver': 'GTiff', 'tiled': True, 'blockxsize': 512, 'blockysize': 512},
    'deflate': {
        'driver': 'GTiff', 'tiled': True, 'blockxsize': 512, 'blockysize': 512, 'compress': 'deflate', 'predictor': 2,
    },
    'JPEG 2000': {'driver': 'JP2OpenJPEG', 'quality': 100, 'reversible': 'yes', 'blockxsize': 1024, 'blockysize': 1024},
}  # fmt: skip


def mosaic(path: str, bands: tuple[str, ...], side: int) -> np.ndarray:
    """The scene mirrored to a square, (bands, side, side) uint16."""
    scene = geores.open_scene(path)
    grid = scene.geobox
    values, _ = GridReader(scene, bands, grid).read(slice(0, grid.shape.y), slice(0, grid.shape.x))
    pad = [(0, max(0, side - size)) for size in values.shape[1:]]
    return np.pad(values, ((0, 0), *pad), mode='symmetric')[:, :side, :side].astype(np.uint16)


def write(folder: Path, name: str, values: np.ndarray, bands: tuple[str, ...]) -> Path:
    """One file of all bands in a folder of its own, as torchgeo wants it."""
    profile = dict(FORMATS[name])
    suffix = 'jp2' if profile['driver'].startswith('JP2') else 'tif'
    path = folder / name.replace(' ', '') / f'scene.{suffix}'
    path.parent.mkdir()
    transform = Affine(10, 0, 300_000, 0, -10, 5_900_000)
    with rasterio.open(
        path, 'w', count=len(values), height=values.shape[1], width=values.shape[2],
        dtype='uint16', crs='EPSG:32633', transform=transform, **profile,
    ) as file:  # fmt: skip
        file.write(values)
        if suffix == 'tif':
            file.descriptions = bands
    return path


def timed(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Median seconds, and what the last call gave."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def with_geores(path: Path, model: Model, tile: int) -> np.ndarray:
    result = geores.classify(path, model, tile=tile, batch_size=BATCH, bands=model.card.bands)
    return result.table.read('scores', *(slice(0, count) for count in result.plan.tiling.shape)).argmax(-1)


def with_torchgeo(path: Path, model: Model, tile: int, *, fast: bool) -> np.ndarray:
    """The loop of torchgeo's documentation; ``fast`` with our precision and memory layout."""

    class Scenes(RasterDataset):
        filename_glob = path.name
        is_image = True

    dataset = Scenes(path.parent)
    sampler = GridGeoSampler(dataset, size=tile, stride=tile)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples)
    layout = torch.channels_last if fast else torch.contiguous_format
    network = model.network.to(memory_format=layout)
    places, labels = [], []
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=fast):
        for batch in loader:
            images = batch['image'].contiguous(memory_format=layout)
            labels.append(network(model.normalise(images)).argmax(1))
            places += [place(bounds) for bounds in batch['bounds']]
    order = sorted(range(len(places)), key=places.__getitem__)
    side = round(len(places) ** 0.5)
    return torch.cat(labels)[order].numpy().reshape(side, side)


def place(bounds: object) -> tuple[float, float]:
    """Row-major order of a sample's bounds."""
    if isinstance(bounds, tuple):  # slices of x, y and time
        return -float(bounds[1].start), float(bounds[0].start)
    if hasattr(bounds, 'minx'):
        return -float(bounds.miny), float(bounds.minx)
    values = [float(value) for value in np.ravel(bounds)]
    return -values[3], values[0]


def read_alone(path: Path, tiles: int) -> float:
    """CPU seconds a tile of reading every block once with rasterio, as float32."""
    start = time.process_time()
    with rasterio.Env(GDAL_NUM_THREADS='1'), rasterio.open(path) as file:
        for row in range(0, file.height, 1024):
            for col in range(0, file.width, 1024):
                window = Window(col, row, min(1024, file.width - col), min(1024, file.height - row))
                file.read(window=window).astype(np.float32)
    return (time.process_time() - start) / tiles


def forward_alone(model: Model, tile: int, tiles: int) -> float:
    """CPU seconds a tile of the bare forward on ready batches, all cores at once."""
    predictor = Predictor(model, 'bf16')
    batch = torch.randn(BATCH, len(model.card.bands), tile, tile).contiguous(
        memory_format=torch.channels_last
    )

    def forward(_: int) -> None:
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
            predictor.model.network(batch)

    rounds = max(2 * CORES, tiles // BATCH)
    with one_thread_each(), ThreadPoolExecutor(CORES) as pool:
        list(pool.map(forward, range(CORES)))
        start = time.process_time()
        list(pool.map(forward, range(rounds)))
        return (time.process_time() - start) / (rounds * BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--side', type=int, default=3600)
    parser.add_argument('--tile', type=int, default=120)
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    model = geores.load_model('sentinel2')
    tiles = (args.side // args.tile) ** 2
    print(f'{platform.processor() or platform.machine()}, {CORES} cores, torch {torch.__version__}')
    print(f'{args.side} x {args.side} pixels, {len(model.card.bands)} bands, {tiles} tiles of {args.tile}')
    print(
        '| format | geores | torchgeo | ratio | torchgeo, bf16 channels-last | ratio | ceiling | of ceiling | read alone, 1 core | forward alone, 1 core | same labels |'
    )
    print('|---|---|---|---|---|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        values = mosaic(args.scene, model.card.bands, args.side)
        for name in FORMATS:
            path = write(Path(folder), name, values, model.card.bands)
            forward = forward_alone(model, args.tile, tiles)
            read = statistics.median(read_alone(path, tiles) for _ in range(args.repeats))
            ours, labels = timed(lambda: with_geores(path, model, args.tile), args.repeats)
            fast, _ = timed(lambda: with_torchgeo(path, model, args.tile, fast=True), 1)
            plain, theirs = timed(lambda: with_torchgeo(path, model, args.tile, fast=False), 1)
            ceiling = CORES / (forward + read)
            rate = tiles / ours
            same = float((labels == theirs).mean())
            print(
                f'| {name} | {rate:.0f} | {tiles / plain:.0f} | {plain / ours:.1f} | {tiles / fast:.0f} '
                f'| {fast / ours:.1f} | {ceiling:.0f} | {rate / ceiling:.2f} | {1 / read:.0f} | {1 / forward:.0f} '
                f'| {same:.1%} |',
                flush=True,
            )


if __name__ == '__main__':
    main()
