"""How fast questions are made.

Seconds of the clock and of the processors, tiles and questions a second in one process and in two, over grids
of more and more tiles with the same objects to a tile, each in a program of its own and in turns.

    python benchmarks/questions.py [--tiles 36 144 576 1296] [--rounds 3] [--balance answers] [--json]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import LineString, box

TILE, GSD, QUESTIONS = 256, 10.0, 100
A_TILE = 60
"""Objects to a tile: about what the Brandenburg extract has, with buildings and roads beside."""
CLASSES = ('forest', 'meadow', 'water', 'residential', 'scrub', 'farm', 'building', 'building', 'building')


def write_inputs(folder: Path, tiles: int) -> None:
    side = int(np.sqrt(tiles))
    width, high = side * TILE, tiles // side * TILE
    west, north = 400_000.0, 5_900_000.0
    profile = {'driver': 'GTiff', 'dtype': 'uint8', 'count': 3, 'height': high, 'width': width, 'tiled': True}
    place = {'crs': 'EPSG:32633', 'transform': from_origin(west, north, GSD, GSD), 'compress': 'deflate'}
    rng = np.random.default_rng(0)
    with rasterio.open(folder / 'scene.tif', 'w', **profile, **place, photometric='rgb') as file:
        for row in range(0, high, TILE):
            window = rasterio.windows.Window(0, row, width, TILE)
            file.write(rng.integers(0, 255, (3, TILE, width), np.uint8), window=window)
    rows, shapes = [], []
    for number in range(A_TILE * tiles):
        x, y = west + rng.uniform(0, width * GSD), north - rng.uniform(0, high * GSD)
        wide, long = rng.uniform(10, 400, 2)
        road = number % 10 == 0
        rows.append('primary' if road else CLASSES[number % len(CLASSES)])
        shapes.append(LineString([(x, y), (x + wide, y + long)]) if road else box(x, y, x + wide, y + long))
    ids = [str(number) for number in range(len(rows))]
    frame = gpd.GeoDataFrame({'osm_id': ids, 'fclass': rows}, geometry=shapes, crs='EPSG:32633')
    frame.to_file(folder / 'osm.gpkg')


MAKE = """
import json, os, sys, time
from pathlib import Path
start = time.perf_counter()
from geores.question_sets.make import make_questions
from geores.question_sets.options import MakeOptions

def cpu():
    # Of this program, and of the ones it started, which need not have ended.
    ticks, mine = os.sysconf('SC_CLK_TCK'), os.getpid()
    seconds = time.process_time()
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rsplit(')', 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == mine:
            seconds += sum(map(int, fields[11:15])) / ticks
    return seconds

if __name__ == '__main__':
    folder, jobs, tile, questions, balance = Path(sys.argv[1]), *map(int, sys.argv[2:5]), sys.argv[5]
    options = MakeOptions(tile=tile, questions=questions, fractions=(1.0,), balance=balance)
    imported = time.perf_counter() - start
    made = make_questions([str(folder / 'scene.tif')], [str(folder / 'osm.gpkg')], folder / f'out-{jobs}',
                          options, jobs=jobs, overwrite=True)
    print(json.dumps({'questions': sum(made.questions.values()), 'imports': imported,
                      'seconds': time.perf_counter() - start, 'cpu': cpu()}))
"""


def made(folder: Path, tiles: int, jobs: int, balance: str) -> dict[str, float]:
    """One run, with its imports."""
    program = folder / 'make.py'
    program.write_text(MAKE)
    command = [sys.executable, program, folder, jobs, TILE, QUESTIONS, balance]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    rates = {
        'tiles_per_second': tiles / found['seconds'],
        'tiles_per_cpu_second': tiles / found['cpu'],
        'questions_per_second': found['questions'] / found['seconds'],
    }
    return {'tiles': tiles, 'jobs': jobs} | {name: round(one, 2) for name, one in (found | rates).items()}


def median(rows: list[dict[str, float]]) -> dict[str, float]:
    """The run of the median of seconds."""
    return sorted(rows, key=lambda row: row['seconds'])[len(rows) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tiles', type=int, nargs='+', default=[36, 144, 576, 1296])
    parser.add_argument('--rounds', type=int, default=1)
    parser.add_argument('--balance', default='questions')
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        for tiles in options.tiles:
            folder = Path(name) / str(tiles)
            folder.mkdir()
            write_inputs(folder, tiles)
            runs = {jobs: [] for jobs in (1, 2)}
            for _ in range(options.rounds):
                for jobs, rows in runs.items():
                    rows.append(made(folder, tiles, jobs, options.balance))
            results += [show(median(rows), options.json) for rows in runs.values()]
    if options.json:
        print(json.dumps(results))


def show(row: dict[str, float], quiet: bool) -> dict[str, float]:
    if not quiet:
        print('  '.join(f'{key} {value}' for key, value in row.items()), flush=True)
    return row


if __name__ == '__main__':
    main()
