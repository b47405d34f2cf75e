"""Files of every format that is read, damaged at random: which damage is found, and does anything fall?

    python benchmarks/fuzz.py [--mutations 2000] [--formats tiff ...] [--seed 0] [--keep FOLDER]

Makes a small sound file of each format and damages it: bits flipped, bytes zeroed, replaced, cut off, moved
or put in; in text also numbers and words. Every damaged file is read as the commands read it, in a process of
its own with bounded memory and time. Prints what became of them:

    same         read, and all of it as from the sound file
    error        refused by an error of geores, on one line
    differs      read, and something of it is other than in the sound file
    fault        an exception that is none of geores' (a traceback for whoever uses the library)
    crash, hang  the process was ended by a signal, or was not done within 20 seconds of the processor

Ends with 1 where anything is a fault, a crash or a hang, or differs though its format carries a checksum.
"""

import argparse
import hashlib
import importlib
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

SECONDS = 20
PATIENCE = 600  # seconds by the clock, where a machine has more to do
MEMORY = 3 * 2**30
SIDE = 96
OUTCOMES = ('same', 'error', 'differs', 'fault', 'crash', 'hang')

Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Format:
    """A format: a sound file, and how it is read.

    Attributes:
        name: for the table.
        path: of the sound file, in a folder of its own that holds all that is read with it.
        read: reads what is at a path, all of it.
        opens: what is opened, where it is not the file itself.
        summed: whether a checksum covers all that is read.
        weight: share of the mutations, relative to the other formats.
    """

    name: str
    path: Path
    read: Reader
    opens: str | None = None
    summed: bool = False
    weight: float = 1.0


def fixtures(name: str) -> Any:  # noqa: ANN401 - a module
    """Import a module of tests/, which is no package that is installed."""
    folder = str(Path(__file__).parents[1] / 'tests')
    if folder not in getattr(sys.modules.get('tests'), '__path__', ()):
        sys.modules['tests'] = ModuleType('tests')
        sys.modules['tests'].__path__ = [folder]
    return importlib.import_module(f'tests.{name}')


def read_scene(path: Path) -> object:
    """All pixels of a scene and their validity, at full size and coarsely."""
    from geores.scenes import open_scene

    with open_scene(path) as scene:
        found: list[object] = [scene.bands, str(scene.crs), scene.notes]
        for raster in scene.rasters:
            height, width = raster.geobox.shape
            if height * width * raster.count > 2**26:  # a header that was changed; classify reads windows
                height, width = min(height, 512), min(width, 512)
            indexes = list(range(1, raster.count + 1))
            found += [raster.geobox.affine, *raster.read(indexes, slice(0, height), slice(0, width))]
            found += raster.read_coarse(1, 32)
    return found


def read_area(path: Path) -> object:
    """An area of interest, laid on a grid."""
    from geores.inference.target import target_grid
    from geores.scenes import open_scene

    target = target_grid(open_scene(path.parents[1] / 'scene.tif'), (1.0, 30.0), aoi=path)
    return target.grid.affine, target.grid.shape, target.area.wkb if target.area else None


def read_objects(path: Path) -> object:
    """Objects of OpenStreetMap."""
    from geores.osm import load_mapping, read_osm

    found = read_osm([path], (-180.0, -90.0, 180.0, 90.0), load_mapping())
    return found.ids, [str(one) for one in found.categories], [one.wkb for one in found.geometry]


def read_to_split(path: Path) -> object:
    """A table as `geores split` reads it."""
    from geores.splits.source import footprints_of, read_source

    source = read_source(path)
    places = footprints_of(source)
    return source.frame.to_csv(), None if places is None else [one.wkb for one in places]


def read_model(path: Path) -> object:
    """A bundle, and scores of it."""
    from geores.bundle import load_model

    model = load_model(path)
    images = np.random.default_rng(0).integers(1, 250, (2, len(model.card.bands), 32, 32)).astype(np.float32)
    return model.card, model.predict(images)


