"""Tables, folders and labels as people hand them on: encodings, hidden files, rows twice, styles."""

import logging
import sqlite3

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from PIL import Image
from shapely.geometry import Point, box

from geores.datasets import GeoTIFFPairs, GeoTIFFPatches, SceneFolder
from geores.datasets._sampling import read_labelled_features
from geores.errors import DatasetError, GeoresError
from geores.io.tables import is_hidden, read_rows, read_text_table, visible_files
from geores.scenes.vectors import list_layers, read_vector
from geores.splits import read_split
from geores.splits.source import read_rasters, read_source

from ..datasets.test_datasets import fails, make_patches, make_scenes

# --- hidden files and folders


HIDDEN = [
    '.ipynb_checkpoints',
    '._town00.jpg',
    '.DS_Store',
    'Thumbs.db',
    '__MACOSX',
    '~$labels.csv',
    'desktop.ini',
]


@pytest.mark.parametrize('name', HIDDEN)
def test_what_systems_leave_behind_is_hidden(name):
    assert is_hidden(name)


@pytest.mark.parametrize('name', ['town00.jpg', 'macosx', 'thumbs.db.jpg', 'water', '_town'])
def test_names_of_data_are_not(name):
    assert not is_hidden(name)


@pytest.mark.parametrize('folder', ['.ipynb_checkpoints', '__MACOSX', '@eaDir', '.git'])
def test_hidden_folders_are_no_classes(tmp_path, folder):
    root = make_scenes(tmp_path / 'set')
    (root / 'images' / folder).mkdir()
    (root / 'images/lake/lake01.png').rename(root / 'images' / folder / 'lake01-checkpoint.png')
    dataset = SceneFolder(root)
    assert dataset.labels == ('forest', 'lake')
    assert len(dataset) == 9


@pytest.mark.parametrize('name', ['._lake00.png', '.lake00.png', 'Thumbs.db', '.DS_Store', '~$lake00.png'])
def test_hidden_files_are_no_images(tmp_path, name):
    root = make_scenes(tmp_path / 'set')
    (root / 'images/lake' / name).write_bytes(b'\0\5\26\7' + b'\0' * 60)
    dataset = SceneFolder(root)
    dataset.images.load()
    assert len(dataset) == 10


def test_a_folder_that_is_hidden_itself_is_read(tmp_path):
    root = make_scenes(tmp_path / '.cache' / 'set')
    assert len(SceneFolder(root)) == 10
    assert len(visible_files(root, '*/*/*')) == 10


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_hidden_rasters_are_neither_pairs_nor_rows(tmp_path):
    root = make_patches(tmp_path / 'set')
    (root / 'images/._patch_00.tif').write_bytes(b'\0\5\26\7')
    assert len(GeoTIFFPairs(root, labels=['a', 'b'], unlabelled=True)) == 15
    transform = rasterio.Affine(10, 0, 4e5, 0, -10, 5.8e6)
    with rasterio.open(
        tmp_path / 'a.tif', 'w', 'GTiff', 4, 4, 1, crs='EPSG:32633', transform=transform, dtype='uint8'
    ) as file:
        file.write(np.ones((1, 4, 4), np.uint8))
    (tmp_path / '.trash').mkdir()
    (tmp_path / '.trash' / 'b.tif').write_bytes(b'nothing')
    (root / 'images').rename(tmp_path / '.images')
    assert read_rasters(tmp_path)['id'].tolist() == ['a']


# --- encodings and separators


ENCODINGS = ['utf-8', 'utf-8-sig', 'cp1252', 'utf-16', 'utf-32']


def with_umlauts(root, encoding):
    path = root / 'labels.csv'
    path.write_bytes(path.read_text().replace('SeaLake', 'Gewässer').encode(encoding))
    return root


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_labels_in_any_usual_encoding(tmp_path, encoding, caplog):
    root = with_umlauts(make_patches(tmp_path / 'set'), encoding)
    with caplog.at_level(logging.WARNING):
        assert GeoTIFFPatches(root).labels == ('Forest', 'Gewässer')
    assert ('labels.csv: not UTF-8' in caplog.text) == (encoding == 'cp1252')


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_multi_labels_in_any_usual_encoding(tmp_path, encoding):
    root = make_scenes(tmp_path / 'set')
    path = root / 'multilabels.csv'
    path.write_bytes(path.read_text().replace('trees', 'Bäume').encode(encoding))
    assert SceneFolder(root, 'multi-label').labels == ('Bäume', 'water')


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_split_tables_in_any_usual_encoding(tmp_path, encoding):
    path = tmp_path / 'split.csv'
    path.write_bytes('id,split\nStraße/a.jpg,train\nb.jpg,test\n'.encode(encoding))
    assert read_split(path).parts == {'Straße/a.jpg': 'train', 'b.jpg': 'test'}


