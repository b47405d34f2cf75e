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
from rasterio.enums import Resampling
from rasterio.windows import Window
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler

import geores
from geores.inference import GridReader
from geores.inference.predictor import Predictor, one_thread_each
from geores.model import Model

CORES = len(os.sched_getaffinity(0))
BATCH = 16
GTIFF = {'driver': 'GTiff', 'tiled': True, 'blockxsize': 512, 'blockysize': 512}
FORMATS = {
    'uncompressed': GTIFF,
    'deflate': GTIFF | {'compress': 'deflate', 'predictor': 2},
    'JPEG 2000': {
        'driver': 'JP2OpenJPEG', 'quality': 100, 'reversible': 'yes', 'blockxsize': 1024, 'blockysize': 1024,
    },
}  # fmt: skip
COARSE = {'B05', 'B06', 'B07', 'B8A', 'B11', 'B12'}  # 20 m in a Sentinel-2 product
HEADER = (
    'format', 'geores', 'torchgeo', 'ratio', 'torchgeo, bf16 channels-last', 'ratio', 'ceiling',
    'of ceiling', 'reading alone, a core', 'forward alone, a core', 'same labels',
)  # fmt: skip


def mosaic(path: str, bands: tuple[str, ...], side: int) -> np.ndarray:
    """The scene mirrored to a square, (bands, side, side) uint16."""
    scene = geores.open_scene(path)
    grid = scene.geobox
    values, _ = GridReader(scene, bands, grid).read(slice(0, grid.shape.y), slice(0, grid.shape.x))
    pad = [(0, max(0, side - size)) for size in values.shape[1:]]
    return np.pad(values, ((0, 0), *pad), mode='symmetric')[:, :side, :side].astype(np.uint16)


def write(folder: Path, name: str, values: np.ndarray, bands: tuple[str, ...]) -> Path:
    """One GeoTIFF of all bands; JPEG 2000 as in a Sentinel-2 product, a file a band at its own size."""
    target = folder / name.replace(' ', '')
    target.mkdir()
    if name != 'JPEG 2000':
        _write(target / 'scene.tif', values, 10, FORMATS[name], bands)
        return target / 'scene.tif'
    for band, plane in zip(bands, values, strict=True):
        size = 2 if band in COARSE else 1
        path = target / f'T33UUU_20170216T102101_{band}.jp2'
        _write(path, plane[None, ::size, ::size], 10 * size, FORMATS[name], None)
    return target


def _write(
    path: Path, values: np.ndarray, pixel: int, profile: dict[str, object], bands: tuple[str, ...] | None
) -> None:
    with rasterio.open(
        path, 'w', count=len(values), height=values.shape[1], width=values.shape[2], dtype='uint16',
        crs='EPSG:32633', transform=Affine(pixel, 0, 300_000, 0, -pixel, 5_900_000), **profile,
    ) as file:  # fmt: skip
        file.write(values)
        if bands is not None:
            file.descriptions = bands


def timed(function: Callable[[], object], repeats: int) -> tuple[float, object]:
    """Median seconds, and what the last call gave."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def with_geores(path: Path, model: Model, tile: int) -> np.ndarray:
    bands = None if path.is_dir() else model.card.bands
    result = geores.classify(path, model, tile=tile, batch_size=BATCH, bands=bands)
    return result.table.read('scores', *(slice(0, count) for count in result.plan.tiling.shape)).argmax(-1)


class OneFile(RasterDataset):
    """torchgeo's custom raster dataset, as its tutorial has it."""

    filename_glob = 'scene.tif'
    is_image = True


class Product(RasterDataset):
    """The same for a file a band, as its tutorial has it for Sentinel-2."""

    filename_glob = 'T*_B02.jp2'
    filename_regex = r'^.{6}_(?P<date>\d{8}T\d{6})_(?P<band>B[018][\dA])'
    date_format = '%Y%m%dT%H%M%S'
    is_image = True
    separate_files = True


def with_torchgeo(path: Path, model: Model, tile: int, *, fast: bool) -> np.ndarray:
    """The loop of torchgeo's documentation; ``fast`` with our precision and memory layout."""
    if path.is_dir():
        dataset: RasterDataset = Product(path, res=10, bands=model.card.bands)
    else:
        dataset = OneFile(path.parent)
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
    """CPU seconds a tile of reading every block once with rasterio, on the 10 m grid, as float32."""
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    start = time.process_time()
    with rasterio.Env(GDAL_NUM_THREADS='1'):
        for each in paths:
            with rasterio.open(each) as file:
                pixel = round(file.res[0] / 10)
                for row in range(0, file.height, 1024):
                    for col in range(0, file.width, 1024):
                        height, width = min(1024, file.height - row), min(1024, file.width - col)
                        file.read(
                            window=Window(col, row, width, height),
                            out_shape=(file.count, height * pixel, width * pixel),
                            resampling=Resampling.bilinear,
                        ).astype(np.float32)
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
    parser.add_argument('--formats', nargs='+', choices=FORMATS, default=list(FORMATS))
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    model = geores.load_model('sentinel2')
    tiles = (args.side // args.tile) ** 2
    print(f'{platform.processor() or platform.machine()}, {CORES} cores, torch {torch.__version__}')
    print(f'{args.side} x {args.side} pixels, {len(model.card.bands)} bands, {tiles} tiles of {args.tile}')
    print(f'| {" | ".join(HEADER)} |')
    print('|---' * len(HEADER) + '|')
    with tempfile.TemporaryDirectory() as folder:
        values = mosaic(args.scene, model.card.bands, args.side)
        for name in args.formats:
            path = write(Path(folder), name, values, model.card.bands)
            print(
                f'| {name} | {" | ".join(measure(path, model, args.tile, tiles, args.repeats))} |', flush=True
            )


def measure(path: Path, model: Model, tile: int, tiles: int, repeats: int) -> list[str]:
    """The figures of one row."""
    with_geores(path, model, tile)
    forward, read, ours = [], [], []
    for _ in range(repeats):  # in turn, for the machine's speed drifts
        forward.append(forward_alone(model, tile, tiles))
        read.append(read_alone(path, tiles))
        seconds, labels = timed(lambda: with_geores(path, model, tile), 1)
        ours.append(seconds)
    forward, read, ours = (statistics.median(figures) for figures in (forward, read, ours))
    fast, _ = timed(lambda: with_torchgeo(path, model, tile, fast=True), repeats)
    plain, theirs = timed(lambda: with_torchgeo(path, model, tile, fast=False), repeats)
    ceiling, rate = CORES / (forward + read), tiles / ours
    figures = [f'{rate:.0f}', f'{tiles / plain:.0f}', f'{plain / ours:.1f}', f'{tiles / fast:.0f}']
    figures += [f'{fast / ours:.1f}', f'{ceiling:.0f}', f'{rate / ceiling:.2f}', f'{1 / read:.0f}']
    return [*figures, f'{1 / forward:.0f}', f'{float((labels == theirs).mean()):.1%}']


if __name__ == '__main__':
    main()
