"""Speed of `geores.classify` beside torchgeo's loop, reading alone and the bare forward, in one run.

    python benchmarks/classify.py SCENE [--side 3600] [--tile 120] [--repeats 5]

SCENE is a Sentinel-2 scene with the ten bands of the bundle `sentinel2`, as `make demo` installs one. It
is mirrored to a square of SIDE pixels (of whole tiles, which torchgeo counts from below) and written
uncompressed, with deflate and as JPEG 2000; every way of classifying it uses the same ResNet-18.

The ways take turns, REPEATS times, so that a machine whose speed drifts slows all of them alike. A figure
is the best of its REPEATS, for other work on the machine can only slow it; the median stands beside it in
brackets, and where it is far off, the machine was not quiet. Ratios are of the best.
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
from copy import deepcopy
from dataclasses import replace
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
from geores.model import Model
from geores.models import create
from geores.runtime.base import one_thread_each

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


def resnet18(card: geores.ModelCard, values: np.ndarray, tile: int) -> Model:
    """A ResNet-18 that takes what `sentinel2` takes and has learned its labels from tiles of the scene.

    Its weights are random, its statistics the scene's, and its head is fitted: a head of random weights
    would see hardly a difference between tiles, and rounding alone would decide between its labels.
    """
    torch.manual_seed(0)
    kwargs = {'in_chans': len(card.bands), 'num_classes': len(card.labels)}
    network = create('resnet18', **kwargs)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean of all batches
    model = Model(replace(card, architecture='resnet18', architecture_kwargs=kwargs), network)
    rows, cols = (range(0, side - tile + 1, tile) for side in values.shape[1:])
    tiles = [values[:, row : row + tile, col : col + tile] for row in rows for col in cols][:256]
    network.train()
    with torch.inference_mode():
        for batch in torch.from_numpy(np.stack(tiles).astype(np.float32)).split(32):
            network(model.normalise(batch))
    network.eval()
    fit_head(model, np.stack(tiles).astype(np.float32))
    return model


@torch.inference_mode()
def fit_head(model: Model, tiles: np.ndarray) -> None:
    """Fit the head to the labels that `sentinel2` gives to tiles, by ridge regression."""
    teacher = geores.load_model('sentinel2')
    size = teacher.card.input_size  # of a corner of each tile
    labels = torch.from_numpy(teacher.predict(tiles[..., :size, :size]).argmax(1))
    targets = torch.nn.functional.one_hot(labels, len(model.card.labels)).double()
    network, head = model.network, model.network.get_classifier()
    maps = [network.forward_features(model.normalise(batch)) for batch in torch.from_numpy(tiles).split(32)]
    features = network.forward_head(torch.cat(maps), pre_logits=True).double()
    spread, mean = torch.std_mean(features, 0)
    spread.clamp_(min=1e-6)
    inputs = (features - mean) / spread
    gram = inputs.T @ inputs + len(inputs) * torch.eye(inputs.shape[1])
    weight = (
        torch.linalg.solve(gram, inputs.T @ (targets - targets.mean(0))) / spread.clamp(min=1e-6)[:, None]
    )
    head.weight.copy_(weight.T)
    head.bias.copy_(targets.mean(0) - mean @ weight)


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
    """CPU seconds a tile of the bare forward on ready batches, all cores at once.

    The network as it is, weights and batches in bfloat16 and channels-last beforehand.
    """
    network = deepcopy(model.network).to(torch.bfloat16).to(memory_format=torch.channels_last)
    batch = torch.randn(BATCH, len(model.card.bands), tile, tile, dtype=torch.bfloat16)
    batch = batch.contiguous(memory_format=torch.channels_last)

    def forward(_: int) -> None:
        with torch.inference_mode():
            network(batch)

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
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--formats', nargs='+', choices=FORMATS, default=list(FORMATS))
    args = parser.parse_args()
    args.side -= args.side % args.tile
    warnings.simplefilter('ignore')
    card = geores.load_model('sentinel2').card
    values = mosaic(args.scene, card.bands, args.side)
    model = resnet18(card, values, args.tile)
    tiles = (args.side // args.tile) ** 2
    print(f'{platform.processor() or platform.machine()}, {CORES} cores, torch {torch.__version__}')
    print(f'{args.side} x {args.side} pixels, {len(model.card.bands)} bands, {tiles} tiles of {args.tile}')
    print(f'tiles a second, best of {args.repeats} and (median)')
    print(f'| {" | ".join(HEADER)} |')
    print('|---' * len(HEADER) + '|')
    with tempfile.TemporaryDirectory() as folder:
        for name in args.formats:
            path = write(Path(folder), name, values, model.card.bands)
            print(
                f'| {name} | {" | ".join(measure(path, model, args.tile, tiles, args.repeats))} |', flush=True
            )


def measure(path: Path, model: Model, tile: int, tiles: int, repeats: int) -> list[str]:
    """The figures of one row."""
    labels = {}

    def timed(name: str, function: Callable[[], np.ndarray]) -> float:
        start = time.perf_counter()
        labels[name] = function()
        return (time.perf_counter() - start) / tiles

    ways: dict[str, Callable[[], float]] = {
        'ours': lambda: timed('ours', lambda: with_geores(path, model, tile)),
        'plain': lambda: timed('plain', lambda: with_torchgeo(path, model, tile, fast=False)),
        'fast': lambda: timed('fast', lambda: with_torchgeo(path, model, tile, fast=True)),
        'read': lambda: read_alone(path, tiles),
        'forward': lambda: forward_alone(model, tile, tiles),
    }
    with_geores(path, model, tile)  # files and code are warm for all
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(way())
    best = {name: min(figures) for name, figures in seconds.items()}
    rate = {
        name: f'{1 / best[name]:.0f} ({1 / statistics.median(figures):.0f})'
        for name, figures in seconds.items()
    }
    parts = best['forward'] + best['read']  # CPU seconds a tile, which all cores share
    figures = [rate['ours'], rate['plain'], f'{best["plain"] / best["ours"]:.1f}']
    figures += [rate['fast'], f'{best["fast"] / best["ours"]:.1f}', f'{CORES / parts:.0f}']
    figures += [f'{parts / CORES / best["ours"]:.2f}', rate['read'], rate['forward']]
    return [*figures, f'{float((labels["ours"] == labels["plain"]).mean()):.1%}']


if __name__ == '__main__':
    main()
