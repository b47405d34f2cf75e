"""Speed of `geores.classify` beside torchgeo's loop, a plain loop, reading and the bare forward, in one run.

    python benchmarks/classify.py SCENE [--model resnet18] [--side 3600] [--repeats 5] [--before WORKTREE]

SCENE is a Sentinel-2 scene with the ten bands of the bundle `sentinel2`, as `make demo` installs one. It
is mirrored to a square of SIDE pixels (of whole tiles, which torchgeo counts from below) and written
uncompressed, with deflate and as JPEG 2000; every way of classifying it uses the same network: a ResNet-18
of random weights, or a bundle such as `sentinel2` or `aerial-rgb` (for which the scene's red, green and blue
become 8-bit pixels of its size). The ways:

* geores: under OpenVINO (`geores[fast]`, what it chooses for larger scenes), and under torch (as without),
  from the first pixel to the last score, each block decoded after the clock has begun; what it takes before
  that hardly grows with the scene;
* before: the same of an older geores in WORKTREE, in a process of its own; bundles have changed since, so
  that MODEL should be the path of one of WORKTREE;
* torchgeo: the loop of its documentation, in float32, and in geores' precision and channels-last;
* plain: rasterio's windows and torch, one after the other, as a script would have it, in float32;
* ceiling: 1 / (CPU seconds of reading alone, each block decoded once, + of the quickest bare forward at
  geores' precision).

`GEORES_BFLOAT16=0` forces float32 on all of them. The ways take turns, REPEATS times, so that a machine
whose speed drifts slows all of them alike. A figure is the best of its REPEATS; where other work shares the
machine, the ratios of CPU seconds say more, which stand beside it. All compute in one thread.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TextIO, cast

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.enums import Resampling
from rasterio.windows import Window
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler

import geores
from geores.inference import GridReader
from geores.inference.layer import BlockCache
from geores.model import Model
from geores.models import create
from geores.runtime.base import has_bfloat16, one_thread_each
from geores.runtime.choice import make_exported
from geores.runtime.eager import EagerRuntime
from geores.runtime.exported import installed_runtimes

CORES = len(os.sched_getaffinity(0))
BATCH = 16
USED: dict[str, str] = {}  # runtime and precision of each way of geores
GTIFF = {'driver': 'GTiff', 'tiled': True, 'blockxsize': 512, 'blockysize': 512}
FORMATS = {
    'uncompressed': GTIFF,
    'deflate': GTIFF | {'compress': 'deflate', 'predictor': 2},
    'JPEG 2000': {
        'driver': 'JP2OpenJPEG', 'quality': 100, 'reversible': 'yes', 'blockxsize': 1024, 'blockysize': 1024,
    },
}  # fmt: skip
COARSE = {'B05', 'B06', 'B07', 'B8A', 'B11', 'B12'}  # 20 m in a Sentinel-2 product
FASTER = 'geores[fast] / geores is faster by'
HEADER = ('format', 'way', 'tiles/s, best', 'median', 'CPU ms a tile', FASTER, 'same labels')


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
        _write(target / 'scene.tif', values, 10 if len(values) > 3 else 0.3, FORMATS[name], bands)
        return target / 'scene.tif'
    for band, plane in zip(bands, values, strict=True):
        size = 2 if band in COARSE else 1
        path = target / f'T33UUU_20170216T102101_{band}.jp2'
        _write(path, plane[None, ::size, ::size], 10 * size, FORMATS[name], None)
    return target


def _write(
    path: Path, values: np.ndarray, pixel: float, profile: dict[str, object], bands: tuple[str, ...] | None
) -> None:
    with rasterio.open(
        path, 'w', count=len(values), height=values.shape[1], width=values.shape[2], dtype=values.dtype,
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


def forgetting(expect: Callable[..., None]) -> Callable[..., None]:
    """Let a reader forget, where a run begins, the blocks that were decoded before: all of a small scene."""

    def begin_anew(reader: GridReader, *windows: object) -> None:
        reader._cache = BlockCache(reader._cache.max_bytes)
        for layer in reader._all_layers:
            layer._cache = reader._cache
        expect(reader, *windows)

    return begin_anew


def with_geores(path: Path, model: Model, tile: int, runtime: str) -> tuple[np.ndarray, float, float]:
    """Labels, and seconds on the clock and of the processor from the first pixel on."""
    bands = None if path.is_dir() else model.card.bands
    begun: list[tuple[float, float]] = []
    options = {'tile': tile, 'batch_size': BATCH, 'bands': bands, 'runtime': runtime, 'workers': 1}

    def begin(*_: int) -> None:
        if not begun:
            begun.append((time.perf_counter(), time.process_time()))

    result = geores.classify(path, model, progress=begin, **options)
    (wall, used), ended = begun[0], (time.perf_counter(), time.process_time())
    again = f', {result.info.key["ties"][0]} tied' if 'ties' in result.info.key else ''
    USED[runtime] = f'{result.info.key["runtime"]}, {result.info.precision}{again}'
    scores = result.table.read('scores', *(slice(0, count) for count in result.plan.tiling.shape))
    return scores.argmax(-1), ended[0] - wall, ended[1] - used


BEFORE = """
import json, sys, time, geores
path, name, tile, batch = sys.argv[1:]
model = geores.load_model(name)
for line in sys.stdin:
    begun = []
    begin = lambda *_: begun or begun.extend((time.perf_counter(), time.process_time()))
    options = {'tile': int(tile), 'batch_size': int(batch), 'workers': 1, 'precision': line.strip()}
    geores.classify(path, model, bands=model.card.bands, progress=begin, **options)
    print(json.dumps([time.perf_counter() - begun[0], time.process_time() - begun[1]]), flush=True)
