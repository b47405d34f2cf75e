"""Which pixels count: nodata of one band and of all, blank borders, patches, 16 bits, backscatter."""

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - gives arrays their place
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geores import classify, load_model
from geores.card import shipped_models
from geores.datasets import ReBEN, SceneFolder
from geores.datasets.patches import GeoTIFFPatches, GeoTIFFPatchesDataModule
from geores.errors import DatasetError
from geores.inference.prepared import prepare_scene
from geores.options import SceneOptions
from geores.scenes import FileRaster, open_scene
from geores.scenes.borders import mirror_invalid
from geores.scenes.raster import valid_values

from ..reben_fixtures import make_reben
from ..scene_fixtures import write_tiff

NAMES = ('B02', 'B03', 'B04', 'B08')


def seen(path, model='aerial-rgb'):
    """What a model gets of a scene: values, validity, notes."""
    card = next(card for card in shipped_models() if card.name == model)
    job = prepare_scene(open_scene(path), card, SceneOptions(workers=1), device='cpu')
    rows, cols = job.layout.target.grid.shape.yx
    return (*job.reader.read(slice(0, rows), slice(0, cols)), job.notes)


def coast(dark, dtype='uint8', nodata=0):
    """Land beside water that is nodata in the bands `dark`, with a corner that is nodata in all."""
    image = np.random.default_rng(0).integers(60, 200, (3, 96, 96))
    image[:, :, 32:] = np.array([20, 40, 60])[:, None, None]
    for band in dark:
        image[band, :, 32:] = nodata
    image[:, :8, :8] = nodata
    return image.astype(dtype)


@pytest.mark.parametrize(
    ('dark', 'dtype', 'nodata', 'options'),
    [
        ([0], 'uint8', 0, {}),
        ([1, 2], 'uint8', 0, {'interleave': 'band'}),
        ([2], 'uint8', 255, {'tiled': True, 'blockxsize': 32, 'blockysize': 32}),
        ([0, 1], 'uint16', 0, {}),
        ([0], 'uint16', 65535, {}),
    ],
)
def test_a_pixel_is_nodata_where_all_bands_are(tmp_path, dark, dtype, nodata, options):
    image = coast(dark, dtype, nodata)
    path = write_tiff(tmp_path / 'a.tif', image, resolution=1.0, nodata=nodata, photometric='RGB', **options)
    with rasterio.open(path) as file:
        expected = file.dataset_mask() > 0
    assert np.array_equal(seen(path)[1], expected)
    assert expected.mean() == 1 - 64 / 96**2


@pytest.mark.parametrize('nodata', [-9999, -32768, -999])
def test_fill_in_one_band_is_no_measurement(tmp_path, nodata):
    image = coast([0], 'int16', nodata)
    raster = FileRaster(str(write_tiff(tmp_path / 'a.tif', image, nodata=nodata)))
    valid = raster.read([1, 2, 3], slice(0, 96), slice(0, 96))[1]
    assert np.array_equal(valid, (image != nodata).all(0))


def test_products_of_sentinel2_have_nodata_in_each_band(tmp_path):
    image = np.full((1, 64, 64), 900, 'uint16')
    image[:, :8] = 0
    name = 'S2A_MSIL2A_20210601T102021_N0300_R065_T33UUU_20210601T160000'
    for band in ('B02', 'B03'):
        write_tiff(tmp_path / name / f'T33UUU_20210601T102021_{band}_10m.tif', image)
    scene = open_scene(tmp_path / name)
    for raster in scene.rasters:
        assert raster.read([1], slice(0, 64), slice(0, 64))[1].mean() == 56 / 64


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.0, 255.0, -9999.0, float('nan'), None]), st.booleans())
def test_validity_by_values(seed, mark, each):
    draw = np.random.default_rng(seed)
    values = draw.choice([0.0, 1.0, 255.0, -9999.0, np.nan, np.inf], (3, 6, 7)).astype('float32')
    found = valid_values(values, [mark] * 3, each=each)
    found = np.ones((6, 7), bool) if found is None else found
    for row, col in np.ndindex(6, 7):
        pixel = values[:, row, col]
        marked = pixel == mark if mark is not None else np.zeros(3, bool)
        bad = marked.any() if each or mark == -9999 else marked.all()
        assert found[row, col] == (np.isfinite(pixel).all() and not bad)


