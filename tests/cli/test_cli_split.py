"""`geores split` on every kind of input, and on bad ones."""

import json
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image

from geores.splits import PARTS, geographic_split, read_split

from ..fixtures import hold_files
from ..scene_fixtures import pixels, write_tiff
from ..splits.test_splits_geographic import scattered

PATCH = 'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_{:02}_{:02}'
BLOCKS = ('--method', 'blocks', '--block-size', 900)


def table(count=90, **more):
    places = scattered(count)
    labels = np.random.default_rng(0).choice(list('abc'), count)
    points = gpd.points_from_xy(*places.T)
    return gpd.GeoDataFrame(
        {'id': [f't{row}' for row in range(count)], 'kind': labels} | more, geometry=points, crs=4326
    )


def write_input(frame, path):
    if path.suffix == '.csv':
        told = pd.DataFrame(frame.drop(columns='geometry'))
        told.assign(Lon=frame.geometry.x, Lat=frame.geometry.y).to_csv(path, index=False)
    elif path.suffix == '.parquet':
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


@pytest.mark.parametrize('suffix', ['.parquet', '.gpkg', '.geojson', '.shp', '.csv'])
def test_every_format_gives_the_same_split(geores, tmp_path, suffix):
    path = write_input(table(), tmp_path / f'rows{suffix}')
    out = tmp_path / 'split.parquet'
    answer = geores('split', path, *BLOCKS, '--stratify', 'kind', '--buffer', 100, '--out', out, '--json')
    assert (answer.code, answer.err) == (0, '')
    record = answer.records[0]
    frame = pd.read_parquet(out)
    assert frame['id'].tolist() == table()['id'].tolist()
    assert frame['kind'].tolist() == table()['kind'].tolist()
    assert frame['split'].value_counts().to_dict() == {k: v for k, v in record['sizes'].items() if v}
    assert sum(record['labels']['a'].values()) == (frame['kind'] == 'a').sum()
    told = json.loads(pq.read_schema(out).metadata[b'geores'])
    assert told['split_id'] == record['split_id']
    if suffix == '.parquet':
        assert gpd.read_parquet(out).crs == 4326
        again = geores(
            'split', path, *BLOCKS, '--stratify', 'kind', '--buffer', 100, '--out', tmp_path / 'b.csv'
        )
        assert record['split_id'] in again.out
        assert 'train' in again.out


def test_rows_without_ids_keep_their_parts_when_moved(geores, tmp_path):
    frame = table(note=[None, 'x', 'y'] * 30).drop(columns='id')
    found = []
    for name, one in (('a', frame), ('b', frame.sample(frac=1, random_state=1))):
        one.to_parquet(tmp_path / f'{name}.parquet')
        out = tmp_path / f'{name}.gpkg'
        assert geores('split', tmp_path / f'{name}.parquet', '--method', 'random', '--out', out).code == 0
        found.append(gpd.read_file(out).sort_values(['kind', 'split'])['split'].tolist())
    assert found[0] == found[1]


def test_the_official_split_of_reben(geores, tmp_path):
    pd.DataFrame(
        {
            'patch_id': [PATCH.format(row, 45) for row in range(90)],
            'labels': [['Pastures', 'Mixed forest'][: row % 3] for row in range(90)],
            'split': ['train'] * 90,
        }
    ).to_parquet(tmp_path / 'metadata.parquet')
    out = tmp_path / 'split.parquet'
    answer = geores(
        'split', tmp_path / 'metadata.parquet', '--method', 'reben', '--stratify', 'labels', '--out', out
    )
    assert answer.code == 0
    assert 'kept as split_before: 25 of 90 rows are in the same part' in ' '.join(answer.err.split())
    frame = pd.read_parquet(out)
    assert frame['split'].value_counts().to_dict() == {'test': 46, 'train': 25, 'val': 19}
    assert set(frame['split_before']) == {'train'}
    answer = geores(
        'split',
        tmp_path / 'metadata.parquet',
        '--method',
        'reben',
        '--buffer',
        5000,
        '--overwrite',
        '--json',
        '--out',
        out,
    )
    assert answer.records[0]['sizes'] == {'train': 17, 'val': 11, 'test': 46, 'dropped': 16}


def test_a_folder_of_rasters(geores, tmp_path):
    for row in range(6):
        for zone in ('EPSG:32633', 'EPSG:32634'):
            path = tmp_path / 'tiles' / zone[-2:] / f'{row}.tif'
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tiff(path, pixels(), crs=zone, resolution=10.0 + row)
    out = tmp_path / 'split.parquet'
    assert geores('split', tmp_path / 'tiles', '--method', 'random', '--out', out).code == 0
    frame = gpd.read_parquet(out)
    assert frame['id'].tolist()[:2] == ['33/0', '33/1']
    assert set(frame['split']) == set(PARTS)
    assert shapely.area(frame.geometry.to_numpy()).min() > 0
    Image.fromarray(pixels()[0].astype('uint8')).save(tmp_path / 'tiles' / 'bare.tif')
    answer = geores('split', tmp_path / 'tiles', '--method', 'random', '--out', tmp_path / 'b.parquet')
    assert answer.code == 2
    assert 'bare.tif has no CRS' in answer.err