def read_patches(path: Path) -> object:
    """All patches of a reBEN in any layout, against the checksums beside them."""
    from geores.bigearthnet.convert import verify_reben
    from geores.errors import ReadError

    found = verify_reben(path)
    if found.faults:
        raise ReadError(str(found.faults[0]))
    return found.counts


def parse_config(path: Path) -> object:
    """A configuration of a training; nothing is trained."""
    from geores.cli import main

    sys.argv = ['geores', 'train', '--config', str(path), '--print_config']
    return run_command(main)


def read_earlier(path: Path) -> object:
    """A folder of results, asked for what stands there."""
    from geores.cli import main

    scene, model = path.parent / 'scene.tif', path.parent / 'tiny'
    sys.argv = ['geores', 'classify', str(scene), '--model', str(model), '--out', str(path), '--workers', '1']
    run_command(main)
    return None


def run_command(main: Callable[[], None]) -> str:
    """Run the command line here; an error on one line becomes an error of geores again."""
    from contextlib import redirect_stderr, redirect_stdout

    from geores.errors import GeoresError

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    if code:
        if 'a fault of geores' in err.getvalue() or 'Traceback' in err.getvalue():
            raise AssertionError(err.getvalue())
        raise GeoresError(err.getvalue().strip().splitlines()[-1])
    return out.getvalue()


def make_formats(folder: Path) -> list[Format]:
    """Make a sound file of every format, each in a folder of its own."""
    return [*rasters(folder), *vectors(folder), *open_street_map(folder), *tables(folder), *models(folder)]


def rasters(folder: Path) -> list[Format]:
    """Scenes of every format and compression, and what lies beside them."""
    import rasterio
    from rasterio.shutil import copy

    basic, scenes = fixtures('fixtures'), fixtures('scene_fixtures')
    values, deep = (basic.noise(3, SIDE, SIDE), basic.noise(4, SIDE, SIDE, 'uint16') * 20)
    named = {'photometric': 'rgb', 'tiled': True, 'blockxsize': 32, 'blockysize': 32}

    def tiff(name: str, pixels: Any = values, **options: object) -> Path:  # noqa: ANN401
        place = folder / name / 'a.tif'
        rgb = (
            named
            if pixels is values
            else {key: value for key, value in named.items() if key != 'photometric'}
        )
        described = None if pixels is values else ('B02', 'B03', 'B04', 'B08')
        return Path(scenes.write_tiff(place, pixels, descriptions=described, **(rgb | options)))

    found = [
        Format('tiff-deflate', tiff('deflate', compress='deflate'), read_scene, weight=3),
        Format('tiff-deflate-bands', tiff('bands', deep, compress='deflate', predictor=2, interleave='band'),
               read_scene, weight=2),
        Format('tiff-lzw', tiff('lzw', compress='lzw'), read_scene),
        Format('tiff-zstd', tiff('zstd', compress='zstd'), read_scene),
        Format('tiff-lzma', tiff('lzma', compress='lzma'), read_scene),
        Format('tiff-lerc', tiff('lerc', deep, compress='lerc'), read_scene),
        Format('tiff-none', tiff('none'), read_scene),
        Format('tiff-jpeg', tiff('jpeg', compress='jpeg', photometric='ycbcr'), read_scene),
    ]  # fmt: skip
    cog = folder / 'cog' / 'a.tif'
    cog.parent.mkdir()
    copy(found[0].path, cog, driver='COG', compress='deflate', blocksize=128, overview_count=1)
    found.append(Format('cog-deflate', cog, read_scene, weight=2))
    beside = tiff('overviews', compress='deflate')
    with rasterio.Env(TIFF_USE_OVR=True, COMPRESS_OVERVIEW='DEFLATE'), rasterio.open(beside, 'r+') as file:
        file.build_overviews([2, 4])
    if Path(f'{beside}.ovr').is_file():
        found.append(Format('tiff .ovr', Path(f'{beside}.ovr'), read_scene, 'a.tif'))
    masked = tiff('mask', compress='deflate')
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(masked, 'r+') as file:
        file.write_mask(values[0] > 100)
    found.append(Format('tiff .msk', Path(f'{masked}.msk'), read_scene, 'a.tif'))
    described = tiff('metadata', compress='deflate')
    side = Path(f'{described}.aux.xml')
    side.write_text(
        '<PAMDataset><Metadata><MDI key="a">b</MDI></Metadata><PAMRasterBand band="1">'
        '<NoDataValue>7</NoDataValue><Description>red</Description></PAMRasterBand></PAMDataset>'
    )
    found.append(Format('tiff .aux.xml', side, read_scene, 'a.tif'))
    jp2 = scenes.write_jp2(folder / 'jp2' / 'a.jp2', deep)
    product = scenes.write_safe(folder / 'safe', 'L1C', xml=scenes.metadata('L1C'))
    found += [
        Format('jpeg 2000', jp2, read_scene, weight=2),
        Format('product xml', product / 'MTD_MSIL1C.xml', read_scene, '.', weight=1.5),
    ]
    for driver, ending, world in (('PNG', 'png', 'pgw'), ('JPEG', 'jpg', 'jgw')):
        for name, changed in ((ending, f'a.{ending}'), (f'{ending} world file', f'a.{world}')):
            place = folder / name.replace(' ', '-')
            scenes.write_tiff(place / f'a.{ending}', values, driver=driver, crs=None)
            (place / f'a.{world}').write_text('10.0\n0.0\n0.0\n-10.0\n300005.0\n5799995.0\n')
            found.append(Format(name, place / changed, read_scene, f'a.{ending}'))
    return found


