"""Which models a scene may be given to, and what a model is given of scenes of other sensors."""

import numpy as np
import pytest

import geores
from geores.asking.map_source import choose_map_card
from geores.card import shipped_models
from geores.classification.options import ClassifyOptions
from geores.classification.scored import choose_model, levels_differ, unfit
from geores.classification.steps import prepare_classification
from geores.errors import BandError, UsageError
from geores.scenes import open_scene

from ..scene_fixtures import L2A, write_tiff

pytestmark = pytest.mark.filterwarnings('ignore:Use `@` matmul:PendingDeprecationWarning')

TEN = ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12')


def constants(count, step=10, dtype='uint8'):
    """A band for each multiple of `step`."""
    values = np.arange(1, count + 1) * step
    return np.broadcast_to(values[:, None, None], (count, 160, 160)).astype(dtype)


@pytest.fixture(scope='module')
def models():
    return {name: geores.load_model(name) for name in ('aerial-rgb', 'sentinel2')}


def given(path, model, **options):
    """Mean of each band as the model gets it, and the notes."""
    opened = {key: options.pop(key) for key in ('sensor', 'offset', 'bands') if key in options}
    wanted = ClassifyOptions.from_options({'precision': 'fp32', 'workers': 1, **options})
    work = prepare_classification(open_scene(path, **opened), model, wanted)
    reader = work.work.prepared.reader
    rows, cols = work.work.prepared.layout.target.grid.shape
    values, valid = reader.read(slice(0, min(rows, 256)), slice(0, min(cols, 256)))
    return [round(float(band[valid].mean())) for band in values], work.notes


@pytest.mark.parametrize(
    ('name', 'bands', 'resolution', 'more', 'wanted'),
    [
        ('ortho', ('b1', 'b2', 'b3', 'b4'), 0.6, {'photometric': 'RGB'}, [10, 20, 30]),
        ('planet', ('B1', 'B2', 'B3', 'B4'), 3.0, {'photometric': 'MINISBLACK'}, [30, 20, 10]),
        ('m_3807708_se_18_060_20160101', None, 0.6, {'photometric': 'MINISBLACK'}, [10, 20, 30]),
        ('x', ('vis-blue', 'vis-red', 'vis-green'), 0.6, {'photometric': 'MINISBLACK'}, [20, 30, 10]),
    ],
)
def test_a_model_of_colours_gets_the_colours(tmp_path, models, name, bands, resolution, more, wanted):
    count = len(bands) if bands else 4
    path = write_tiff(
        tmp_path / f'{name}.tif', constants(count), descriptions=bands, resolution=resolution, **more
    )
    assert given(path, models['aerial-rgb'])[0] == wanted


@pytest.mark.parametrize(
    ('name', 'bands', 'wanted'),
    [
        ('LT05_192023_20100510', range(1, 8), [30, 20, 10]),
        ('LC09_193023_20230510', range(1, 8), [40, 30, 20]),
    ],
)
def test_landsat_is_too_coarse_for_it_unless_forced(tmp_path, models, name, bands, wanted):
    names = tuple(f'B{number}' for number in bands)
    path = write_tiff(
        tmp_path / f'{name}.tif', constants(7)[:, :40, :40], descriptions=names, resolution=30.0
    )
    with pytest.raises(UsageError, match=r'coarser than the 2\.4 m .*--resolution 2\.4'):
        given(path, models['aerial-rgb'])
    assert given(path, models['aerial-rgb'], resolution=30)[0] == wanted


def test_numbered_bands_of_nobody_are_asked_for(tmp_path, models):
    names = ('B1', 'B2', 'B3', 'B4')
    path = write_tiff(
        tmp_path / 'x.tif', constants(4), descriptions=names, resolution=3.0, photometric='MINISBLACK'
    )
    with pytest.raises(BandError, match=r'several sensors.*--sensor'):
        given(path, models['aerial-rgb'])
    assert given(path, models['aerial-rgb'], sensor='planetscope')[0] == [30, 20, 10]
    assert given(path, models['aerial-rgb'], bands=['nir', 'red', 'green', 'blue'])[0] == [20, 30, 40]