@pytest.mark.parametrize(
    ('dtype', 'blank'),
    [('uint16', 0), ('float32', -9999), ('int16', -32768), ('uint16', 65535), ('uint8', 0)],
)
def test_an_unmarked_border_is_left_out_and_said(tmp_path, dtype, blank):
    data = np.random.default_rng(0).integers(30, 250, (3, 256, 256)) * (1 if dtype == 'uint8' else 10)
    outside = np.abs(np.mgrid[0:256, 0:256].sum(0) - 255) >= 90
    data[:, 100:104, 100:104] = 0 if blank == 0 else 300  # dark in the middle
    values = np.where(outside, blank, data).astype(dtype)
    options = {'photometric': 'RGB'}
    if dtype == 'int16':
        options = {'descriptions': ('red', 'green', 'blue')}
    tagged = seen(write_tiff(tmp_path / 'tagged.tif', values, resolution=3.0, nodata=blank, **options))
    found = seen(write_tiff(tmp_path / 'plain.tif', values, resolution=3.0, **options))
    assert np.array_equal(found[1], tagged[1])
    assert np.array_equal(found[0][:, found[1]], tagged[0][:, tagged[1]])
    assert any('at its edges' in note for note in found[2])
    assert not any('at its edges' in note for note in tagged[2])


def test_a_border_over_several_files_and_in_arrays(tmp_path):
    data = np.random.default_rng(0).integers(1, 3000, (3, 128, 128))
    data[:, :, :40] = 0
    data[0, 60:, 60:] = 0  # dark in one band
    array = xr.DataArray(
        data.astype('uint16'),
        dims=('band', 'y', 'x'),
        coords={
            'band': ['red', 'green', 'blue'],
            'y': 5e6 - 2.0 * np.arange(128),
            'x': 5e5 + 2.0 * np.arange(128),
        },
    ).rio.write_crs(32633)
    several = array.to_dataset('band')
    for source in (array, several):
        _, valid, notes = seen(source)
        assert valid.mean() == 88 / 128
        assert any('31 % of the scene, at its edges, is 0' in note for note in notes)


def test_no_border_where_there_is_ground(tmp_path):
    draw = np.random.default_rng(0)
    inside = draw.integers(1, 250, (3, 128, 128))
    inside[:, 40:90, 40:90] = 0  # not at an edge
    one_band = draw.integers(1, 250, (3, 128, 128))
    one_band[1, :, :60] = 0
    for image in (inside, one_band, np.zeros((3, 128, 128))):
        path = write_tiff(tmp_path / 'a.tif', image.astype('uint8'), resolution=1.0, photometric='RGB')
        _, valid, notes = seen(path)
        assert valid.all()
        assert not any('edges' in note for note in notes)


def make_patches(root, *, bad=None, nodata=None, dtype='uint16', count=8):
    """Patches of three classes; half of the first class has bad pixels in its upper third."""
    (root / 'images').mkdir(parents=True)
    rows = ['file,label']
    for place, label in enumerate(('field', 'town', 'water')):
        for number in range(count):
            values = (
                np.random.default_rng(place * count + number).integers(200, 800, (4, 30, 30)).astype(float)
            )
            values[place] += 2500
            if bad is not None and place == 0 and number >= count // 2:
                values[:, :10] = bad
            name = f'{label}{number}.tif'
            write_tiff(root / 'images' / name, values.astype(dtype), descriptions=NAMES, nodata=nodata)
            rows.append(f'{name},{label}')
    (root / 'labels.csv').write_text('\n'.join(rows) + '\n')
    return root


@pytest.mark.parametrize('size', [30, 60, 15])
@pytest.mark.parametrize(
    ('bad', 'nodata', 'dtype'),
    [
        (65535, 65535, 'uint16'),
        (0, 0, 'uint16'),
        (-9999, -9999, 'float32'),
        (np.nan, np.nan, 'float32'),
        (np.nan, None, 'float32'),
    ],
)
def test_nodata_of_patches_is_in_no_statistic_and_filled(tmp_path, bad, nodata, dtype, size):
    def data(root):
        module = GeoTIFFPatchesDataModule(str(root), size=size, val_share=0.25)
        module.setup()
        return module

    clean = data(make_patches(tmp_path / 'clean', dtype=dtype))
    edge = data(make_patches(tmp_path / 'edge', dtype=dtype, bad=bad, nodata=nodata))
    for one, other in zip(edge.statistics, clean.statistics, strict=True):
        assert one == pytest.approx(other, rel=0.03)
    for index in range(len(edge.dataset)):
        image = edge.dataset[index]['image'].numpy()
        assert np.isfinite(image).all()
        assert 0 < image.min() <= image.max() < 3400
    number = edge.dataset.ids.index('edge/field7.tif')
    # Filled with ground of its own, mirrored: it is as bright as the patch without holes.
    assert edge.dataset[number]['image'].numpy().mean((1, 2)) == pytest.approx(
        clean.dataset[number]['image'].numpy().mean((1, 2)), rel=0.1
    )