@pytest.mark.parametrize(
    'data', [b'file,label\na.tif,\x81\x9d\n', 'file,label\na.tif,x\n'.encode('utf-16-le')]
)
def test_text_of_no_known_encoding_is_named(tmp_path, data):
    (tmp_path / 'labels.csv').write_bytes(data)
    fails(lambda: read_rows(tmp_path / 'labels.csv', ['file'], ''), 'labels.csv', 'UTF-8')


@pytest.mark.parametrize('separator', [';', '\t', '|'])
def test_columns_may_be_separated_otherwise(tmp_path, separator):
    root = make_patches(tmp_path / 'set')
    path = root / 'labels.csv'
    path.write_text(path.read_text().replace(',', separator))
    assert GeoTIFFPatches(root).labels == ('Forest', 'SeaLake')
    path = tmp_path / 'split.csv'
    path.write_text(f'id{separator}split\n007{separator}train\n')
    assert read_text_table(path).to_dict('list') == {'id': ['007'], 'split': ['train']}


def test_a_cell_with_a_separator_is_not_cut(tmp_path):
    path = tmp_path / 'labels.csv'
    path.write_text('file,label\na.tif,"houses, dense"\nb.tif,houses, dense\n')
    fails(lambda: read_rows(path, ['file'], ''), 'labels.csv', 'row 3', 'more cells')
    path.write_text('file,label\na.tif,"houses, dense"\n')
    assert read_rows(path, ['file'], '') == [{'file': 'a.tif', 'label': 'houses, dense'}]


def test_blank_rows_are_nothing(tmp_path):
    path = tmp_path / 'labels.csv'
    path.write_text('file,label\n\na.tif,x\n,\n')
    assert read_rows(path, ['file'], '', ['file']) == [{'file': 'a.tif', 'label': 'x'}]


# --- rows twice and rows without a name


def test_a_row_twice_is_an_error_in_every_table(tmp_path):
    patches, scenes = make_patches(tmp_path / 'patches'), make_scenes(tmp_path / 'scenes')
    table = patches / 'labels.csv'
    table.write_text(table.read_text() + table.read_text().splitlines()[2] + '\n')
    fails(lambda: GeoTIFFPatches(patches), 'labels.csv', 'patch_01.tif', 'twice', 'rows 3 and 17')
    table = scenes / 'multilabels.csv'
    table.write_text(table.read_text() + table.read_text().splitlines()[2] + '\n')
    fails(lambda: SceneFolder(scenes, 'multi-label'), 'multilabels.csv', 'forest01', 'twice', 'rows 3 and 12')
    table = tmp_path / 'split.csv'
    table.write_text('id,split\na,train\nb,test\na,test\n')
    fails(lambda: read_split(table), 'split.csv', 'a is named twice', 'rows 2 and 4')


def test_a_row_without_a_name_is_named_by_its_number(tmp_path):
    patches, scenes = make_patches(tmp_path / 'patches'), make_scenes(tmp_path / 'scenes')
    table = patches / 'labels.csv'
    table.write_text(table.read_text().replace('patch_03.tif,', ',', 1))
    fails(lambda: GeoTIFFPatches(patches), 'labels.csv', 'row 5 has no file')
    table = scenes / 'multilabels.csv'
    table.write_text(table.read_text().replace('lake02,lake', 'lake02,', 1))
    fails(lambda: SceneFolder(scenes, 'multi-label'), 'multilabels.csv', 'row 9 has no scene')
    table = tmp_path / 'split.csv'
    table.write_text('id,split\na,train\n,test\n')
    fails(lambda: read_split(table), 'split.csv', 'row 3 has no id')
    table.write_text('id,split\na,train\nb,\n')
    fails(lambda: read_split(table), 'split.csv', 'row 3 has no split')


# --- vector files