def vectors(folder: Path) -> list[Format]:
    """Areas of interest in every format of vectors."""
    import geopandas as gpd
    from shapely.geometry import box

    scenes = fixtures('scene_fixtures')
    scenes.write_tiff(folder / 'scene.tif', fixtures('fixtures').noise(3, SIDE, SIDE), photometric='rgb')
    frame = gpd.GeoDataFrame(
        {'name': ['one', 'two']},
        geometry=[box(300_100, 5_799_300, 300_500, 5_799_900), box(300_400, 5_799_200, 300_800, 5_799_600)],
        crs='EPSG:32633',
    )
    found = []
    for kind, ending in (('geopackage', 'gpkg'), ('geojson', 'geojson'), ('geoparquet', 'parquet'),
                         ('flatgeobuf', 'fgb'), ('shapefile', 'shp')):  # fmt: skip
        path = folder / kind / f'a.{ending}'
        path.parent.mkdir()
        data = frame.to_crs('EPSG:4326') if kind == 'geojson' else frame
        data.to_parquet(path) if ending == 'parquet' else data.to_file(path)
        found.append(Format(kind, path, read_area))
    found.append(Format('shapefile .dbf', folder / 'shapefile' / 'a.dbf', read_area, 'a.shp', weight=0.5))
    found.append(Format('shapefile .prj', folder / 'shapefile' / 'a.prj', read_area, 'a.shp', weight=0.5))
    return found


