"""How fast `geores classify` labels pixels, beside the bare network, and how much memory it takes.

    python benchmarks/pixels.py SCENE [--sides 3000 10980] [--teacher dynamicworld.onnx] [--model landcover]

SCENE is a folder of Sentinel-2 bands or a raster that the model takes; it is mirrored into products of the
given sides (uint16, deflate), each classified by the command in a process of its own. In the same run:

* bare: the network alone on tiles that lie in memory, a thread per core, at the same precision and tile;
* teacher: the same of the network whose weights an ONNX file has, by the same runtime, and by ONNX Runtime.

A ratio of 1 would say that reading, cutting, margins and writing cost nothing.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window

import geores
from geores.grid import Blocks
from geores.inference import GridReader
from geores.inference.plan import PIXEL_TILE
from geores.inference.sinks import LabelPixels
from geores.model import Model
from geores.runtime.base import one_thread_each
from geores.runtime.onnx import read_onnx
from geores.runtime.predictor import Predictor

BLOCK = 512
TILES = 6
"""Timed for each network."""


def read_scene(path: str, bands: tuple[str, ...]) -> np.ndarray:
    """Digital numbers of a scene on its finest grid, (C, H, W)."""
    scene = geores.open_scene(path)
    rows, cols = scene.geobox.shape.yx
    values, _ = GridReader(scene, bands, scene.geobox).read(slice(0, rows), slice(0, cols))
    return values.clip(1, 65_535).astype(np.uint16)


def write_product(path: Path, pixels: np.ndarray, side: int, bands: tuple[str, ...]) -> None:
    """Mirror pixels into a square raster, block by block."""
    pixels = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    pixels = np.concatenate([pixels, pixels[:, :, ::-1]], axis=2)
    profile = {'tiled': True, 'blockxsize': BLOCK, 'blockysize': BLOCK, 'compress': 'deflate', 'zlevel': 1}
    with rasterio.open(
        path, 'w', driver='GTiff', count=len(bands), height=side, width=side, dtype='uint16',
        crs='EPSG:32633', transform=Affine(10, 0, 300_000, 0, -10, 5_900_000), **profile,
    ) as file:  # fmt: skip
        for row in range(0, side, BLOCK):
            for col in range(0, side, BLOCK):
                down = np.arange(row, min(row + BLOCK, side)) % pixels.shape[1]
                across = np.arange(col, min(col + BLOCK, side)) % pixels.shape[2]
                window = Window(col, row, len(across), len(down))
                file.write(pixels[:, down[:, None], across[None]], window=window)
        file.descriptions = bands


def bare_speed(step: Callable[[np.ndarray], object], tiles: list[np.ndarray]) -> float:
    """Megapixels a second of a network on tiles in memory, one thread per core."""
    workers = len(os.sched_getaffinity(0))
    with one_thread_each(), ThreadPoolExecutor(workers) as pool:
        list(pool.map(step, [tile.copy() for tile in tiles[:workers]]))
        copies = [tile.copy() for tile in tiles]
        start = time.perf_counter()
        list(pool.map(step, copies))
        seconds = time.perf_counter() - start
    return sum(tile.shape[2] * tile.shape[3] for tile in tiles) / 1e6 / seconds


def cut_tiles(pixels: np.ndarray, tile: int) -> list[np.ndarray]:
    """Tiles of a scene, mirrored where it is smaller, (1, C, tile, tile) each."""
    short = [max(0, tile - side) for side in pixels.shape[1:]]
    padded = np.pad(pixels, ((0, 0), (0, short[0]), (0, short[1])), mode='symmetric')
    starts = np.linspace(0, padded.shape[2] - tile, TILES).astype(int)
    return [padded[None, :, :tile, left : left + tile].astype(np.float32) for left in starts]


def classify(scene: Path, model: str, out: Path, precision: str) -> None:
    """What the child process does; prints its record, and its largest resident set in MiB."""
    from geores.cli import app

    args = ['classify', str(scene), '--model', model, '--out', str(out), '--precision', precision, '--json']
    app(args, standalone_mode=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--sides', type=int, nargs='+', default=[3000])
    parser.add_argument('--teacher', type=Path)
    parser.add_argument('--model', default='landcover')
    parser.add_argument('--precision', default='fp32')
    parser.add_argument('--child', type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        classify(args.child[0], args.model, args.child[1], args.precision)
        return
    model = geores.load_model(args.model)
    pixels = read_scene(args.scene, model.card.bands)
    tiles = cut_tiles(pixels, PIXEL_TILE)
    blocks = Blocks(PIXEL_TILE, PIXEL_TILE, PIXEL_TILE, 0, model.card.alignment)
    bare = bare_speed(Predictor(model, args.precision, outputs=LabelPixels(blocks)), tiles)
    print(f'bare forward of {model.name}, {args.precision}: {bare:.3f} Mpx/s')
    if args.teacher:
        beside_teacher(model, args.teacher, tiles, args.precision, bare)
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in args.sides:
            scene = folder / f'scene{side}.tif'
            write_product(scene, pixels, side, model.card.bands)
            child = [str(scene), str(folder / f'out{side}')]
            start = time.perf_counter()
            answer = subprocess.run(
                [sys.executable, __file__, args.scene, '--model', args.model, '--precision', args.precision,
                 '--child', *child],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            wall = time.perf_counter() - start
            *_, record, peak = answer.stdout.splitlines()
            peaks[side] = float(peak)
            speed, whole = (side**2 / 1e6 / seconds for seconds in (json.loads(record)['seconds'], wall))
            print(
                f'{side} x {side}: command {wall:.1f} s ({wall / 60:.1f} min), {whole:.3f} Mpx/s = '
                f'{whole / bare:.2f} of the bare forward; engine alone {speed / bare:.2f}; '
                f'peak {peaks[side]:.0f} MiB',
                flush=True,
            )
    if len(peaks) > 1:
        print(f'peak memory, largest to smallest side: {peaks[max(peaks)] / peaks[min(peaks)]:.3f}')


def beside_teacher(model: Model, path: Path, tiles: list[np.ndarray], precision: str, bare: float) -> None:
    """Print the speed of the network that an ONNX file holds, by both runtimes."""
    from geores.tasks.start import start_from

    network = geores.models.create(model.card.architecture, **model.card.architecture_kwargs)
    start_from(network, path, model.card.bands)
    teacher = Model(replace(model.card, name='teacher'), network)
    speed = bare_speed(Predictor(teacher, precision), tiles)
    print(f'teacher, same runtime: {speed:.3f} Mpx/s; the bundle is {bare / speed:.2f} times as fast')
    onnx = read_onnx(path, {'layout': 'NHWC'})
    by_onnx = bare_speed(lambda tile: onnx(torch.from_numpy(tile) / 10_000), tiles)
    print(f'teacher, ONNX Runtime: {by_onnx:.3f} Mpx/s; the bundle is {bare / by_onnx:.2f} times as fast')


if __name__ == '__main__':
    main()