@pytest.mark.parametrize(
    ('dtype', 'name', 'number', 'wanted'),
    [
        ('uint16', L2A, 1500, 500),
        ('float32', L2A, 1500, 500),
        ('uint16', L2A.replace('N0509', 'N0214'), 1500, 1500),
        ('int16', 'T33UUU_20230216T102101_harmonized', 700, 700),
        ('uint16', 'T33UUU_20230216T102101', 1500, 500),
        ('uint16', L2A, 700, 700),
        ('int16', 'T33UUU_20230216T102101', 940, 940),
    ],
)
def test_sentinel2_gets_reflectance(tmp_path, models, dtype, name, number, wanted):
    path = write_tiff(tmp_path / f'{name}.tif', np.full((10, 128, 128), number, dtype), descriptions=TEN)
    values, notes = given(path, models['sentinel2'])
    assert values == [wanted] * 10
    assert any('offset' in note for note in notes) or 'N0214' in name


def test_reflectance_of_hls_is_left_as_it_is(tmp_path, models):
    folder = tmp_path / 'HLS.S30.T33UUU.2023047T100000.v2.0'
    for band in ('B01', *TEN, 'B09', 'B10'):
        values = np.full((1, 100, 100), 1500, 'int16')
        write_tiff(folder / f'{folder.name}.{band}.tif', values, resolution=30.0, nodata=-9999)
    values, notes = given(folder, models['sentinel2'])
    assert values == [1500] * 10
    assert not any('dark objects' in note for note in notes)


def test_four_bands_of_sentinel2_go_to_no_model_unasked(tmp_path):
    bands = ('B02', 'B03', 'B04', 'B08')
    path = write_tiff(tmp_path / 'x.tif', constants(4, 300, 'uint16'), descriptions=bands)
    with pytest.raises(BandError) as caught:
        choose_model(open_scene(path))
    message = str(caught.value)
    assert 'landcover lacks B05, B06, B07, B11, B12 of its 9 bands' in message
    assert 'aerial-rgb takes pixels of 0.3 to 2.4 m, and those of the scene have 10 m' in message


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_nor_where_their_file_does_not_place_them(tmp_path):
    bands = ('B02', 'B03', 'B04', 'B08')
    path = write_tiff(tmp_path / 'x.tif', constants(4, 300, 'uint16'), descriptions=bands, crs=None)
    with pytest.raises(BandError, match='those of the scene have 10 m'):
        choose_model(open_scene(path))


@pytest.mark.parametrize('metres', [10, 500, 2000, 30000])
def test_pixels_far_coarser_than_a_models_are_not_blown_up(tmp_path, models, metres):
    path = write_tiff(tmp_path / 'x.tif', constants(3), resolution=metres, photometric='RGB', crs='EPSG:3857')
    with pytest.raises(BandError, match='no model fits'):
        choose_model(open_scene(path))
    with pytest.raises(UsageError, match=r'--resolution 2\.4 \(resolution=\)'):
        given(path, models['aerial-rgb'])


def test_pictures_are_no_reflectance(tmp_path):
    path = write_tiff(tmp_path / 'x.tif', constants(10), descriptions=TEN)
    scene = open_scene(path)
    reasons = {card.name: unfit(scene, card) for card in shipped_models()}
    assert reasons['landcover'].startswith('takes reflectance, and B02')


def test_what_fits_is_taken(tmp_path):
    full = write_tiff(tmp_path / 'full.tif', constants(10, 300, 'uint16'), descriptions=TEN)
    assert choose_model(open_scene(full))[0].name == 'landcover'
    for level, wanted in (('L1C', 'landcover-l1c'), ('L2A', 'landcover')):
        name = f'S2A_MSI{level}_20170216T102101_N0204_R065_T33UUT_20170216T102204.tif'
        scene = open_scene(write_tiff(tmp_path / name, constants(10, 1300, 'uint16'), descriptions=TEN))
        card, why = choose_model(scene)
        assert (scene.processing_level, card.name) == (level, wanted)
        assert ('L1C alone, which the scene is (landcover is for L1C and L2A: --model landcover)' in why) == (
            level == 'L1C'
        )
        assert levels_differ(scene, card) == ()
        mapped, also = choose_map_card(scene)
        assert (mapped.name, also) == (wanted, why.split('; sentinel2 would')[0])
    fine = write_tiff(tmp_path / 'fine.tif', constants(3), resolution=0.3, photometric='RGB')
    card, why = choose_model(open_scene(fine))
    assert card.name == 'aerial-rgb'  # a tile of a mosaic need not show one scene
    assert 'aerial-scenes or resnet18-scenes would give a tile one class: --model aerial-scenes' in why