"""


class Before:
    """An older geores, waiting in a process of its own."""

    def __init__(self, worktree: Path, path: Path, name: str, tile: int) -> None:
        command = [sys.executable, '-c', BEFORE, str(path), name, str(tile), str(BATCH)]
        environment = os.environ | {'PYTHONPATH': str(worktree)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=worktree, env=environment, stdin=pipe, stdout=pipe, text=True
        )

    def __call__(self) -> tuple[np.ndarray | None, float, float]:
        """Seconds on the clock and of the processor."""
        print('auto' if has_bfloat16() else 'fp32', file=self.process.stdin, flush=True)
        wall, used = json.loads(cast(TextIO, self.process.stdout).readline())
        return None, wall, used


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
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=fast and has_bfloat16()):
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
    """CPU seconds a tile of reading alone, each block decoded once and brought to float32 at 10 m."""
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    start = time.process_time()
    with rasterio.Env(GDAL_NUM_THREADS='1'), torch.inference_mode():
        for each in paths:
            with rasterio.open(each) as file:
                pixel = round(file.res[0] / 10)
                for _, window in file.block_windows(1):
                    values = torch.from_numpy(file.read(window=window).astype(np.float32))
                    if pixel > 1:
                        interpolate(values[None], scale_factor=pixel, mode='bilinear')
    return (time.process_time() - start) / tiles


@torch.inference_mode()
def with_plain_loop(path: Path, model: Model, tile: int) -> np.ndarray:
    """Windows of rasterio, batches of torch, one after the other."""
    labels = []
    files = [path] if path.is_file() else [next(path.glob(f'*_{band}.jp2')) for band in model.card.bands]
    opened = [rasterio.open(file) for file in files]
    side = max(file.height for file in opened)
    places = [(row, col) for row in range(0, side, tile) for col in range(0, side, tile)]
    for start in range(0, len(places), BATCH):
        images = np.stack([_tile(opened, row, col, tile, side) for row, col in places[start : start + BATCH]])
        labels.append(model.network(model.normalise(torch.from_numpy(images))).argmax(1))
    return torch.cat(labels).numpy().reshape(side // tile, side // tile)


def _tile(opened: list[rasterio.DatasetReader], row: int, col: int, tile: int, side: int) -> np.ndarray:
    parts = []
    for file in opened:
        scale = side // file.height
        window = Window(col // scale, row // scale, tile // scale, tile // scale)
        shape = (file.count, tile, tile)
        parts.append(file.read(window=window, out_shape=shape, resampling=Resampling.bilinear))
    return np.concatenate(parts).astype(np.float32)


def forward_alone(model: Model, tile: int, tiles: int) -> float:
    """CPU seconds a tile of the quickest bare forward on ready batches."""
    precision = 'bf16' if has_bfloat16() else 'fp32'
    shape = (len(model.card.bands), tile, tile)
    batch = torch.randn(BATCH, *shape)
    found = []
    for name in installed_runtimes():
        if name == 'onnxruntime' and precision != 'fp32':
            continue
        if name not in FORWARDS:
            FORWARDS[name] = (
                EagerRuntime(model.network, precision, torch.device('cpu'))
                if name == 'torch'
                else make_exported(name, model.network, precision, shape)
            )
        forward = partial(FORWARDS[name], batch)
        rounds = max(4, tiles // BATCH // 4)
        with torch.inference_mode(), one_thread_each(), ThreadPoolExecutor(1) as pool:
            list(pool.map(_call, [forward]))
            start = time.process_time()
            list(pool.map(_call, [forward] * rounds))
            found.append((time.process_time() - start) / (rounds * BATCH))
    return min(found)


FORWARDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}


def _call(forward: Callable[[], torch.Tensor]) -> None:
    with torch.inference_mode():
        forward()


def load(name: str, values: np.ndarray, tile: int, card: geores.ModelCard) -> Model:
    """The network that all ways use."""
    return resnet18(card, values, tile) if name == 'resnet18' else geores.load_model(name)


def as_eight_bit(values: np.ndarray, bands: tuple[str, ...]) -> np.ndarray:
    """Red, green and blue as 8-bit pixels."""
    rgb = values[[bands.index(band) for band in ('B04', 'B03', 'B02')]]
    return (rgb.astype(np.float32) / 12).clip(1, 255).astype(np.uint8)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        processor = next(line.partition(': ')[2] for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return {
        'date': time.strftime('%Y-%m-%d'),
        'processor': processor,
        'cores': CORES,
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'bfloat16': has_bfloat16(),
        'load': round(os.getloadavg()[0], 1),
        'torch': torch.__version__,
        'geores': geores.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--model', default='resnet18', help='resnet18, or a bundle by name or path')
    parser.add_argument('--side', type=int, default=3600)
    parser.add_argument('--tile', type=int, help="pixels [120, or the bundle's]")
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--formats', nargs='+', choices=FORMATS, default=list(FORMATS))
    parser.add_argument('--before', type=Path, help='worktree of an older geores')
    parser.add_argument('--json', type=Path, help='keep the figures in this file')
    parser.add_argument('--alone', action='store_true', help='geores and the ceiling, without their peers')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    GridReader.expect = forgetting(GridReader.expect)  # type: ignore[method-assign]
    tile = args.tile or (120 if args.model == 'resnet18' else geores.load_model(args.model).card.input_size)
    side = args.side - args.side % tile
    card = geores.load_model('sentinel2').card
    values = mosaic(args.scene, card.bands, side)
    model = load(args.model, values, tile, card)
    if len(model.card.bands) == 3:
        values = as_eight_bit(values, card.bands)
    record = {
        'machine': machine(), 'model': args.model, 'side': side, 'tile': tile, 'repeats': args.repeats,
        'rows': [],
    }  # fmt: skip
    print(', '.join(f'{name} {value}' for name, value in record['machine'].items()))
    print(f'{side} x {side} pixels, {len(model.card.bands)} bands, {(side // tile) ** 2} tiles of {tile}')
    print(f'| {" | ".join(HEADER)} |')
    print('|---' * len(HEADER) + '|')
    with tempfile.TemporaryDirectory() as folder:
        for name in args.formats:
            if name == 'JPEG 2000' and len(model.card.bands) == 3:
                continue  # no such product
            path = write(Path(folder), name, values, model.card.bands)
            rows = measure(path, model, tile, (side // tile) ** 2, args)
            record['rows'] += [{'format': name} | row for row in rows]
            for row in rows:
                print(f'| {name} | {" | ".join(map(str, row.values()))} |', flush=True)
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


def measure(
    path: Path, model: Model, tile: int, tiles: int, args: argparse.Namespace
) -> list[dict[str, object]]:
    """The rows of one format."""
    labels: dict[str, np.ndarray] = {}
    wall: dict[str, list[float]] = {}
    work: dict[str, list[float]] = {}

    def timed(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float]:
        start, used = time.perf_counter(), time.process_time()
        found = function()
        return found, time.perf_counter() - start, time.process_time() - used

    ways: dict[str, Callable[[], tuple[np.ndarray | None, float, float]]] = {}
    if 'openvino' in installed_runtimes():
        ways['geores[fast]'] = lambda: with_geores(path, model, tile, 'openvino')
    ways['geores'] = lambda: with_geores(path, model, tile, 'torch')
    if args.before is not None and path.is_file():
        ways['geores before'] = Before(args.before, path, args.model, tile)
    ways['torchgeo'] = lambda: timed(lambda: with_torchgeo(path, model, tile, fast=False))
    fast = "torchgeo, geores' precision"
    ways[fast] = lambda: timed(lambda: with_torchgeo(path, model, tile, fast=True))
    ways['plain loop'] = lambda: timed(lambda: with_plain_loop(path, model, tile))
    if args.alone:
        ways = {name: way for name, way in ways.items() if 'geores' in name and 'torchgeo' not in name}
    ceiling = []
    with one_thread_each():
        for turn in range(args.repeats + 1):
            for name, way in ways.items():
                if not turn and 'geores' not in name:
                    continue  # the first turn warms files and code, and is not counted
                found, seconds, used = way()
                if found is not None:
                    labels[name] = found
                if turn:
                    wall.setdefault(name, []).append(seconds / tiles)
                    work.setdefault(name, []).append(used / tiles)
            if turn:
                ceiling.append((read_alone(path, tiles), forward_alone(model, tile, tiles)))
    best, least_work = ({name: min(some) for name, some in kept.items()} for kept in (wall, work))
    used = {'geores[fast]': USED.get('openvino'), 'geores': USED['torch']}
    first = next(iter(ways))
    rows: list[dict[str, object]] = [
        {
            'way': f'{name} ({used[name]})' if name in used else name,
            'best': round(1 / best[name]),
            'median': round(1 / statistics.median(wall[name])),
            'cpu_ms': round(1000 * least_work[name], 2),
            'ratio': ' / '.join(
                f'{best[name] / best[own]:.2f} (CPU {least_work[name] / least_work[own]:.2f})'
                for own in dict.fromkeys((first, 'geores'))
            ),
            'same': _share_of_same(labels, name),
        }
        for name in ways
    ]
    least = min(read for read, _ in ceiling) + min(forward for _, forward in ceiling)
    reached = f'{least / best[first]:.2f} of it (CPU {least / least_work[first]:.2f})'
    row = {'way': 'ceiling', 'best': round(1 / least), 'median': '', 'cpu_ms': round(1000 * least, 2)}
    return [*rows, row | {'ratio': reached, 'same': ''}]


def _share_of_same(labels: dict[str, np.ndarray], name: str) -> str:
    """Share of the tiles that a way gives the labels of the plain loop, where both were run."""
    known = labels.keys() >= {name, 'plain loop'}
    return f'{float((labels[name] == labels["plain loop"]).mean()):.2%}' if known else ''


if __name__ == '__main__':
    main()
