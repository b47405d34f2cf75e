"""Sentinel-1 alone and beside Sentinel-2: one grid, decibels, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

import geores as library
from geores.classification.scored import levels_differ
from geores.errors import UsageError
from geores.inference.reader import UnitTransform

from ..fixtures import GRID, LABELS, noise, tiny_bundle, write_scene

pytestmark = pytest.mark.usefixtures('one_thread')

S2 = ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12')
S1 = ('VV', 'VH')
SIDE = 128


def decibels(height=SIDE, width=SIDE, seed=5):
    return noise(2, height, width, 'float32', seed) / 20 - 25


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('scenes')


@pytest.fixture(scope='module')
def model(folder):
    """Twelve bands, Sentinel-1 first, as in reBEN's models of both sensors."""
    return tiny_bundle(
        folder / 'both',
        bands=(*S1, *S2),
        units='reflectance*10000, dB',
        task='multi-label',
        gsd=(10.0, 10.0),
        resampling='nearest',
        mean=(-12.0, -19.0, *(1000.0,) * 10),
        std=(5.0, 5.0, *(600.0,) * 10),
    )


@pytest.fixture(scope='module')
def product(folder):
    """A folder of band files at 10 and 20 m, without offset."""
    place = folder / 'T33UUU_20170601T102021'
    place.mkdir()
    for seed, band in enumerate(S2):
        metres = 10 if band in {'B02', 'B03', 'B04', 'B08'} else 20
        side = SIDE * 10 // metres
        values = noise(1, side, side, 'uint16', seed) * 10
        grid = from_origin(GRID.c, GRID.f, metres, metres)
        write_scene(place / f'{place.name}_{band}.tif', (band,), values=values, transform=grid)
    return place


@pytest.fixture(scope='module')
def radar(folder):
    return write_scene(folder / 's1.tif', S1, values=decibels())


def scores(folder):
    (path,) = folder.glob('*_scores.tif')
    with rasterio.open(path) as file:
        return file.read(), file.crs, file.transform


def test_both_sensors_are_classified_on_the_scene_s_grid(geores, tmp_path, model, product, radar):
    answer = geores('classify', product, '--with', radar, '--model', model, '--out', tmp_path, '--precision',
                    'fp32', '--json')  # fmt: skip
    assert answer.code == 0, answer.err
    found, crs, transform = scores(tmp_path)
    assert crs == rasterio.CRS.from_epsg(32633)
    assert (transform.c, transform.f) == (GRID.c, GRID.f)

    read = {path.stem.split('_')[-1]: rasterio.open(path).read(1) for path in product.iterdir()}
    optical = [values.repeat(SIDE // len(values), 0).repeat(SIDE // len(values), 1) for values in
               (read[band] for band in S2)]  # fmt: skip
    image = np.concatenate([decibels(), np.stack(optical).astype(np.float32)])
    tiles = image.reshape(12, 4, 32, 4, 32).transpose(1, 3, 0, 2, 4).reshape(16, 12, 32, 32)
    wanted = library.load_model(model).predict(tiles, batch_size=16)
    np.testing.assert_allclose(found.reshape(len(LABELS), -1).T, wanted, atol=1e-5)


def test_python_takes_both_sources_too(model, product, radar):
    result = library.classify([product, radar], model, precision='fp32')
    assert result.scores.shape == (len(LABELS), 4, 4)


def test_another_crs_and_pixel_size_is_laid_on_the_scene_s_grid(geores, tmp_path, model, product, radar):
    box = (GRID.c, GRID.f - 1280, GRID.c + 1280, GRID.f)
    west, south, east, north = transform_bounds('EPSG:32633', 'EPSG:4326', *box)
    step = 5e-5  # finer than the scene, so that it must not set the grid
    width, height = round((east - west) / step) + 20, round((north - south) / step) + 20
    values = np.full((2, height, width), -12.0, np.float32)
    values[1] = -19
    place = from_origin(west - 10 * step, north + 10 * step, step, step)
    other = write_scene(tmp_path / 'other.tif', S1, values=values, crs='EPSG:4326', transform=place)
    same = write_scene(tmp_path / 'same.tif', S1, values=values[:, :SIDE, :SIDE])
    results = []
    for path in (other, same):
        out = tmp_path / f'{path.stem}-out'
        answer = geores(
            'classify', product, '--with', path, '--model', model, '--out', out, '--precision', 'fp32'
        )
        assert answer.code == 0, answer.err
        results.append(scores(out))
    assert results[0][1:] == results[1][1:]
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-5)