def test_patches_are_filled_as_their_model_fills(tmp_path):
    root = make_patches(tmp_path / 'a', bad=0, nodata=0, count=2)
    images = GeoTIFFPatches(root, fill=[11.4, 12, 13, 14])
    assert images[images.ids.index('a/field1.tif')]['image'][:, 0, 0].tolist() == [11, 12, 13, 14]


def test_a_patch_without_valid_pixels_is_named(tmp_path):
    root = make_patches(tmp_path / 'a', nodata=0, count=2)
    write_tiff(root / 'images' / 'town1.tif', np.zeros((4, 30, 30), 'uint16'), descriptions=NAMES, nodata=0)
    with pytest.raises(DatasetError, match=r'town1\.tif: has no valid pixel'):
        GeoTIFFPatchesDataModule(str(root), size=30).setup()


@pytest.mark.parametrize('ending', ['tif', 'png'])
@pytest.mark.parametrize('count', [3, 4])
def test_pictures_of_16_bits_are_not_cut_to_8(tmp_path, ending, count):
    values = np.random.default_rng(0).integers(0, 3000, (count, 40, 40)).astype('uint16')
    path = tmp_path / 'a' / f'x.{ending}'
    driver = {'tif': {'photometric': 'RGB'}, 'png': {'driver': 'PNG', 'crs': None}}[ending]
    write_tiff(path, values, **driver)
    (tmp_path / 'a' / f'x.{ending}.aux.xml').unlink(missing_ok=True)
    Image.fromarray(np.zeros((40, 40, 3), 'uint8')).save(tmp_path / 'a' / 'y.png')
    data = SceneFolder(tmp_path)
    assert data[1]['image'].max() == 0
    with pytest.raises(DatasetError, match=rf'x\.{ending}'):
        data[0]


@pytest.mark.parametrize(('number', 'text'), [(0.3, 'linear scale'), (-np.inf, 'infinite'), (np.nan, 'NaN')])
def test_backscatter_that_is_not_in_db_is_refused(tmp_path, number, text):
    rows = make_reben(tmp_path, 2)
    name = rows[0]['s1_name']
    path = next(tmp_path.rglob(f'{name}_VH.tif'))
    with rasterio.open(path, 'r+') as file:
        values = file.read(1)
        values[:] = np.abs(values) * number if number == 0.3 else values
        values[3, 4] = number
        file.write(values, 1)
    with pytest.raises(DatasetError, match=f'VH of {name}.*{text}'):
        [ReBEN(tmp_path, 'all', 's1')[index] for index in range(2)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 9))
def test_invalid_pixels_are_the_nearest_valid_ones_mirrored(seed, height, width):
    draw = np.random.default_rng(seed)
    values = draw.random((2, height, width)).astype('float32')
    valid = draw.random((height, width)) < draw.random()
    valid[draw.integers(height), draw.integers(width)] = True
    filled = mirror_invalid(values, valid)
    assert np.array_equal(filled[:, valid], values[:, valid])
    known = np.argwhere(valid)
    for row, col in np.argwhere(~valid):
        apart = ((known - (row, col)) ** 2).sum(1)
        nearest = known[apart == apart.min()]
        places = [(2 * r - row, 2 * c - col) for r, c in nearest] + [tuple(one) for one in nearest]
        inside = [(r, c) for r, c in places if 0 <= r < height and 0 <= c < width and valid[r, c]]
        assert any(np.array_equal(filled[:, row, col], values[:, r, c]) for r, c in inside)


def test_a_tile_at_the_edge_of_a_swath_does_not_depend_on_its_chunk(tmp_path):
    """Tiles get mirrored ground of their own, whatever was read with them."""
    values = np.random.default_rng(0).integers(1, 250, (3, 256, 256)).astype('uint8')
    values[:, np.add(*np.mgrid[:256, :256]) < 200] = 0
    path = write_tiff(tmp_path / 'a.tif', values, resolution=1.0, nodata=0, photometric='RGB')
    model = load_model('aerial-rgb')
    results = [classify(path, model, batch_size=size).scores for size in (1, 7)]
    assert np.allclose(*results, atol=5e-3, equal_nan=True)
    corner = values[:, :128, 128:].astype('float32')
    filled = mirror_invalid(corner, corner[0] > 0)
    expected = model.predict(filled[None])[0]
    assert np.allclose(results[0][:, 0, 1], expected, atol=0.02)
