"""What comparing the checksums of DEFLATE costs: `geores classify` with and without it.

    python benchmarks/checksums.py [--side 3000] [--turns 3] [--model aerial-rgb]

Makes an aerial image (red, green and blue of 8 bits, in blocks of 512 pixels with DEFLATE), and classifies it
in turn with the comparison and without, each turn in a process of its own. Seconds are of the processor, all
threads together, so that other work on the machine counts little; those of the comparison are counted too.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

KINDS = ('with', 'without')


def write_scene(path: Path, side: int) -> None:
    """Write an image of rough ground under fine noise, of which DEFLATE leaves about two thirds."""
    draw = np.random.default_rng(0)
    rough = draw.integers(0, 127, (3, -(-side // 50), -(-side // 50))).astype(np.uint8)
    fine = draw.integers(0, 60, (3, side, side)).astype(np.uint8)
    with rasterio.open(
        path, 'w', driver='GTiff', width=side, height=side, count=3, dtype='uint8', crs='EPSG:32633',
        tiled=True, blockxsize=512, blockysize=512, compress='deflate', photometric='rgb',
        transform=Affine(1, 0, 4e5, 0, -1, 5.8e6),
    ) as file:  # fmt: skip
        file.write(rough.repeat(50, 1).repeat(50, 2)[:, :side, :side] + fine)


def classify(kind: str, scene: Path, model: str, out: Path) -> None:
    """What a child process does; prints its seconds, and those of the classification alone."""
    from geores.cli import app
    from geores.scenes.blocks import BlockSums

    given, spent = BlockSums.check, [0.0]

    def timed(*args: Any) -> None:  # noqa: ANN401 - what is given
        if kind == 'with':
            start = time.thread_time()
            given(*args)
            spent[0] += time.thread_time() - start

    BlockSums.check = timed  # type: ignore[method-assign]
    before = time.process_time()
    args = ['classify', str(scene), '--model', model, '--out', str(out), '--runtime', 'torch', '--quiet']
    app(args, standalone_mode=False)
    print(json.dumps([time.process_time() - before, spent[0]]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--side', type=int, default=3000)
    parser.add_argument('--turns', type=int, default=3)
    parser.add_argument('--model', default='aerial-rgb')
    parser.add_argument('--child', nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        kind, scene, model, out = given.child
        classify(kind, Path(scene), model, Path(out))
        return
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        scene = Path(name) / 'scene.tif'
        write_scene(scene, given.side)
        print(f'{given.side} x {given.side} x 3 of 8 bits, {scene.stat().st_size / 2**20:.0f} MiB')
        for turn in range(given.turns):
            for kind in KINDS if turn % 2 else KINDS[::-1]:
                out = f'{name}/{kind}{turn}'
                command = [sys.executable, __file__, '--child', kind, str(scene), given.model, out]
                said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                work, spent = json.loads(said.splitlines()[-1])
                seconds[kind].append(work)
                print(f'{kind}: {work:.2f} s, {spent:.2f} s of them ({spent / work:.1%}) compare', flush=True)
    least = {kind: min(found) for kind, found in seconds.items()}
    share = least['with'] / least['without'] - 1
    print(f'least of the turns: {least["with"]:.2f} s with, {least["without"]:.2f} s without ({share:+.1%})')


if __name__ == '__main__':
    main()