def points(names, crs='EPSG:4326'):
    return gpd.GeoDataFrame({'kind': names}, geometry=[Point(n, n) for n in range(len(names))], crs=crs)


@pytest.mark.parametrize('written', ['utf-8', 'cp1252', 'ascii'])
def test_a_shapefile_that_states_no_encoding(tmp_path, written):
    names = ['water', 'wood'] if written == 'ascii' else ['Gewässer', 'Straße']
    path = tmp_path / 'labels.shp'
    points(names).to_file(path, encoding='utf-8' if written == 'ascii' else written)
    path.with_suffix('.cpg').unlink(missing_ok=True)
    assert read_vector(path)['kind'].tolist() == names
    assert read_labelled_features(path, 'kind').classes.tolist() == names
    assert read_source(path).frame['kind'].tolist() == names


def with_styles(path):
    """Add the tables that QGIS keeps in a GeoPackage."""
    with sqlite3.connect(path) as file:
        for name in ('layer_styles', 'qgis_projects'):
            file.execute(f'CREATE TABLE {name} (id INTEGER PRIMARY KEY, content TEXT)')
            file.execute(
                'INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, ?, ?)',
                (name, 'attributes', name),
            )
    file.close()
    return path


def test_tables_of_styles_are_no_layers(tmp_path):
    path = tmp_path / 'labels.gpkg'
    points(['a', 'b']).assign(id=['1', '2']).to_file(path, layer='fields')
    with_styles(path)
    assert [layer.name for layer in list_layers(path)] == ['fields']
    assert len(read_labelled_features(path, 'kind')) == 2
    assert read_source(path).ids == ['1', '2']
    points(['c']).to_file(path, layer='more')
    with pytest.raises(DatasetError, match=r'several layers, name one: fields, more$'):
        read_labelled_features(path, 'kind')


def test_labels_in_geoparquet(tmp_path):
    frame = gpd.GeoDataFrame(
        {'kind': ['Wald', 'Gewässer']}, geometry=[box(0, 0, 1, 1), box(1, 0, 2, 1)], crs='EPSG:32633'
    )
    for suffix in ('parquet', 'geoparquet'):
        frame.to_parquet(tmp_path / f'labels.{suffix}')
        found = read_labelled_features(tmp_path / f'labels.{suffix}', 'kind')
        assert (found.kind, found.classes.tolist()) == ('polygon', ['Wald', 'Gewässer'])
        assert found.crs.to_epsg() == 32633


def test_parquet_without_geometries_is_no_file_of_labels(tmp_path):
    points(['a']).drop(columns='geometry').to_parquet(tmp_path / 'bare.parquet')
    with pytest.raises(GeoresError, match=r'bare\.parquet: has no geometries'):
        read_labelled_features(tmp_path / 'bare.parquet', 'kind')


# --- bands of patches that describe none


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_bands_named_in_the_order_of_the_file(tmp_path):
    root = make_patches(tmp_path / 'set', bands=(None, None, None))
    fails(lambda: GeoTIFFPatches(root), 'patch_00.tif', 'no description', 'all 3')
    dataset = GeoTIFFPatches(root, ['red', 'green', 'nir'])
    with rasterio.open(root / 'images/patch_01.tif') as file:
        np.testing.assert_array_equal(dataset[1]['image'], file.read())
    assert dataset[1]['bands'] == ('red', 'green', 'nir')
    fails(lambda: GeoTIFFPatches(root, ['red', 'green'])[0], 'patch_00.tif', '3 bands', '2 are named')
    pairs = GeoTIFFPairs(root, ['red', 'green', 'nir'], labels=['a', 'b'], unlabelled=True)
    assert pairs[0]['image'].shape == (3, 8, 8)


def test_bands_that_are_described_go_by_name(tmp_path):
    root = make_patches(tmp_path / 'set')
    fails(lambda: GeoTIFFPatches(root, ['red', 'green', 'nir'])[0], "'red'", 'B02, B03, B08')


def test_class_folders_without_images_are_said(tmp_path, caplog):
    root = make_scenes(tmp_path / 'set')
    (root / 'images/meadow').mkdir()
    Image.new('RGB', (4, 4)).save(root / 'images/notes.png')
    with caplog.at_level(logging.WARNING):
        assert SceneFolder(root).labels == ('forest', 'lake')
    assert 'meadow: no images in it' in caplog.text
