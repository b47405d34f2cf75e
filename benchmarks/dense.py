"""What overlapping tiles cost and answer, tile by tile and with `--dense`.

    python benchmarks/dense.py SCENE [--side 1536] [--repeats 3] [--json FILE]

SCENE is a Sentinel-2 scene with the ten bands of `sentinel2`, as `make demo` installs one, mirrored to SIDE
pixels; for `aerial-rgb` its red, green and blue become 8-bit pixels. Float32 under torch throughout. Costs
are CPU seconds of whole classifications, from the first pixel read to the last score, best of REPEATS in
turns, beside those of tiles that do not overlap. Labels are compared with tile by tile at the same stride.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from classify import FORMATS, _write, as_eight_bit, machine, mosaic

import geores


def classified(path: Path, model: geores.Model, stride: int, *, dense: bool) -> tuple[float, np.ndarray]:
    """CPU seconds and scores, (rows, cols, K)."""
    options = {'bands': model.card.bands, 'precision': 'fp32', 'runtime': 'torch'}
    start = time.process_time()
    result = geores.classify(path, model, stride=stride, dense=dense, **options)
    seconds = time.process_time() - start
    return seconds, result.table.read('scores', *(slice(0, count) for count in result.plan.tiling.shape))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--side', type=int, default=1536)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--json', type=Path, help='keep the figures in this file')
    args = parser.parse_args()
    card = geores.load_model('sentinel2').card
    values = mosaic(args.scene, card.bands, args.side)
    record = {'machine': machine(), 'side': args.side, 'rows': []}
    print(', '.join(f'{name} {value}' for name, value in record['machine'].items()))
    print('| bundle | stride | tile by tile | dense | same labels | mean change of a probability |')
    print('|---|---|---|---|---|---|')
    for name in ('sentinel2', 'aerial-rgb'):
        model = geores.load_model(name)
        pixels = values if name == 'sentinel2' else as_eight_bit(values, card.bands)
        tile = model.card.input_size
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'scene.tif'
            size = 10 if name == 'sentinel2' else 0.3
            _write(path, pixels, size, FORMATS['uncompressed'], model.card.bands)
            ways = [(tile, False)] + [
                (s, dense) for s in (tile, tile // 2, tile // 4) for dense in (False, True)
            ]
            ways = [(s, dense) for s, dense in dict.fromkeys(ways) if s % 32 == 0]
            seconds: dict[tuple[int, bool], float] = {}
            scores: dict[tuple[int, bool], np.ndarray] = {}
            for _ in range(args.repeats):
                for way in ways:
                    took, scores[way] = classified(path, model, way[0], dense=way[1])
                    seconds[way] = min(took, seconds.get(way, took))
        for stride in sorted({s for s, _ in ways}, reverse=True):
            plain, dense = scores[stride, False], scores[stride, True]
            row = {
                'bundle': name, 'stride': f'{stride} of {tile}',
                'plain': seconds[stride, False] / seconds[tile, False],
                'dense': seconds[stride, True] / seconds[tile, False],
                'same': float((plain.argmax(-1) == dense.argmax(-1)).mean()),
                'change': float(np.abs(plain - dense).mean()),
            }  # fmt: skip
            record['rows'].append(row)
            print(
                f'| {name} | {row["stride"]} | {row["plain"]:.2f} | {row["dense"]:.2f} | {row["same"]:.1%} | '
                f'{row["change"]:.4f} |',
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == '__main__':
    main()
