"""One run on a GPU, under eight minutes: equality with the CPU, memory over scenes, stages, km² a second.

Tiles that are cut on the host, as float32, are compared with regions that are sent as they are stored and cut
on the device (`tiles`): bits, bytes, and seconds of each stage, one after the other in one thread.

    python benchmarks/gpu.py [--scene SCENE] [--side 10980] [--devices cuda:0[,cuda:1]] [--json FILE]
    python benchmarks/gpu.py --dry [--json FILE]      # the same steps on the CPU, on a small scene

SCENE is a Sentinel-2 scene with the ten bands of `sentinel2`, mirrored to SIDE pixels; without it the scene
is noise. Every part is begun only while time is left (`--seconds`), and prints its line when it is done, so
that a run that is cut off has told what it found. What fails is a line too, and the exit code is 1.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import rasterio
import torch
from classify import machine, mosaic

import geores
from geores import models
from geores.classification.options import ClassifyOptions
from geores.inference import prepared as preparing
from geores.inference.on_device import DevicePlacement
from geores.inference.prepared import PreparedScene, prepare_scene
from geores.inference.region import cut_tiles, read_region, valid_tiles
from geores.runtime.base import exact_float32, pick_devices
from geores.runtime.predictor import Predictor, choose_predictor
from geores.scenes import gdal_env, open_scene

NEAR = {'fp32': 1e-3, 'fp16': 0.05, 'bf16': 0.15}
"""Farthest that a probability may lie from float32 on the CPU, of noise; scenes are checked on their own."""

BRIGHT = (0.0, 20_000.0, 65_535.0)
"""Values of whole tiles, beside noise, at which a narrow type could overflow."""


def write(folder: Path, source: str | None, bands: list[str], side: int) -> Path:
    """Write the scene uncompressed, in blocks."""
    if source is None:
        values = np.random.default_rng(0).integers(200, 4000, (len(bands), side, side), dtype=np.uint16)
    else:
        values = mosaic(source, bands, side)
    path = folder / 'S2A_MSIL2A_20240601T100000_N0510_R022_T33UUU_20240601T120000.tif'
    layout = {'tiled': True, 'blockxsize': 512, 'blockysize': 512, 'interleave': 'pixel', 'BIGTIFF': 'YES'}
    place = {'crs': 'EPSG:32633', 'transform': rasterio.Affine(10, 0, 3e5, 0, -10, 5e6)}
    shape = {'count': len(bands), 'height': side, 'width': side, 'dtype': 'uint16'}
    with rasterio.open(path, 'w', driver='GTiff', **shape, **layout, **place) as file:
        file.write(values)
        file.descriptions = bands
    return path


def wait(device: str) -> None:
    """Wait for what was asked of a device."""
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)


def equality(device: str, bundle: str, count: int) -> dict[str, Any]:
    """How far probabilities of a bundle lie from float32 on the CPU."""
    near, far = geores.load_model(bundle), geores.load_model(bundle, device)
    side = min(near.card.input_size, 128)
    noise = np.random.default_rng(1).normal(size=(count, len(near.card.bands), side, side))
    mean, std = (np.array(part)[:, None, None] for part in (near.card.mean, near.card.std))
    tiles = [*(noise * std + mean), *(np.full_like(noise[0], value) for value in BRIGHT)]
    tiles = np.stack(tiles).astype(np.float32)
    exact, found = Predictor(near)(tiles.copy())['scores'], {}
    kinds = ('fp32', 'fp16', 'bf16') if device.startswith('cuda') else ('fp32', 'bf16')
    with exact_float32():
        for precision in kinds:
            scores = Predictor(far, precision)(tiles.copy())['scores']
            again = Predictor(far, precision)(tiles.copy())['scores']
            found[precision] = float(np.abs(scores - exact).max())
            found[f'{precision} same bits twice'] = bool(np.array_equal(scores, again))
    found['near'] = all(found[kind] <= NEAR[kind] for kind in kinds)
    return found


def memory(device: str, path: Path, scenes: int) -> dict[str, Any]:
    """Memory that torch holds after each of several scenes with one model."""
    model, held = geores.load_model('sentinel2', device), []
    with rasterio.open(path) as file:
        west, south, east, north = *file.bounds[:2], file.bounds[0] + 5120, file.bounds[1] + 5120
    for _ in range(scenes):
        geores.classify(path, model, bbox=(west, south, east, north), runtime='torch')
        held.append(torch.cuda.memory_reserved(device) / 2**20 if device.startswith('cuda') else 0.0)
    return {
        'MiB after each': [round(one) for one in held],
        'grows': held[-1] > 1.1 * held[min(2, scenes - 1)],
    }


def forward(
    device: str, network: torch.nn.Module, bands: int, tile: int, batch: int, seconds: float
) -> dict[str, Any]:
    """Tiles a second of the bare forward, in batches that lie on the device."""
    dtype = torch.float16 if device.startswith('cuda') else torch.float32
    network = network.to(device, dtype, memory_format=torch.channels_last).eval()
    images = torch.randn(batch, bands, tile, tile, device=device, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(images)
        wait(device)
        start, rounds = time.perf_counter(), 0
        while time.perf_counter() - start < seconds or rounds < 1:
            network(images)
            wait(device)
            rounds += 1
    rate = rounds * batch / (time.perf_counter() - start)
    return {'tiles a second': round(rate, 1), 'km2 a second at 10 m': round(rate * (tile / 100) ** 2, 2)}


def tiles(device: str, path: Path, bundle: str, stride: int | None, chunks: int) -> dict[str, Any]:
    """Tiles cut on the host beside those cut on the device: whether they are equal, what each stage takes."""
    model = geores.load_model(bundle, device)
    options = ClassifyOptions.from_options({'stride': stride, 'device': device})
    with gdal_env(), exact_float32(), torch.inference_mode():
        prepared = prepare_scene(open_scene(str(path)), model.card, options, device=model.device.type)
        step = choose_predictor(model, 'auto', prepared.probe)
        ways = {'host': None, 'device': DevicePlacement([model.device])}
        kept, found = {}, {'precision': step.precision, 'chunks': min(chunks, len(prepared.plan))}
        for _ in range(
            2
        ):  # the first time blocks are decoded and kernels chosen; they are kept for the second
            for way, placement in ways.items():
                kept[way], found[way] = stages(prepared, step, placement, chunks)
    (one, bits), (other, more) = kept.values()
    found['largest difference of a tile'] = max(
        float((a - b).abs().max()) for a, b in zip(one, other, strict=True)
    )
    found['largest difference of a score'] = float(np.abs(bits - more).max())
    found['near'] = found['largest difference of a tile'] <= 1e-3 * float(max(a.abs().max() for a in one))
    return found


def stages(
    prepared: PreparedScene, step: Predictor, placement: DevicePlacement | None, chunks: int
) -> tuple[tuple[list[torch.Tensor], np.ndarray], dict[str, Any]]:
    """Work through some chunks: the first batch of tiles of each, all scores, seconds of each stage."""
    device = step.model.device
    took: dict[str, float] = dict.fromkeys(('read', 'units', 'cut', 'forward and back'), 0.0)
    first, scores, sent = [], [], 0

    def timed(name: str, start: float) -> float:
        wait(str(device))
        took[name] += time.perf_counter() - start
        return time.perf_counter()

    for chunk in list(prepared.plan)[:chunks]:
        now = time.perf_counter()
        region = read_region(prepared.plan, prepared.reader, chunk, prepared.card.fill, placement)
        now = timed('read', now)  # to float32 in the model's units, or with the way to the device as it is
        if placement is not None:
            region.pixels.on(device)
            now = timed('units', now)
        wanted = valid_tiles(prepared.plan, region)
        for part in np.array_split(wanted, max(1, -(-len(wanted) // prepared.plan.batch_size))):
            cut = cut_tiles(prepared.plan, region, part)
            if placement is None:
                sent += cut.nbytes
                images = torch.from_numpy(cut)
                images = images.pin_memory().to(device) if device.type == 'cuda' else images
            else:
                images = cut.on(device)
            now = timed('cut', now)  # with the way to the device of what is cut on the host
            if len(first) < chunks and part is not None and part[0].tolist() == wanted[0].tolist():
                first.append(images.cpu().clone())
                now = time.perf_counter()
            scores.append(step.probabilities(images).cpu().numpy())
            now = timed('forward and back', now)
        if placement is not None:
            stored = prepared.reader.read_stored(*prepared.plan.window(chunk.rows, chunk.cols))
            sent += sum(layer.values.nbytes for layer, _ in stored.layers)
    rounded: dict[str, Any] = {name: round(seconds, 4) for name, seconds in took.items()}
    return (first, np.concatenate(scores)), rounded | {'MB sent': round(sent / 1e6, 1)}


def whole(
    devices: str, path: Path, bundle: str, stride: int | None, *, on_host: bool = False
) -> dict[str, Any]:
    """A classification from the file to the last chunk, and to the files; tiles cut on the host, or not."""
    kinds = frozenset() if on_host else frozenset({devices.split(':')[0].split(',')[0]})
    with tempfile.TemporaryDirectory() as out, mock.patch.object(preparing, 'ON_DEVICE', kinds):
        start = time.perf_counter()
        (outcome,) = geores.classify_many([path], bundle, out=out, device=devices, stride=stride)
        seconds, result = time.perf_counter() - start, outcome.result
        with rasterio.open(path) as file:
            area = file.width * file.height * 1e-4
        return {
            'seconds with files': round(seconds, 1), 'seconds of the run': round(result.info.seconds, 1),
            'km2 a second': round(area / seconds, 1), 'precision': result.info.precision,
            'notes': list(result.info.notes),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--scene')
    parser.add_argument('--side', type=int, default=10_980)
    parser.add_argument('--devices', default='cuda:0')
    parser.add_argument('--seconds', type=float, default=450.0, help='parts are begun until then')
    parser.add_argument('--dry', action='store_true', help='on the CPU, small')
    parser.add_argument('--json', type=Path, help='keep the figures in this file')
    args = parser.parse_args()
    begun = time.perf_counter()
    names = 'cpu,cpu' if args.dry else args.devices
    side, batch, scenes, count = (512, 4, 2, 2) if args.dry else (args.side, 256, 20, 64)
    seconds = 0.1 if args.dry else 3.0
    device = pick_devices(names)[0]
    record: dict[str, Any] = {'machine': machine(), 'devices': names, 'parts': {}}
    if device.startswith('cuda'):
        record['machine']['gpu'] = torch.cuda.get_device_name(device)
    print(', '.join(f'{name} {value}' for name, value in record['machine'].items()), flush=True)
    bands = list(geores.load_model('sentinel2').card.bands)
    good = True

    def part(name: str, work: Callable[[], dict[str, Any]]) -> None:
        nonlocal good
        if time.perf_counter() - begun > args.seconds:
            print(f'{name}: left out, for time is over', flush=True)
            return
        start = time.perf_counter()
        try:
            found = work()
        except Exception as error:  # the other parts are still worth their time
            found = {'error': f'{type(error).__name__}: {error}'.splitlines()[0]}
        good = good and not ('error' in found or found.get('near') is False or found.get('grows') is True)
        record['parts'][name] = found | {'took': round(time.perf_counter() - start, 1)}
        print(f'{name}: {json.dumps(record["parts"][name])}', flush=True)
        if args.json:
            args.json.write_text(json.dumps(record, indent=1))

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), args.scene, bands, side)
        bundles = ('sentinel2', 'aerial-rgb', 'aerial-scenes', 'landcover')
        for bundle in bundles[: 1 if args.dry else None]:
            part(f'equality {bundle}', lambda b=bundle: equality(device, b, count))
        part('memory over scenes', lambda: memory(device, path, scenes))
        for name in ('resnet18', 'resnet50'):
            network = models.create(name, in_chans=10, num_classes=19)
            part(f'forward {name} 120', lambda n=network: forward(device, n, 10, 120, batch, seconds))
        landcover = geores.load_model('landcover')
        shape = (len(landcover.card.bands), 256, max(2, batch // 8))
        part('forward landcover 256', lambda: forward(device, landcover.network, *shape, seconds))
        runs = (('sentinel2', None), ('sentinel2', 16), ('landcover', None))
        for bundle, stride in runs:
            title = f'tiles {bundle}' + (f' stride {stride}' if stride else '')
            part(title, lambda b=bundle, s=stride: tiles(device, path, b, s, 1 if args.dry else 12))
        for bundle, stride in runs:
            for on_host in (False, True):
                if not (args.dry and stride):
                    title = f'whole {bundle}' + (f' stride {stride}' if stride else '')
                    title += ', tiles cut on the host' if on_host else ''
                    part(title, lambda b=bundle, s=stride, h=on_host: whole(device, path, b, s, on_host=h))
        if ',' in names:
            part('whole sentinel2, all devices', lambda: whole(names, path, 'sentinel2', None))
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