def open_street_map(folder: Path) -> list[Format]:
    """OpenStreetMap's objects in every format, and mappings of tags."""
    import osmium

    from geores.osm import load_mapping

    folder = folder / 'osm'
    text = ['<?xml version="1.0"?><osm version="0.6">']
    for number in range(20):
        west, south = 13 + number / 100, 52.0
        corners = [(west, south), (west + 0.005, south), (west + 0.005, south + 0.005), (west, south + 0.005)]
        text += [
            f'<node id="{10 * number + at + 1}" lat="{lat:.4f}" lon="{lon:.4f}" version="1"/>'
            for at, (lon, lat) in enumerate(corners)
        ]
    for number in range(20):
        refs = ''.join(f'<nd ref="{10 * number + at + 1}"/>' for at in (0, 1, 2, 3, 0))
        kind = ('natural', 'water') if number % 2 else ('landuse', 'forest')
        text.append(f'<way id="{number + 1}" version="1">{refs}<tag k="{kind[0]}" v="{kind[1]}"/></way>')
    text.append('</osm>')
    for name in ('xml', 'pbf', 'bz2', 'overpass', 'mapping'):
        (folder / name).mkdir(parents=True)
    xml = folder / 'xml' / 'a.osm'
    xml.write_text('\n'.join(text))
    for path in (folder / 'pbf' / 'a.osm.pbf', folder / 'bz2' / 'a.osm.bz2'):
        with osmium.SimpleWriter(str(path)) as writer:
            for one in osmium.FileProcessor(str(xml)):
                writer.add(one)
    elements = [
        {'type': 'way', 'id': number, 'tags': {'natural': 'water'},
         'geometry': [{'lat': 52 + y, 'lon': 13 + number / 100 + x}
                      for x, y in ((0, 0), (0.005, 0), (0.005, 0.005), (0, 0.005), (0, 0))]}
        for number in range(1, 8)
    ]  # fmt: skip
    answer = folder / 'overpass' / 'a.json'
    answer.write_text(json.dumps({'version': 0.6, 'elements': elements}, indent=1))
    mapping = folder / 'mapping' / 'a.yaml'
    shutil.copy(Path(sys.modules['geores.osm'].__path__[0]) / 'mapping.yaml', mapping)
    return [
        Format('osm pbf', folder / 'pbf' / 'a.osm.pbf', read_objects, weight=2),
        Format('osm xml', xml, read_objects),
        Format('osm bz2', folder / 'bz2' / 'a.osm.bz2', read_objects),
        Format('overpass json', answer, read_objects, weight=1.5),
        Format('mapping yaml', mapping, load_mapping, weight=0.5),
    ]


def tables(folder: Path) -> list[Format]:
    """Tables of places, points and predictions."""
    import pandas as pd

    from geores.cartography.colours import read_colours
    from geores.evaluation.prediction_file import read_predictions
    from geores.map_accuracy.class_maps import read_sample

    draw = np.random.default_rng(0)
    frame = pd.DataFrame({
        'id': [f'p{n}' for n in range(40)], 'label': ['wood', 'water'] * 20, 'lon': draw.uniform(13, 14, 40),
        'lat': draw.uniform(52, 53, 40),
    })  # fmt: skip
    for name in ('csv', 'parquet', 'jsonl', 'predictions', 'colours'):
        (folder / f'table-{name}').mkdir()
    frame.to_csv(folder / 'table-csv' / 'a.csv', index=False)
    frame.to_parquet(folder / 'table-parquet' / 'a.parquet')
    lines = [
        json.dumps({'question_id': n, 'answer': 'yes', 'question': 'Is there water?'}) for n in range(30)
    ]
    (folder / 'table-jsonl' / 'a.jsonl').write_text('\n'.join(lines))
    answers = pd.DataFrame({'question_id': range(30), 'answer': ['yes', 'no'] * 15})
    answers.to_parquet(folder / 'table-predictions' / 'a.parquet')
    (folder / 'table-colours' / 'a.json').write_text(json.dumps({'wood': '#00ff00', 'water': '#0000ff'}))
    return [
        Format('table csv', folder / 'table-csv' / 'a.csv', read_to_split),
        Format('table parquet', folder / 'table-parquet' / 'a.parquet', read_to_split),
        Format('sample csv', folder / 'table-csv' / 'a.csv', lambda at: read_sample(at).to_csv(), weight=0.5),
        Format('predictions jsonl', folder / 'table-jsonl' / 'a.jsonl', read_predictions, weight=0.5),
        Format('predictions parquet', folder / 'table-predictions' / 'a.parquet', read_predictions),
        Format('colours json', folder / 'table-colours' / 'a.json', read_colours, weight=0.5),
    ]  # fmt: skip