def test_regions_from_polygons_and_from_a_column(geores, tmp_path):
    frame = table(country=['A', 'B', 'C'] * 30)
    path = write_input(frame, tmp_path / 'rows.parquet')
    out = tmp_path / 'split.parquet'
    command = (
        'split',
        path,
        '--method',
        'regions',
        '--fractions',
        '0.34,0.33,0.33',
        '--out',
        out,
        '--overwrite',
    )
    assert geores(*command, '--region-column', 'country').code == 0
    split = pd.read_parquet(out)
    assert (split.groupby('country')['split'].nunique() == 1).all()
    west, south, east, north = frame.total_bounds
    edges = np.linspace(west - 0.01, east - 0.004, 4)
    shapes = [shapely.box(a, south - 1, b, north + 1) for a, b in pairwise(edges)]
    polygons = gpd.GeoDataFrame({'name': list('xyz')}, geometry=shapes, crs=4326).to_crs(3035)
    polygons.to_file(tmp_path / 'regions.gpkg')
    answer = geores(*command, '--regions', tmp_path / 'regions.gpkg', '--json')
    assert answer.code == 0
    record = answer.records[0]
    assert record['sizes']['dropped'] == (frame.geometry.x > edges[-1]).sum() > 0
    assert 'rows lie in no region and are dropped' in ' '.join(record['notes'])


def nan_positions(frame):
    return frame.assign(geometry=[shapely.Point(np.nan, 1), *frame.geometry[1:]])


