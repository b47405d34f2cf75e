"""Dark objects subtracted from L1C scenes: `geores.inference.units`."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from shapely import box

import geores as library
from geores.datasets import SceneTiles
from geores.errors import UsageError
from geores.inference import UnitTransform
from geores.inference.units import (
    DARK,
    HAZIEST,
    needs_dark_subtraction,
    subtract_dark_objects,
    unit_transforms,
)
from geores.scenes import merge_scenes
from geores.tasks.augment import Smooth

from ..fixtures import tiny_bundle, write_scene

BANDS = ('B02', 'B03', 'B04', 'B08', 'B10')
PATH = np.array([900, 500, 300, 120, 0])


def surface(side=256):
    """Reflectance times 10,000 of fields around a dark lake of 2 % of the scene."""
    values = np.random.default_rng(0).integers(600, 3000, (len(BANDS), side, side)).astype(np.uint16)
    values[:, :32, : side // 6] = DARK
    return values


@pytest.fixture
def hazy(tmp_path):
    """An L1C scene: its cirrus band says so."""
    values = surface() + PATH[:, None, None].astype(np.uint16)
    return write_scene(tmp_path / 'hazy.tif', BANDS, dtype='uint16', values=values)


@pytest.fixture
def model(tmp_path):
    return tiny_bundle(
        tmp_path / 'l2a', bands=BANDS[:4], units='reflectance*10000', gsd=(10.0, 10.0),
        mean=(1500.0,) * 4, std=(900.0,) * 4, processing_level='L2A',
    )  # fmt: skip


def corrected(path, bands=BANDS[:4]):
    scene = library.open_scene(path)
    stored = {name: UnitTransform(1.0, 0.0) for name in bands}
    return subtract_dark_objects(scene, bands, stored)


def test_what_the_air_adds_is_taken_away(hazy):
    found, notes = corrected(hazy)
    added = [-found[name].bias for name in BANDS[:4]]
    np.testing.assert_allclose(added, PATH[:4], atol=1)
    assert 'B02 900, B03 500, B04 300, B08 120' in notes[0]


def test_a_scene_without_dark_objects_is_spared(tmp_path):
    bright = write_scene(
        tmp_path / 'snow.tif', BANDS, dtype='uint16', values=np.full((5, 64, 64), 9000, np.uint16)
    )
    found, _ = corrected(bright)
    assert -found['B02'].bias == HAZIEST
    assert HAZIEST > -found['B03'].bias > -found['B04'].bias > -found['B08'].bias > 0


def test_a_clear_scene_is_left_alone(tmp_path):
    clear = write_scene(tmp_path / 'clear.tif', BANDS, dtype='uint16', values=surface() // 2)
    found, notes = corrected(clear)
    assert notes == ()
    assert found['B02'] == UnitTransform(1.0, 0.0)


def test_nodata_is_not_dark(tmp_path):
    values = surface() + PATH[:, None, None].astype(np.uint16)
    values[:, 128:] = 0
    path = write_scene(tmp_path / 'edge.tif', BANDS, dtype='uint16', values=values, nodata=0)
    np.testing.assert_allclose(-corrected(path)[0]['B02'].bias, 900, atol=1)


def test_offsets_of_a_product_stay(hazy):
    scene = library.open_scene(hazy)
    bands = {name: replace(band, scale=1e-4, offset=-0.01) for name, band in scene.bands.items()}
    scene = replace(scene, bands=bands)
    card = replace(library.load_model('sentinel2').card, processing_level='L2A')
    found, _ = unit_transforms(
        scene, card, ['B02'], np.ones((1, 1, 4, 4), np.float32), np.ones((1, 4, 4), bool)
    )
    pixels = np.array([0.0, 1100.0, 2000.0], np.float32)
    found['B02'].apply(pixels)
    np.testing.assert_allclose(pixels, [0, 200, 1100], atol=1)  # 800 of haze after the 100 of the product


def test_only_l1c_for_models_of_l2a(hazy):
    scene = library.open_scene(hazy)
    card = replace(library.load_model('sentinel2').card, processing_level='L2A')
    assert needs_dark_subtraction(scene, card)
    assert not needs_dark_subtraction(scene, card, 'none')
    assert not needs_dark_subtraction(replace(scene, processing_level='L2A'), card)
    assert not needs_dark_subtraction(replace(scene, processing_level=None), card)
    other = replace(scene, name='radar', processing_level=None, bands={})
    assert needs_dark_subtraction(merge_scenes([other, scene]), card)
    assert not needs_dark_subtraction(merge_scenes([scene, replace(other, processing_level='L2A')]), card)
    assert not needs_dark_subtraction(scene, replace(card, processing_level='L1C and L2A'))
    assert not needs_dark_subtraction(scene, library.load_model('aerial-rgb').card)


def test_a_part_of_a_scene_is_corrected_as_the_whole(hazy, model):
    whole = library.classify(hazy, model, precision='fp32')
    part = library.classify(
        hazy, model, precision='fp32', bbox=(300_000, 5_800_000 - 1280, 301_280, 5_800_000)
    )
    np.testing.assert_allclose(part.scores, whole.scores[:, :4, :4], atol=1e-5)


def test_scores_are_those_of_the_surface(hazy, model, tmp_path):
    ground = write_scene(tmp_path / 'ground.tif', BANDS[:4], dtype='uint16', values=surface()[:4])
    wanted = library.classify(ground, model, precision='fp32')
    found = library.classify(hazy, model, precision='fp32')
    np.testing.assert_allclose(found.scores, wanted.scores, atol=2e-3)
    assert any('dark objects subtracted' in note for note in found.info.notes)
    plain = library.classify(hazy, model, precision='fp32', atmosphere='none')
    assert np.abs(plain.scores - wanted.scores).max() > 0.01
    assert any('less reliable' in note for note in plain.info.notes)


def test_an_array_in_memory_too(hazy, model):
    import xarray as xr

    with rasterio.open(hazy) as file:
        array = xr.DataArray(
            file.read(), dims=('band', 'y', 'x'),
            coords={'band': list(BANDS), 'y': 5_799_995 - 10.0 * np.arange(256),
                    'x': 300_005 + 10.0 * np.arange(256)},
        )  # fmt: skip
    found = library.classify(array, model, precision='fp32')
    np.testing.assert_allclose(
        found.scores, library.classify(hazy, model, precision='fp32').scores, atol=1e-4
    )


def test_the_command(geores, hazy, model, tmp_path):
    answer = geores('classify', hazy, '--model', model, '--atmosphere', 'fog', '--out', tmp_path / 'out')
    assert answer.code == 2
    assert "auto or none, not 'fog'" in answer.err
    assert not (tmp_path / 'out').exists()
    answer = geores('classify', hazy, '--model', model, '--out', tmp_path / 'out')
    assert answer.code == 0
    assert 'dark objects subtracted' in answer.out


def test_refused_in_python(hazy, model):
    with pytest.raises(UsageError, match='atmosphere'):
        library.classify(hazy, model, atmosphere='6s')


def test_smooth_keeps_the_mean_and_lowers_detail():
    torch.manual_seed(0)
    images = torch.rand(16, 3, 32, 32) * 1000
    smooth = Smooth(share=1.0)(images, ('red', 'green', 'blue'))
    torch.testing.assert_close(smooth.mean((2, 3)), images.mean((2, 3)), rtol=0.02, atol=0)
    assert (smooth.std((2, 3)) < images.std((2, 3))).all()
    torch.testing.assert_close(Smooth(share=0.0)(images, ()), images)
    with pytest.raises(UsageError, match='contrast'):
        Smooth(contrast=1.5)


def test_tiles_for_a_card_are_what_classify_sees(hazy, model, tmp_path):
    square = gpd.GeoDataFrame(
        {'class': ['field']}, geometry=[box(300_000, 5_797_440, 302_560, 5_800_000)], crs='EPSG:32633'
    )
    square.to_file(tmp_path / 'labels.gpkg')
    card = library.load_model(model).card
    corrected = SceneTiles.for_card(card, hazy, tmp_path / 'labels.gpkg', 'class')
    plain = SceneTiles.for_card(card, hazy, tmp_path / 'labels.gpkg', 'class', processing_level=None)
    assert any('dark objects subtracted' in note for note in corrected.notes)
    difference = plain[0]['image'] - corrected[0]['image']
    np.testing.assert_allclose(difference.amax((1, 2)), PATH[:4], atol=1)