def test_sources_of_other_places_are_refused_before_any_work(geores, tmp_path, model, product):
    far = write_scene(
        tmp_path / 'far.tif', S1, values=decibels(), transform=from_origin(700_000, 5e6, 10, 10)
    )
    out = tmp_path / 'out'
    answer = geores('classify', product, '--with', far, '--model', model, '--out', out)
    assert (answer.code, out.exists()) == (2, False)
    assert 'far.tif does not overlap' in answer.err


@pytest.mark.parametrize(('pixels', 'covered', 'bare'), [(80, 3, 0), (-80, 0, 3)])
def test_ground_that_one_source_does_not_cover_is_invalid(
    geores, tmp_path, model, product, pixels, covered, bare
):
    place = GRID @ GRID.translation(pixels, pixels)
    part = write_scene(tmp_path / 'part.tif', S1, values=decibels(), transform=place)
    answer = geores('classify', product, '--with', part, '--model', model, '--out', tmp_path / 'out')
    assert answer.code == 0, answer.err
    known = np.isfinite(scores(tmp_path / 'out')[0]).all(axis=0)
    assert known[covered, covered]
    assert not known[bare].any()
    assert not known[:, bare].any()


def test_linear_backscatter_is_refused_or_converted(geores, tmp_path, model, product, radar):
    linear = write_scene(tmp_path / 'linear.tif', S1, values=(10 ** (decibels() / 10)).astype(np.float32))
    command = ('classify', product, '--model', model, '--precision', 'fp32', '--overwrite')
    refused = geores(*command, '--with', linear, '--out', tmp_path / 'a')
    assert refused.code == 2
    assert 'VV' in refused.err
    assert '--linear-s1' in refused.err
    assert geores(*command, '--with', linear, '--linear-s1', '--out', tmp_path / 'b').code == 0
    assert geores(*command, '--with', radar, '--out', tmp_path / 'c').code == 0
    np.testing.assert_allclose(scores(tmp_path / 'b')[0], scores(tmp_path / 'c')[0], atol=1e-4)
    wrong = geores(*command, '--with', radar, '--linear-s1', '--out', tmp_path / 'd')
    assert wrong.code == 2
    assert 'values below 0' in wrong.err
    numbers = write_scene(tmp_path / 'dn.tif', S1, values=noise(2, SIDE, SIDE, 'uint16') + np.uint16(100))
    raw = geores(*command, '--with', numbers, '--linear-s1', '--out', tmp_path / 'e')
    assert raw.code == 2
    assert 'calibrated' in raw.err


def test_bands_of_a_source_without_names(geores, tmp_path, model, product, radar):
    bare = write_scene(tmp_path / 'bare.tif', ('', ''), values=decibels())
    command = ('classify', product, '--with', bare, '--model', model, '--precision', 'fp32')
    assert 'lacks VV, VH' in geores(*command, '--out', tmp_path / 'a').err
    named = geores(*command, '--with-bands', 'VV,VH', '--out', tmp_path / 'b')
    assert named.code == 0, named.err
    assert geores('classify', product, '--with', radar, '--model', model, '--precision', 'fp32', '--out',
                  tmp_path / 'c').code == 0  # fmt: skip
    assert np.array_equal(scores(tmp_path / 'b')[0], scores(tmp_path / 'c')[0], equal_nan=True)
    twice = geores(*command, '--with', radar, '--with-bands', 'VV,VH', '--out', tmp_path / 'd')
    assert 'one --with' in twice.err


