"""Time from the start of Python to the first classified tile of a small scene, now and at an earlier commit.

    git worktree add ../before COMMIT
    python benchmarks/start.py SCENE --before ../before [--model sentinel2] [--repeats 5] [--json FILE]

Both take turns, each in a process of its own, with the same interpreter and packages. Each is run once
before, so that files are warm. Given is the best of REPEATS of the wall clock and of the CPU's time: where
other work shares the machine, the ratio of the latter says more.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
FIRST_TILE = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import geores
assert geores.__file__.startswith(sys.argv[1]), geores.__file__

def progress(done, of):
    if done:  # a process has used this much CPU since its start, and the wall clock ran since it was told
        print(time.process_time(), time.time() - float(os.environ['STARTED']), flush=True)
        os._exit(0)

geores.classify(sys.argv[2], sys.argv[3], device='cpu', progress=progress)
"""


def first_tile(source: Path, scene: str, model: str) -> tuple[float, float]:
    """CPU seconds and seconds of the wall clock until the first tiles are classified."""
    import time

    answer = subprocess.run(
        [sys.executable, '-P', '-W', 'ignore', '-c', FIRST_TILE, str(source), scene, model],
        env=os.environ | {'STARTED': str(time.time())},
        capture_output=True,
        text=True,
        check=True,
    )
    cpu, wall = answer.stdout.split()
    return float(cpu), float(wall)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--before', type=Path, required=True, help='worktree of an earlier commit')
    parser.add_argument('--model', default='sentinel2')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--json', type=Path, help='keep the figures in this file')
    args = parser.parse_args()
    places = {'before': args.before.resolve(), 'now': HERE}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in places}
    for turn in range(args.repeats + 1):
        for name, place in places.items():
            measured = first_tile(place, args.scene, args.model)
            if turn:  # the first reads the files
                found[name].append(measured)
    best = {name: [min(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    print('| first tile after | CPU s | wall s |')
    print('|---|---|---|')
    for name, (cpu, wall) in best.items():
        print(f'| {name} | {cpu:.2f} | {wall:.2f} |')
    ratios = [now / before for now, before in zip(best['now'], best['before'], strict=True)]
    print(f'| ratio | {ratios[0]:.2f} | {ratios[1]:.2f} |')
    if args.json:
        record = {'load': os.getloadavg()[0], 'model': args.model, 'best': best, 'all': found}
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == '__main__':
    main()