def models(folder: Path) -> list[Format]:
    """Bundles, configurations, patches in a store, and what an earlier run left."""
    import lightning  # noqa: F401 - here, not in every child

    import geores.datasets
    import geores.tasks
    import geores.training.train  # noqa: F401
    from geores.bigearthnet.convert import convert_reben

    basic = fixtures('fixtures')
    bundle = basic.tiny_bundle(folder / 'bundle' / 'tiny')
    recipe = folder / 'recipe'
    fixtures('surviving_fixtures').write_images(recipe / 'images')
    fixtures('surviving_fixtures').recipe(recipe)
    fixtures('reben_fixtures').make_reben(folder / 'released', count=2)
    store = folder / 'store' / 'a'
    convert_reben(folder / 'released', store, 'lmdb')
    shutil.copytree(bundle, folder / 'tiny')
    results = folder / 'results'
    results.mkdir()
    read_earlier(results)
    return [
        Format('card json', bundle / 'card.json', read_model, '.', weight=2),
        Format('safetensors', bundle / 'model.safetensors', read_model, '.', summed=True),
        Format('config yaml', recipe / 'small.yaml', parse_config, weight=0.5),
        Format('lmdb', store / 'data.mdb', read_patches, '.'),
        Format('checksums parquet', store / 'checksums.parquet', read_patches, '.', weight=0.5),
        Format('run.json', results / 'run.json', read_earlier, '.', weight=0.5),
    ]  # fmt: skip


WORDS = [
    *(b'null', b'true', b'-1', b'1e999', b'NaN', b'Infinity', b'-0.0', b'1e-320', b'9' * 400, b'""', b'[]'),
    *(b'{}', b'\xff\xfe', b'\x00', b'\xed\xa0\x80', b'\\ud800', b'&a;', b'<!DOCTYPE a>', b'*a', b'[' * 5000),
    *(b"'", b'"', b';', b'\n', b'\x1b[31m', b'../../etc/passwd', b'18446744073709551616'),
    b'!!python/object:os.system a',
]
"""What numbers and words of text are replaced by."""
INTEGERS = [
    *(bytes(4), b'\xff' * 4, b'\xff\xff\xff\x7f', b'\x7f\xff\xff\xff', bytes(8), b'\xff' * 8, b'\0\0\0\x80'),
]
"""What is put over some bytes, as if it were a size or a place."""


def damage(sound: bytes, draw: np.random.Generator) -> bytes:
    """Change a file somewhere, in one of a dozen ways."""
    data = bytearray(sound)
    text = b'\0' not in sound[:4096]
    at = int(draw.integers(len(data)))
    length = int(min(draw.integers(1, 101), len(data) - at))
    how = int(draw.integers(13 if text else 9))
    if how == 0:
        data[at] ^= 1 << int(draw.integers(8))
    elif how == 1:
        for place in draw.integers(len(data), size=int(draw.integers(2, 9))):
            data[place] ^= 1 << int(draw.integers(8))
    elif how == 2:
        data[at : at + length] = bytes(length)
    elif how == 3:
        data[at : at + length] = draw.bytes(length)
    elif how == 4:
        del data[at:]
    elif how == 5:
        del data[at : at + length]
    elif how == 6:
        data[at:at] = draw.bytes(length)
    elif how == 7:
        other = int(draw.integers(len(data)))
        data[at : at + length] = data[other : other + length]
    elif how == 8:
        value = INTEGERS[int(draw.integers(len(INTEGERS)))]
        head = at if draw.random() < 0.5 else int(draw.integers(min(1024, len(data))))
        data[head : head + len(value)] = value
    else:
        places = [match.span() for match in re.finditer(rb'[\w.+-]+', sound)]
        start, end = places[int(draw.integers(len(places)))]
        data[start:end] = WORDS[int(draw.integers(len(WORDS)))]
    return bytes(data)


def digest(value: object) -> bytes:
    """A digest of whatever was read."""
    total = hashlib.sha256()
    _add(total, value)
    return total.digest()