def test_pixels_without_radar_are_invalid(geores, tmp_path, model, product):
    half = write_scene(tmp_path / 'half.tif', S1, values=decibels(SIDE, SIDE // 2))
    answer = geores('classify', product, '--with', half, '--model', model, '--out', tmp_path)
    assert answer.code == 0, answer.err
    found = scores(tmp_path)[0]
    assert np.isfinite(found[..., :2]).all()
    assert np.isnan(found[..., 2:]).all()


@pytest.mark.parametrize(('value', 'nodata'), [(np.nan, None), (-99.0, -99.0)])
def test_a_source_without_a_valid_pixel_is_named(geores, tmp_path, model, product, value, nodata):
    values = np.full((2, SIDE, SIDE), value, np.float32)
    empty = write_scene(tmp_path / 'empty.tif', S1, values=values, nodata=nodata)
    command = ('classify', product, '--with', empty, '--model', model, '--precision', 'fp32', '--out')
    answer = geores(*command, tmp_path / 'out')
    assert answer.code == 0, answer.err
    assert f'nothing was classified: a sample has no valid pixel of VV, VH in {empty}' in answer.out
    record = geores(*command, tmp_path / 'out', '--overwrite', '--json').records[0]
    assert record['valid_share'] == 0
    assert record['notes'][-1].startswith('nothing was classified')


def test_tiles_with_too_few_valid_pixels_everywhere(geores, tmp_path, model, product, radar):
    holes = decibels()
    holes[:, ::2] = np.nan
    other = write_scene(tmp_path / 'holes.tif', S1, values=holes)
    command = ('classify', product, '--model', model, '--precision', 'fp32', '--min-valid', '0.6', '--json')
    found = geores(*command, '--with', other, '--out', tmp_path / 'a').records[0]['notes'][-1]
    assert 'in no tile 60% of the pixels are valid' in found
    whole = geores(*command, '--with', radar, '--out', tmp_path / 'b').records[0]
    assert (whole['valid_share'], 'nothing' in ''.join(whole['notes'])) == (1, False)


def test_sentinel_1_alone(geores, tmp_path, radar):
    model = tiny_bundle(tmp_path / 'radar', bands=('VH', 'VV'), units='dB', gsd=(10.0, 10.0),
                        mean=(-19.0, -12.0), std=(5.0, 5.0))  # fmt: skip
    answer = geores('classify', radar, '--model', model, '--out', tmp_path / 'out', '--precision', 'fp32')
    assert answer.code == 0, answer.err
    tiles = decibels()[::-1].reshape(2, 4, 32, 4, 32).transpose(1, 3, 0, 2, 4).reshape(16, 2, 32, 32)
    wanted = library.load_model(model).predict(np.ascontiguousarray(tiles), batch_size=16)
    np.testing.assert_allclose(scores(tmp_path / 'out')[0].reshape(len(LABELS), -1).T, wanted, atol=1e-5)


def test_no_backscatter_has_a_finite_decibel():
    values = np.array([0.0, 1.0, 0.01], np.float32)
    UnitTransform(decibels=True).apply(values)
    np.testing.assert_allclose(values, [-50, 0, -20], atol=1e-5)


def test_a_level_that_differs_is_said(product, radar, model, tmp_path):
    scene = library.open_scene([product, radar])
    card = library.load_model(model).card
    card = replace(card, processing_level='L2A and GRD')
    assert levels_differ(replace(scene, processing_level='L2A'), card) == ()
    assert 'L1C' in levels_differ(replace(scene, processing_level='L1C'), card)[0]


def test_refusals_of_python(product, radar, model):
    with pytest.raises(UsageError, match='linear_s2'):
        library.classify([product, radar], model, linear_s2=True)
