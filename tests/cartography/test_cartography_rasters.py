"""Rasters of a classification, as any reader finds them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rio_cogeo import cog_validate

from geores.cartography.areas import Legend, Tally, area_table
from geores.cartography.class_raster import (
    ABSENT,
    PRESENT,
    PROBABILITY_NODATA,
    class_files,
    class_raster,
    confidence_raster,
    confidence_values,
    label_raster,
    probability_raster,
    probability_values,
    write_classes,
)
from geores.errors import UsageError, WriteError
from geores.map_accuracy.class_maps import open_class_map

from ..cartography_fixtures import GRIDS, LEGEND, blocks, class_array, grid, xml_of

WHOLE = slice(0, 300), slice(0, 280)


def is_cog(path):
    good, errors, warnings = cog_validate(path, strict=True, quiet=True)
    return good and not errors and not warnings


def test_a_class_map_reopened(tmp_path):
    path, values = tmp_path / 'a_classes.tif', class_array(1100, 1200)
    tally = write_classes(path, blocks(values), grid(values.shape), LEGEND, {'model': 'm', 'inputs': [1]})
    with rasterio.open(path) as file:
        assert (file.read(1) == values).all()
        assert file.dtypes == ('uint8',)
        assert file.nodata == 0
        assert file.crs.to_epsg() == 32633
        assert file.transform == GRIDS['utm'][0]
        assert file.colorinterp[0].name == 'palette'
        for value, colour in zip(LEGEND.values, LEGEND.rgb.tolist(), strict=True):
            assert file.colormap(1)[value] == (*colour, 255)
        assert file.overviews(1)
        assert json.loads(file.tags()['GEORES_INPUTS']) == [1]
        assert file.tags()['GEORES_MODEL'] == 'm'
        half = file.read(1, out_shape=(550, 600))
    squares = values.reshape(550, 2, 600, 2).swapaxes(1, 2).reshape(550, 600, 4)
    clear = (squares == squares[..., :1]).all(-1)
    assert (half == squares[..., 0])[clear].all()
    assert np.isin(half, np.unique(values)).all()  # no class that is a mean of others
    assert is_cog(path)
    assert (tally.pixels == np.bincount(values.ravel(), minlength=5)).all()
    assert sorted(tmp_path.iterdir()) == sorted(class_files(path))


def test_the_side_file_names_and_colours_and_counts(tmp_path):
    path, values = tmp_path / 'a_classes.tif', class_array()
    tally = write_classes(path, blocks(values), grid(values.shape), LEGEND)
    band = xml_of(f'{path}.aux.xml').find('PAMRasterBand')
    assert [one.text for one in band.iterfind('CategoryNames/Category')] == ['no data', *LEGEND.labels]
    fields = [one.findtext('Name') for one in band.iterfind('GDALRasterAttributeTable/FieldDefn')]
    rows = [
        dict(zip(fields, [cell.text for cell in row], strict=True))
        for row in band.iterfind('GDALRasterAttributeTable/Row')
    ]
    assert [row['Class'] for row in rows] == list(LEGEND.labels)
    assert [int(row['Value']) for row in rows] == list(LEGEND.values)
    assert [[int(row[name]) for name in ('Red', 'Green', 'Blue')] for row in rows] == LEGEND.rgb.tolist()
    assert [int(row['Count']) for row in rows] == tally.pixels[1:].tolist()
    assert [float(row['Area_m2']) for row in rows] == (100 * tally.pixels[1:]).tolist()


@pytest.mark.skipif(shutil.which('gdalinfo') is None, reason='needs gdalinfo')
def test_gdal_reads_names_and_table(tmp_path):
    path, values = tmp_path / 'a_classes.tif', class_array()
    write_classes(path, blocks(values), grid(values.shape), LEGEND)
    said = json.loads(subprocess.run(['gdalinfo', '-json', path], capture_output=True, check=True).stdout)
    band = said['bands'][0]
    assert band.get('categories', ['no data', *LEGEND.labels])[1:] == list(LEGEND.labels)
    text = subprocess.run(['gdalinfo', path], capture_output=True, check=True, text=True).stdout
    assert '1: water' in text
    assert '<F>water</F>' in text


@pytest.mark.parametrize('kind', GRIDS)
def test_any_grid(tmp_path, kind):
    path, values = tmp_path / 'a_classes.tif', class_array()
    tally = write_classes(path, blocks(values), grid(values.shape, kind), LEGEND)
    with rasterio.open(path) as file:
        assert (file.read(1) == values).all()
        assert file.transform.almost_equals(GRIDS[kind][0])
    assert is_cog(path)
    table = area_table(LEGEND, tally)
    unit = 'area_px' if kind == 'nowhere' else 'area_m2'
    assert table['share'].sum() == pytest.approx(1)
    pixel = {'utm': 100, 'turned': 73, 'nowhere': 1}
    if kind in pixel:
        assert table[unit].to_list() == (pixel[kind] * table['pixels']).to_list()
    else:  # 0.001 degrees at 52 degrees north
        assert table[unit].sum() == pytest.approx(111.3 * 68.6 * table['pixels'].sum(), rel=0.01)
    census = open_class_map(path).census
    order = [LEGEND.labels.index(name) + 1 for name in census.classes]
    np.testing.assert_allclose(census.areas, tally.areas[order])


def test_more_labels_than_a_byte_holds(tmp_path):
    legend = Legend.of([f'kind {n}' for n in range(300)])
    path, values = tmp_path / 'a_classes.tif', class_array(labels=300, dtype='uint16')
    write_classes(path, blocks(values), grid(values.shape), legend)
    with rasterio.open(path) as file:
        assert file.dtypes == ('uint16',)
        assert (file.read(1) == values).all()
        assert file.colormap(1)[300] == (*legend.rgb[-1].tolist(), 255)
    assert is_cog(path)
    census = open_class_map(path).census
    assert census.classes == tuple(legend.labels[value - 1] for value in np.unique(values[values > 0]))


def test_a_map_of_nothing(tmp_path):
    path = tmp_path / 'a_classes.tif'
    with class_raster(path, grid((300, 280)), LEGEND) as raster:
        pass
    assert raster.tally.pixels.sum() == 0
    with rasterio.open(path) as file:
        assert not file.read(1).any()
    assert area_table(LEGEND, raster.tally).empty
    with pytest.raises(UsageError, match='no valid pixel'):
        _ = open_class_map(path).census


def test_a_value_without_a_label_is_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(UsageError, match='value 9 stands for no label: the legend has 4'):
        write_classes(
            tmp_path / 'a.tif', [(*WHOLE, np.full((300, 280), 9, 'uint8'))], grid((300, 280)), LEGEND
        )
    assert not list(tmp_path.iterdir())


def test_a_copy_that_differs_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        'rasterio.io.DatasetReader.checksum', lambda file, band: len(file.name), raising=False
    )
    with pytest.raises(WriteError, match='was not written whole'):
        write_classes(tmp_path / 'a.tif', blocks(class_array()), grid((300, 280)), LEGEND)
    assert not list(tmp_path.iterdir())


def test_the_accuracy_command_reads_the_map_with_its_names(tmp_path):
    path, values = tmp_path / 'a_classes.tif', class_array()
    write_classes(path, blocks(values), grid(values.shape), LEGEND)
    for found in ('with', 'without'):
        if found == 'without':
            (tmp_path / 'a_classes.tif.aux.xml').unlink()
        opened = open_class_map(path)
        assert opened.census.classes == LEGEND.labels
        assert opened.census.values == tuple(LEGEND.values)
        assert opened.census.units.sum() == (values > 0).sum()
        assert (opened.strip(0) == values[0].astype(int) - 1).all()


def test_the_style_of_qgis(tmp_path):
    path, values = tmp_path / 'a_classes.tif', class_array()
    legend = Legend.of(['water', 'a & b', '<c> "d"', 'built'])
    write_classes(path, blocks(values), grid(values.shape), legend)
    root = xml_of(tmp_path / 'a_classes.qml')
    renderer = root.find('pipe/rasterrenderer')
    assert renderer.attrib['type'] == 'paletted'
    entries = [one.attrib for one in renderer.iterfind('colorPalette/paletteEntry')]
    assert [entry['label'] for entry in entries] == list(legend.labels)
    assert [entry['color'] for entry in entries] == list(legend.colours)
    assert [entry['value'] for entry in entries] == ['1', '2', '3', '4']
    assert open_class_map(path).census.classes == legend.labels


def test_confidence(tmp_path):
    scores = np.random.default_rng(0).random((300, 280)).astype('float32')
    scores[:50, :50] = np.nan
    scores[60, 60] = 0
    path = tmp_path / 'a_confidence.tif'
    with confidence_raster(path, grid(scores.shape), {'model': 'm'}) as bands:
        bands.write(*WHOLE, confidence_values(scores))
    with rasterio.open(path) as file:
        read = file.read(1, masked=True)
        assert file.scales[0] == pytest.approx(1 / 255)
        assert file.descriptions == ('confidence',)
        assert (read.mask == np.isnan(scores)).all()
        assert abs(read * file.scales[0] - scores).max() <= 0.5 / 255 + 1e-6 or read[60, 60] == 1
    assert is_cog(path)


def test_labels_a_band_each(tmp_path):
    values = np.random.default_rng(0).integers(0, 3, (3, 300, 280)).astype('uint8')
    path = tmp_path / 'a_labels.tif'
    with label_raster(path, grid((300, 280)), ['cars', 'trees', 'a & b']) as bands:
        for block in blocks(values):
            bands.write(*block)
    with rasterio.open(path) as file:
        assert (file.read() == values).all()
        assert file.descriptions == ('cars', 'trees', 'a & b')
        assert file.nodata == 0
    assert is_cog(path)
    bands = xml_of(f'{path}.aux.xml').findall('PAMRasterBand')
    for band in bands:
        names = [one.text for one in band.iterfind('CategoryNames/Category')]
        assert (names[ABSENT], names[PRESENT]) == ('absent', 'present')
    assert len(bands) == 3
    entries = xml_of(path.with_suffix('.qml')).iter('paletteEntry')
    assert {entry.attrib['label']: entry.attrib['alpha'] for entry in entries} == {
        'absent': '0',
        'present': '255',
    }
    with pytest.raises(UsageError, match=r'_classes\.tif'):
        open_class_map(path)


def test_probabilities(tmp_path):
    draw = np.random.default_rng(0).random((4, 300, 280)).astype('float32')
    probabilities = draw / draw.sum(axis=0)
    probabilities[:, :40] = np.nan
    path = tmp_path / 'a_probabilities.tif'
    with probability_raster(path, grid((300, 280)), LEGEND.labels) as bands:
        for rows, cols, part in blocks(probabilities):
            bands.write(rows, cols, probability_values(part))
    with rasterio.open(path) as file:
        read = file.read(masked=True)
        assert file.descriptions == LEGEND.labels
        assert {one.name for one in file.colorinterp} <= {'gray', 'undefined'}
        assert file.nodata == PROBABILITY_NODATA
        assert (read.mask == np.isnan(probabilities)).all()
        assert abs(read * file.scales[0] - probabilities).max() <= 0.5 / 254 + 1e-6
        assert file.read(1, out_shape=(150, 140), resampling=Resampling.average, masked=True).mask[:18].all()
    assert is_cog(path)


def test_windows_in_any_order_and_areas_by_row():
    values = class_array()
    one, other = (Tally.of(grid(values.shape, 'geographic'), LEGEND) for _ in range(2))
    one.add(WHOLE[0], values)
    for rows, _, part in reversed(list(blocks(values, 37))):
        other.add(rows, part)
    assert (one.pixels == other.pixels).all()
    np.testing.assert_allclose(one.areas, other.areas)


def test_killed_while_writing(tmp_path):
    """At any point of writing over what stands: all files of a run, or no map."""
    script = Path(__file__).parents[1] / 'killed_maps.py'
    subprocess.run([sys.executable, script, tmp_path, '15'], check=True)