BAD = {
    'no CRS': (lambda frame: frame.set_crs(None, allow_override=True), (), 'state no CRS'),
    'empty': (lambda frame: frame.assign(geometry=[None, *frame.geometry[1:]]), (), 'row 0 has no geometry'),
    'NaN': (nan_positions, (), 'row 0 has no'),
    'sum': (None, ('--fractions', '0.7,0.2,0.2'), 'sum to 1, but 0.7,0.2,0.2 sum to 1.1'),
    'words': (None, ('--fractions', 'most'), '--fractions takes numbers'),
    'buffer': (None, ('--buffer', '9000'), 'would remain of 90; choose a smaller buffer'),
    'few places': (None, ('--block-size', '1e7'), 'places are too few for 3 parts'),
    'column': (None, ('--stratify', 'class'), "has no column 'class' for --stratify; it has id, kind"),
    'geometry': (None, ('--stratify', 'geometry'), "has no column 'geometry'"),
    'method': (None, ('--method', 'magic'), "not 'magic'"),
    'size': (None, ('--block-size', '-5'), 'block_size has to be above 0 metres'),
    'clusters': (None, ('--clusters', '0'), 'clusters have to be 1 or more'),
    'block CRS': (None, ('--block-crs', 'EPSG:4326'), 'block_crs has to be a projected CRS'),
    'images': (None, ('--images', 'nowhere'), 'nowhere: no such folder of images'),
    'id': (None, ('--id', 'kind'), "column 'kind' for --id is missing, or has gaps or repeats"),
    'reben': (None, ('--method', 'reben'), 'is no reBEN patch id'),
    'regions': (None, ('--method', 'regions'), '--region-column'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input_is_one_line_and_leaves_nothing(geores, tmp_path, name):
    change, options, reason = BAD[name]
    frame = table() if change is None else change(table())
    path = write_input(frame, tmp_path / 'rows.parquet')
    options = options or BLOCKS
    if name not in ('method', 'reben', 'regions') and options != BLOCKS:
        options = (*BLOCKS, *options)
    answer = geores('split', path, *options, '--out', tmp_path / 'out' / 'split.parquet')
    assert answer.code == 2
    assert reason in answer.err
    assert answer.err.count('\n') == 1
    assert hold_files(tmp_path) == {'rows.parquet'}


def test_outputs_are_checked_first(geores, tmp_path):
    path = write_input(table(), tmp_path / 'rows.csv')
    command = ('split', path, '--method', 'random', '--out')
    assert 'geometry; write .parquet or .csv' in geores(*command, tmp_path / 'split.gpkg').err
    assert 'is written as .parquet' in geores(*command, tmp_path / 'split.txt').err
    assert geores(*command, tmp_path / 'split.csv').code == 0
    answer = geores(*command, tmp_path / 'split.csv')
    assert (answer.code, 'give --overwrite' in answer.err) == (2, True)
    assert (
        'no such file or folder' in geores('split', tmp_path / 'x.csv', *command[2:], tmp_path / 'b.csv').err
    )
    (tmp_path / 'words.csv').write_text('a,b\n1,2\n')
    assert (
        'no columns lon and lat'
        in geores('split', tmp_path / 'words.csv', *command[2:], tmp_path / 'b.csv').err
    )
    (tmp_path / 'none.csv').write_text('lon,lat\n')
    assert 'holds no rows' in geores('split', tmp_path / 'none.csv', *command[2:], tmp_path / 'b.csv').err
    (tmp_path / 'text.csv').write_text('lon,lat\neast,north\n')
    assert (
        'have to be numbers' in geores('split', tmp_path / 'text.csv', *command[2:], tmp_path / 'b.csv').err
    )


def test_lists_of_labels_survive_every_format(geores, tmp_path):
    labels = [['a', 'b'][: 1 + row % 2] for row in range(90)]
    table(labels=labels).to_parquet(tmp_path / 'rows.parquet')
    path, found = tmp_path / 'rows.parquet', []
    for suffix in ('.gpkg', '.geojson', '.parquet'):
        out = tmp_path / f'split{suffix}'
        answer = geores('split', path, *BLOCKS, '--stratify', 'labels', '--json', '--out', out)
        assert answer.code == 0
        found.append(answer.records[0]['labels'])
        path = out
    assert found[0] == found[1] == found[2]
    assert sum(found[0]['b'].values()) == 45


def test_a_layer_has_to_be_named_where_there_are_several(geores, tmp_path):
    path = tmp_path / 'rows.gpkg'
    for layer in ('one', 'two'):
        table().to_file(path, layer=layer)
    command = ('split', path, '--method', 'random', '--out', tmp_path / 'split.parquet')
    assert 'several layers, name one by --layer: one, two' in geores(*command).err
    assert "has no layer 'three'; it has one, two" in geores(*command, '--layer', 'three').err
    assert geores(*command, '--layer', 'two').code == 0


def test_text_of_geometries_can_be_audited(geores, tmp_path):
    path = write_input(table(), tmp_path / 'rows.gpkg')
    out = tmp_path / 'split.csv'
    assert geores('split', path, *BLOCKS, '--out', out).code == 0
    found = pd.read_csv(out)
    middles = gpd.read_file(path).geometry
    np.testing.assert_allclose(found[['lon', 'lat']], np.stack([middles.x, middles.y], axis=1), atol=1e-6)
    answer = geores('audit', out)
    assert answer.code in (0, 1), answer.err
    assert 'no geometry' not in answer.err


@pytest.mark.parametrize(
    'options', [('--block-size', 0), ('--clusters', 0), ('--block-crs', 'x'), ('--method', 'regions')]
)
def test_arguments_are_checked_before_anything_is_read(geores, tmp_path, options):
    answer = geores('split', tmp_path / 'nothing.parquet', *options, '--out', tmp_path / 'split.parquet')
    assert answer.code == 2
    assert 'nothing.parquet' not in answer.err


@pytest.mark.parametrize('method', ['blocks', 'hexagons', 'clusters'])
@pytest.mark.parametrize('shape', ['points', 'footprints'])
def test_defaults_come_from_the_data(geores, tmp_path, method, shape):
    frame = table()
    if shape == 'footprints':
        frame = frame.to_crs(frame.estimate_utm_crs())
        frame = frame.set_geometry(frame.geometry.buffer(30, cap_style='square'))
    path = write_input(frame, tmp_path / 'rows.parquet')
    answer = geores('split', path, '--method', method, '--out', tmp_path / 'split.parquet', '--json')
    assert (answer.code, answer.err) == (0, '')
    record = answer.records[0]
    assert all(record['sizes'][part] for part in PARTS)
    assert record['groups'] >= 12
    given = record['options']['clusters' if method == 'clusters' else 'block_size']
    assert given
    assert any(f'{given:g}' in note for note in record['notes'])


def test_near_duplicates_go_to_one_part(geores, tmp_path):
    frame = table(30)
    for row in range(30):  # each row from 10 on is a copy of one of the first ten
        write_tiff(tmp_path / 'images' / f't{row}.tif', pixels(3, 40, 40, seed=row % 10) + row // 10)
    path = write_input(frame, tmp_path / 'rows.parquet')
    for method in (BLOCKS, ('--method', 'random')):
        out = tmp_path / 'split.csv'
        options = ('--images', tmp_path / 'images', '--overwrite', '--out', out)
        assert geores('split', path, *method, *options).code == 0
        parts = pd.read_csv(out).set_index('id')['split']
        for row in range(10):
            assert len({parts[f't{copy}'] for copy in (row, row + 10, row + 20)} - {'dropped'}) == 1
        assert set(parts) >= {'train', 'val', 'test'}
        assert ('dropped' in set(parts)) == (method is BLOCKS)


def test_the_former_word_is_read_and_warns(tmp_path):
    (tmp_path / 'split.csv').write_text('id,split\na,train\nb,validation\nc,Val\n')
    assert read_split(tmp_path / 'split.csv').parts == {'a': 'train', 'b': 'val', 'c': 'val'}
    parts = geographic_split(scattered(60), 'random')
    with pytest.warns(DeprecationWarning, match="'validation' is called 'val' now"):
        assert parts.rows('validation').tolist() == parts.rows('val').tolist()
    with pytest.warns(DeprecationWarning, match="'validation' is called 'val' now"):
        assert parts.counts['validation'] == parts.counts['val']
    with pytest.raises(KeyError):
        parts.counts['holdout']
