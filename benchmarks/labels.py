"""How many labels of the shipped bundles stay the same under each runtime and precision.

    python benchmarks/labels.py SCENE [--tiles 512] [--json FILE]

SCENE is a Sentinel-2 scene with the ten bands of `sentinel2`, as `make demo` installs one. For `aerial-rgb`
its red, green and blue become 8-bit pixels. Tiles are spread evenly over the scene. Compared with float32
eager: the network as it is, called by torch, no norms folded and no layout changed. Of `landcover` pixels are
compared.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from classify import as_eight_bit, machine, mosaic

import geores
from geores.model import Model
from geores.runtime.base import one_thread_each
from geores.runtime.choice import make_exported
from geores.runtime.eager import EagerRuntime
from geores.runtime.exported import installed_runtimes

BUNDLES = ('sentinel2', 'aerial-rgb', 'landcover')
BATCH = 8
PIXELS = 256
"""Side of the tiles of a bundle that labels pixels."""
WANTED = {'fp32': 0.9995, 'bf16': 0.993}


def spread(values: np.ndarray, side: int, count: int) -> np.ndarray:
    """Tiles on a grid over the whole scene, (n, bands, side, side)."""
    along = max(2, round(count**0.5))
    tops, lefts = (np.linspace(0, size - side, along).astype(int) for size in values.shape[1:])
    return np.stack([values[:, top : top + side, left : left + side] for top in tops for left in lefts])


def contenders(model: Model, shape: tuple[int, int, int]) -> dict[tuple[str, str], object]:
    """Every runtime at every precision that it has here."""
    cpu, made = torch.device('cpu'), {}
    for precision in ('fp32', 'bf16'):
        made['torch', precision] = EagerRuntime(model.network, precision, cpu)
        for name in installed_runtimes()[1:]:
            if precision == 'fp32' or name == 'openvino':
                made[name, precision] = make_exported(name, model.network, precision, shape)
    return made


@torch.inference_mode()
def compare(model: Model, tiles: np.ndarray) -> list[dict[str, object]]:
    """One row per runtime and precision."""
    runtimes = contenders(model, tiles.shape[1:])
    same, far, seen = dict.fromkeys(runtimes, 0), dict.fromkeys(runtimes, 0.0), 0
    with one_thread_each():
        for start in range(0, len(tiles), BATCH):
            images = torch.from_numpy(tiles[start : start + BATCH].astype(np.float32))
            exact = model.activate(model.network(model.normalise(images)))
            labels = exact.argmax(1)
            seen += labels.numel()
            for key, runtime in runtimes.items():
                found = model.activate(runtime(model.normalise(images)))
                same[key] += int((found.argmax(1) == labels).sum())
                far[key] = max(far[key], float((found - exact).abs().max()))
    return [
        {'runtime': name, 'precision': precision, 'compared': seen, 'same': same[name, precision] / seen,
         'farthest': far[name, precision]}
        for name, precision in runtimes
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--tiles', type=int, default=512)
    parser.add_argument(
        '--side', type=int, default=3600, help='pixels of the scene, mirrored where it is smaller'
    )
    parser.add_argument('--bundles', nargs='+', choices=BUNDLES, default=BUNDLES)
    parser.add_argument('--json', type=Path, help='keep the figures in this file')
    args = parser.parse_args()
    bands = geores.load_model('sentinel2').card.bands
    values = mosaic(args.scene, bands, args.side)
    record = {'machine': machine(), 'rows': []}
    print(', '.join(f'{name} {value}' for name, value in record['machine'].items()))
    print('| bundle | runtime | precision | compared | same labels | wanted | farthest probability |')
    print('|---|---|---|---|---|---|---|')
    for name in args.bundles:
        model = geores.load_model(name)
        pixels = model.card.task == 'segmentation'
        side = PIXELS if pixels else model.card.input_size
        of_bundle = as_eight_bit(values, bands) if name == 'aerial-rgb' else values
        if of_bundle is values:
            of_bundle = values[[bands.index(band) for band in model.card.bands]]
        rows = compare(model, spread(of_bundle, side, args.tiles // (32 if pixels else 1)))
        record['rows'] += [{'bundle': name} | row for row in rows]
        for row in rows:
            what = 'pixels' if pixels else 'tiles'
            print(
                f'| {name} | {row["runtime"]} | {row["precision"]} | {row["compared"]:,} {what} | '
                f'{row["same"]:.3%} | {WANTED[row["precision"]]:.2%} | {row["farthest"]:.4f} |',
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == '__main__':
    main()