def _add(total: Any, value: object) -> None:  # noqa: ANN401 - of hashlib
    if isinstance(value, np.ndarray) and value.dtype != object:
        total.update(f'{value.dtype}{value.shape}'.encode())
        total.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, list | tuple | np.ndarray):
        for one in value:
            _add(total, one)
    else:
        total.update(repr(value).encode(errors='surrogatepass'))


def outcome(form: Format, target: Path, expected: bytes | None, log: Path) -> str:
    """Read a file in a process of its own, and say what became of it."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _read_and_say(form, target, writing, log)
    os.close(writing)
    with os.fdopen(reading, 'rb') as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return 'hang' if os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGXCPU) else 'crash'
    if said.startswith(b'read '):
        return said.hex() if expected is None else 'same' if said[5:] == expected else 'differs'
    return said.decode() or 'crash'


def _read_and_say(form: Format, target: Path, writing: int, log: Path) -> None:
    from geores.errors import GeoresError

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (used + SECONDS,) * 2)
    resource.setrlimit(resource.RLIMIT_AS, (_used() + MEMORY,) * 2)
    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        said = b'read ' + digest(form.read(target))
    except GeoresError as error:
        said = b'error'
        print(f'{type(error).__name__}: {error}')
    except BaseException:  # whatever falls is what is looked for
        said = b'fault'
        traceback.print_exc()
    os.write(writing, said)
    sys.stdout.flush()
    os._exit(0)


def _used() -> int:
    return int(Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')


def fuzz(form: Format, count: int, draw: np.random.Generator, work: Path, keep: Path | None) -> Counter[str]:
    """Damage a file again and again, and count what becomes of it."""
    source = form.path.parent
    target = form.path if form.opens is None else source if form.opens == '.' else source / form.opens
    log = work / 'log.txt'
    first = outcome(form, target, None, log)
    if first in OUTCOMES:
        raise SystemExit(f'{form.name}: the sound file: {first}: {log.read_text()}')
    expected, sound = bytes.fromhex(first)[5:], form.path.read_bytes()
    found: Counter[str] = Counter()
    try:
        for number in range(count):
            changed = damage(sound, draw)
            form.path.write_bytes(changed)
            end = 'same' if changed == sound else outcome(form, target, expected, log)
            found[end] += 1
            said = log.read_text(errors='replace') if log.exists() else ''
            if end in ('fault', 'crash', 'hang') or (end == 'differs' and form.summed):
                print(
                    f'{form.name} {number}: {end}: {said[-1500:] if keep else said[-300:]}', file=sys.stderr
                )
                if keep is not None:
                    (keep / f'{form.name}-{number}-{end}'.replace(' ', '-')).write_bytes(changed)
    finally:
        form.path.write_bytes(sound)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--mutations', type=int, default=2000)
    parser.add_argument('--formats', nargs='*', default=[], help='words of their names; all by default')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--keep', type=Path, help='folder for files that are faults')
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)  # a process with threads cannot be forked well
    warnings.simplefilter('ignore')
    failed, total = False, Counter[str]()
    with tempfile.TemporaryDirectory(prefix='geores-fuzz-') as name:
        folder = Path(name).resolve()
        forms = make_formats(folder)
        forms = [one for one in forms if not given.formats or any(word in one.name for word in given.formats)]
        whole = sum(one.weight for one in forms)
        print(f'{"format":22}' + ''.join(f'{what:>9}' for what in OUTCOMES))
        for number, form in enumerate(forms):
            draw = np.random.default_rng((given.seed, number))
            count = round(given.mutations * form.weight / whole)
            found = fuzz(form, count, draw, folder, given.keep)
            total += found
            failed |= any(found[what] for what in OUTCOMES[3:]) or (form.summed and found['differs'] > 0)
            print(f'{form.name:22}' + ''.join(f'{found[what]:9}' for what in OUTCOMES), flush=True)
        print(f'{"all":22}' + ''.join(f'{total[what]:9}' for what in OUTCOMES))
    sys.exit(int(failed))


if __name__ == '__main__':
    main()
