"""How many labels of the shipped bundles stay the same under each runtime and precision.

    python benchmarks/labels.py SCENE [--tiles 512] [--json FILE]

SCENE is a Sentinel-2 scene with the ten bands of `sentinel2`, as `make demo` installs one. For the bundles
of aerial images its red, green and blue become 8-bit pixels. Tiles are spread evenly over the scene. Compared
with float32 eager: the network as it is, called by torch, no norms folded and no layout changed. A tile
counts as the same where all its labels are. In bf16 and int8 tiles whose labels are nearly tied are computed
again in float32, as `geores classify` does: `plain` is without that, `again` the share of the tiles, and the
bound is measured on four tiles, as there. Costs are seconds of the processor, over all tiles of a row. Of
`landcover` pixels are compared, of which none is computed again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from classify import as_eight_bit, machine, mosaic

import geores
from geores.model import Model
from geores.runtime.base import one_thread_each
from geores.runtime.candidates import Runtimes
from geores.runtime.choice import Workload
from geores.runtime.exported import installed_runtimes
from geores.runtime.nearness import LabelRule

BUNDLES = ('sentinel2', 'aerial-rgb', 'aerial-scenes', 'landcover')
BATCH = 16
PIXELS = 256
"""Side of the tiles of a bundle that labels pixels."""
WANTED = {'fp32': 0.9995, 'bf16': 0.993, 'int8': 0.98}


def spread(values: np.ndarray, side: int, count: int) -> np.ndarray:
    """Tiles on a grid over the whole scene, (n, bands, side, side)."""
    along = max(2, round(count**0.5))
    tops, lefts = (np.linspace(0, size - side, along).astype(int) for size in values.shape[1:])
    return np.stack([values[:, top : top + side, left : left + side] for top in tops for left in lefts])


def contenders(model: Model, probe: np.ndarray) -> Runtimes:
    """Makes every runtime at every precision that it has here."""
    work = Workload(probe.shape[1:], BATCH, 10**6, 1)
    return Runtimes(model, probe, LabelRule.of(model.card), work, compile=False)


def same_labels(model: Model, rule: LabelRule, found: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Whether the labels of tiles are the same, (N,), or of pixels, (N, H, W)."""
    if model.card.task == 'segmentation':
        return found.argmax(1) == exact.argmax(1)
    return (rule.labels(found) == rule.labels(exact)).all(1)


@torch.inference_mode()
def compare(model: Model, tiles: np.ndarray) -> list[dict[str, object]]:
    """One row per runtime and precision."""
    places = [round(place * (len(tiles) - 1)) for place in (0.2, 0.4, 0.6, 0.8)]
    made, rule = contenders(model, tiles[places].astype(np.float32)), LabelRule.of(model.card)
    ways = [('torch', 'fp32'), ('torch', 'bf16')]
    ways += [(name, 'fp32') for name in installed_runtimes()[1:]]
    if 'openvino' in installed_runtimes():
        ways += [('openvino', 'bf16'), ('openvino', 'int8')]
    with one_thread_each():
        ties = {way: made.ties(*way) for way in ways}
        answers = {way: [] for way in [None, *ways]}
        seconds = dict.fromkeys(ways, 0.0)
        for start in range(0, len(tiles), BATCH):
            images = model.normalise(torch.from_numpy(tiles[start : start + BATCH].astype(np.float32)))
            answers[None].append(model.activate(model.network(images)))
            for way in ways:
                runtime, copy = made.get(*way), images.clone()
                if start == 0:
                    runtime(images.clone())
                used = time.process_time()
                answers[way].append(model.activate(runtime(copy)))
                seconds[way] += time.process_time() - used
    exact = torch.cat(answers[None])
    rows = []
    for way in ways:
        found, cost = torch.cat(answers[way]), seconds[way] / len(tiles)
        plain = revised = same_labels(model, rule, found, exact)
        again = torch.zeros(len(tiles), dtype=torch.bool)
        if ties[way] is not None:
            again = ties[way].find(found)
            revised = plain | again
            cost += float(again.double().mean()) * seconds[way[0], 'fp32'] / len(tiles)
        far = (found - exact).abs().flatten(1).amax(1)[~again]
        rows.append(
            {'runtime': way[0], 'precision': way[1], 'compared': plain.numel(),
             'plain': float(plain.double().mean()), 'again': float(again.double().mean()),
             'same': float(revised.double().mean()), 'farthest': float(far.max()), 'cpu_ms': 1000 * cost}
        )  # fmt: skip
    return rows


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
    print('| bundle | runtime | precision | compared | plain | again | same | wanted | farthest | CPU ms |')
    print('|---|---|---|---|---|---|---|---|---|---|')
    for name in args.bundles:
        model = geores.load_model(name)
        pixels = model.card.task == 'segmentation'
        side = PIXELS if pixels else model.card.input_size
        of_bundle = as_eight_bit(values, bands) if name.startswith('aerial') else values
        if of_bundle is values:
            of_bundle = values[[bands.index(band) for band in model.card.bands]]
        rows = compare(model, spread(of_bundle, side, args.tiles // (32 if pixels else 1)))
        record['rows'] += [{'bundle': name} | row for row in rows]
        for row in rows:
            what = 'pixels' if pixels else 'tiles'
            print(
                f'| {name} | {row["runtime"]} | {row["precision"]} | {row["compared"]:,} {what} | '
                f'{row["plain"]:.2%} | {row["again"]:.1%} | {row["same"]:.3%} | '
                f'{WANTED[row["precision"]]:.2%} | {row["farthest"]:.4f} | {row["cpu_ms"]:.2f} |',
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == '__main__':
    main()
