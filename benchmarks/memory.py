"""Peak memory of classifying a small and a large scene, each in a process of its own.

    python benchmarks/memory.py [--sides 5000 20000] [--tile 4000] [--runtime torch]

Makes four-band scenes (uint16, deflate), classifies each with a ResNet-18 of random weights into a folder,
as the command does, and prints the largest resident set of each process and their ratio.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

BANDS = ('B02', 'B03', 'B04', 'B08')
LABELS = tuple('abcdefghij')


def write_scene(path: Path, side: int) -> None:
    """Write a scene of noise, block by block."""
    noise = np.random.default_rng(0).integers(1, 4000, (4, 512, 512)).astype(np.uint16)
    profile = {'tiled': True, 'blockxsize': 512, 'blockysize': 512, 'compress': 'deflate', 'zlevel': 1}
    transform = Affine(10, 0, 300_000, 0, -10, 5_900_000)
    with rasterio.open(
        path, 'w', driver='GTiff', count=4, height=side, width=side, dtype='uint16', crs='EPSG:32633',
        transform=transform, **profile,
    ) as file:  # fmt: skip
        for row in range(0, side, 512):
            for col in range(0, side, 512):
                height, width = min(512, side - row), min(512, side - col)
                file.write(noise[:, :height, :width], window=Window(col, row, width, height))
        file.descriptions = BANDS


def write_bundle(folder: Path) -> None:
    """Write a ResNet-18 of random weights."""
    from geores import ModelCard, models, save_bundle

    kwargs = {'in_chans': 4, 'num_classes': len(LABELS)}
    card = ModelCard(
        name=folder.name, description='Random weights.', architecture='resnet18', architecture_kwargs=kwargs,
        activation='softmax', task='single-label', sensor='Sentinel-2', processing_level='L2A', bands=BANDS,
        units='reflectance*10000', gsd=(8, 12), input_size=64, resampling='bilinear', mean=(1500.0,) * 4,
        std=(800.0,) * 4, labels=LABELS, thresholds=None, split_id='none', training_data='none',
        licence='CC0-1.0', metrics={},
    )  # fmt: skip
    save_bundle(folder, models.create('resnet18', **kwargs).eval(), card)


def classify(scene: Path, bundle: Path, out: Path, tile: int, runtime: str) -> None:
    """What the child process does; prints its largest resident set in MiB."""
    from geores.cli import app

    args = ['classify', str(scene), '--model', str(bundle), '--out', str(out), '--json']
    args += ['--tile', str(tile), '--runtime', runtime]
    app(args, standalone_mode=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--sides', type=int, nargs=2, default=(5000, 20000))
    parser.add_argument('--tile', type=int, default=64, help='pixels of a tile; the model takes 64')
    parser.add_argument('--runtime', default='auto')
    parser.add_argument('--child', type=Path, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        classify(*args.child, args.tile, args.runtime)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_bundle(folder / 'bundle')
        for side in args.sides:
            scene = folder / f'scene{side}.tif'
            write_scene(scene, side)
            start = time.perf_counter()
            command = [
                sys.executable,
                __file__,
                '--tile',
                str(args.tile),
                '--runtime',
                args.runtime,
                '--child',
                str(scene),
                str(folder / 'bundle'),
                str(folder / 'out'),
            ]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks.append(float(printed.split()[-1]))
            print(f'{side} x {side}: {peaks[-1]:.0f} MiB, {time.perf_counter() - start:.0f} s', flush=True)
            scene.unlink()
    print(f'ratio {peaks[1] / peaks[0]:.3f}')


if __name__ == '__main__':
    main()
