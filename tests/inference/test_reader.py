"""Bands on a target grid: equal to rasterio where pixels line up, and the same whatever the windows."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from threading import Event

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geores.errors import ReadError, UsageError
from geores.grid import Tiling
from geores.inference import GridReader, Mask, Plan, UnitTransform
from geores.inference.layer import Block, BlockCache, _free, lent
from geores.inference.masks import open_mask
from geores.inference.target import target_grid
from geores.scenes import open_scene

from ..reader_fixtures import UTM, everywhere, noise, write

PATIENCE = 120
"""Seconds that only a wait without end takes."""


def shrunk(grid, factor):
    height, width = grid.shape.yx
    shape = (-(-height // factor), -(-width // factor))
    return GeoBox(shape, grid.affine @ Affine.scale(factor), grid.crs)


@pytest.fixture
def mixed(tmp_path):
    """A 10 m and a 20 m band on one corner, one pixel of each invalid."""
    fine, coarse = noise((60, 80)), noise((30, 40), 1)
    fine[3, 4] = coarse[5, 6] = 0
    write(tmp_path / 'B02.tif', fine[None], nodata=0, tiled=True, blockxsize=16, blockysize=16)
    write(tmp_path / 'B05.tif', coarse[None], 20.0, nodata=0)
    return open_scene(tmp_path), fine, coarse


def test_same_grid_equals_rasterio(mixed):
    scene, fine, _ = mixed
    values, valid = GridReader(scene, ['B02'], scene.geobox).read(slice(2, 50), slice(3, 71))
    assert np.array_equal(values[0], fine[2:50, 3:71])
    assert np.array_equal(valid, fine[2:50, 3:71] > 0)


def test_nearest_growth_repeats_pixels(mixed):
    scene, fine, coarse = mixed
    reader = GridReader(scene, ['B05', 'B02'], scene.geobox, resampling='nearest')
    values, valid = reader.read(*everywhere(scene.geobox))
    grown = coarse.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(values[0], grown)
    assert np.array_equal(valid, (grown > 0) & (fine > 0))


@pytest.mark.parametrize('steps', [2, 3, 6])
def test_bilinear_growth_equals_gdal(tmp_path, steps):
    coarse = noise((20, 17))
    path = write(tmp_path / 'coarse.tif', coarse[None], 10.0 * steps)
    scene = open_scene(path)
    grid = GeoBox((20 * steps, 17 * steps), scene.geobox.affine @ Affine.scale(1 / steps), UTM)
    values, valid = GridReader(scene, list(scene.bands), grid).read(*everywhere(grid))
    with rasterio.open(path) as file:
        expected = file.read(1, out_shape=grid.shape.yx, resampling=Resampling.bilinear, out_dtype='float32')
    assert valid.all()
    # GDAL rounds to the file's integers.
    assert np.abs(values[0] - expected).max() <= 0.51


def test_invalid_neighbours_take_no_part_in_bilinear_growth(mixed):
    scene, _, coarse = mixed
    values, valid = GridReader(scene, ['B05'], scene.geobox).read(*everywhere(scene.geobox))
    assert not valid[10:12, 12:14].any()
    assert values[0][valid].min() >= coarse[coarse > 0].min() - 1e-2


@pytest.mark.parametrize('factor', [2, 3, 7])
def test_shrinking_averages_the_valid_pixels(mixed, factor):
    scene, fine, _ = mixed
    grid = shrunk(scene.geobox, factor)
    values, valid = GridReader(scene, ['B02'], grid).read(*everywhere(grid))
    padded = np.full([size * factor for size in grid.shape.yx], np.nan)
    padded[:60, :80] = np.where(fine > 0, fine, np.nan)
    blocks = padded.reshape(grid.shape.y, factor, grid.shape.x, factor)
    assert np.allclose(values[0], np.nanmean(blocks, axis=(1, 3)), rtol=1e-6)
    assert valid.all()


@pytest.mark.parametrize('resampling', ['nearest', 'bilinear'])
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_windows_do_not_change_values(tmp_path_factory, resampling, data):
    folder = tmp_path_factory.mktemp('scene')
    fine, coarse = noise((50, 70)), noise((25, 35), 1).astype('float32')
    fine[10:20, 3:9], coarse[7, :] = 0, np.nan
    write(folder / 'B02.tif', fine[None], nodata=0, tiled=True, blockxsize=16, blockysize=16)
    write(folder / 'B05.tif', coarse[None], 20.0, nodata=np.nan)
    scene = open_scene(folder)
    factor = data.draw(st.sampled_from([1, 2, 1.37, 0.5]), label='factor')
    turned = data.draw(st.booleans(), label='warp')
    grid = scene.geobox.to_crs('EPSG:32632') if turned else scene.geobox
    shape = [int(np.ceil(size / factor)) for size in grid.shape.yx]
    grid = GeoBox(tuple(shape), grid.affine @ Affine.scale(factor), grid.crs)
    reader = GridReader(scene, ['B02', 'B05'], grid, resampling=resampling, cache_bytes=2000)
    values, valid = reader.read(*everywhere(grid))
    rows = sorted(data.draw(st.sets(st.integers(0, shape[0]), min_size=2, max_size=2), label='rows'))
    cols = sorted(data.draw(st.sets(st.integers(0, shape[1]), min_size=2, max_size=2), label='cols'))
    reader.expect([slice(*rows)], [slice(*cols)])
    part, part_valid = reader.read(slice(*rows), slice(*cols))
    cut = np.s_[rows[0] : rows[1], cols[0] : cols[1]]
    assert np.array_equal(part_valid, valid[cut])
    assert np.array_equal(part[:, part_valid], values[:, *cut][:, part_valid])


def test_warping_lands_where_rasterio_warps(tmp_path):
    ramp = np.add.outer(np.arange(120.0), 2 * np.arange(90.0)).astype('float32')
    path = write(tmp_path / 'ramp.tif', ramp[None])
    scene = open_scene(path)
    grid = scene.geobox.to_crs('EPSG:32632', resolution=10)
    values, valid = GridReader(scene, list(scene.bands), grid).read(*everywhere(grid))
    expected = np.full(grid.shape.yx, np.nan, np.float32)
    rasterio.warp.reproject(
        ramp, expected, src_transform=scene.geobox.affine, src_crs=UTM, src_nodata=np.nan,
        dst_transform=grid.affine, dst_crs='EPSG:32632', dst_nodata=np.nan,
        resampling=Resampling.bilinear, tolerance=0,
    )  # fmt: skip
    assert np.array_equal(valid, ~np.isnan(expected))
    assert np.allclose(values[0][valid], expected[valid], atol=1e-3)


def test_turned_pixels_are_not_blurred(tmp_path):
    values = noise((96, 128))
    upright = open_scene(write(tmp_path / 'upright.tif', values[None]))
    path = write(tmp_path / 'turned.tif', values.T[None])  # the same pixels, stored column by column
    with rasterio.open(path, 'r+') as file:
        file.transform @= Affine(0, 1, 0, 1, 0, 0)
    turned = open_scene(path)
    found, valid = GridReader(turned, list(turned.bands), upright.geobox).read(*everywhere(upright.geobox))
    assert valid.all()
    np.testing.assert_allclose(found[0], values, atol=1e-3)


@pytest.mark.parametrize(
    ('left', 'one_zone_off'), [(250.0, -104.0), (179.998, 173.998), (-180.002, -174.002)]
)
def test_longitudes_are_counted_round_the_earth(tmp_path, left, one_zone_off):
    values = noise((64, 64))[None]
    found = []
    for west in (left, one_zone_off):
        path = write(tmp_path / f'{west}.tif', values, crs='EPSG:4326')
        with rasterio.open(path, 'r+') as file:
            file.transform = Affine(1e-4, 0, west, 0, -1e-4, 52)
        scene = open_scene(path)
        grid = target_grid(scene, (5, 20)).grid
        found.append(GridReader(scene, list(scene.bands), grid).read(*everywhere(grid)))
    assert found[0][1].mean() > 0.8
    assert np.array_equal(found[0][1], found[1][1])
    np.testing.assert_allclose(found[0][0], found[1][0], atol=0.1)


def test_latitudes_beyond_the_poles(tmp_path):
    path = write(tmp_path / 'beyond.tif', noise((64, 64))[None], crs='EPSG:4326')
    with rasterio.open(path, 'r+') as file:
        file.transform = Affine(1e-4, 0, 10, 0, -1e-4, 90.5)
    with pytest.raises(UsageError, match='latitudes'):
        target_grid(open_scene(path), (5, 20))


def test_sources_of_other_crs_and_extent_come_onto_one_grid(tmp_path):
    write(tmp_path / 'B02.tif', noise((40, 40))[None])
    with rasterio.open(
        tmp_path / 'vv.tif', 'w', driver='GTiff', count=1, height=60, width=60, dtype='float32',
        crs='EPSG:32632', transform=Affine(10, 0, 710_000, 0, -10, 5_810_000), nodata=np.nan,
    ) as file:  # fmt: skip
        file.write(np.full((1, 60, 60), -12.5, np.float32))
        file.descriptions = ['VV']
    scene = open_scene([tmp_path / 'B02.tif', tmp_path / 'vv.tif'])
    values, valid = GridReader(scene, ['VV', 'B02'], scene.geobox).read(*everywhere(scene.geobox))
    assert np.allclose(values[0][valid], -12.5)


def test_conversions_are_applied_in_order(mixed):
    scene, fine, _ = mixed
    reader = GridReader(
        scene, ['B02'], scene.geobox, transforms={'B02': UnitTransform(2.0, -1000.0, 0.0, 5000.0)}
    )
    values, _ = reader.read(*everywhere(scene.geobox))
    assert np.array_equal(values[0], np.clip(fine * 2.0 - 1000, 0, 5000))


def test_masks_make_pixels_invalid(mixed, tmp_path):
    scene, fine, _ = mixed
    classes = noise((30, 40), 2) % 12
    path = write(tmp_path / 'SCL_20m.tif', classes[None].astype('uint8'), 20.0)
    grown = classes.repeat(2, 0).repeat(2, 1)
    grid = scene.geobox
    cloudy = open_mask(path, None, grid)
    assert cloudy.values is not None
    for mask, hit in (
        (cloudy, np.isin(grown, cloudy.values)),
        (open_mask(path, [4], grid), grown == 4),
        (Mask(cloudy.raster), grown != 0),
    ):
        _, valid = GridReader(scene, ['B02'], grid, mask=mask).read(*everywhere(grid))
        assert np.array_equal(valid, (fine > 0) & ~hit)


def test_unreadable_blocks_are_told_with_path_and_window(tmp_path):
    path = write(tmp_path / 'cut.tif', noise((400, 400))[None], compress='deflate')
    whole = path.read_bytes()
    path.write_bytes(whole[:20_000] + bytes(50_000) + whole[70_000:])
    scene = open_scene(path)
    with pytest.raises(ReadError, match=r'cut\.tif.*(rows|window)'):
        GridReader(scene, list(scene.bands), scene.geobox).read(slice(0, 400), slice(0, 400))


def test_blocks_are_decoded_once_and_let_go_after_their_last_use(mixed):
    scene, fine, _ = mixed
    plan = Plan(Tiling(60, 80, 16, 12), (2, 2), 4)
    raster = scene.band('B02').raster
    decoded = []
    read = type(raster).read

    def counted(self, indexes, rows, cols):
        decoded.append((self.path, rows.start, cols.start))
        return read(self, indexes, rows, cols)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(raster), 'read', counted)
        patch.setattr('geores.inference.resampling.BLOCK_PIXELS', 16)
        reader = GridReader(scene, ['B02', 'B05'], scene.geobox)
        rows, cols = plan.windows()
        reader.expect(rows, cols)
        for row, col in product(rows, cols):
            values, _ = reader.read(row, col)
            assert np.array_equal(values[0], fine[row, col])
    assert len(decoded) == len(set(decoded))
    assert reader.held_bytes == 0


def test_a_thread_decodes_other_blocks_while_one_is_awaited(tmp_path, monkeypatch):
    path = write(tmp_path / 'wide.tif', np.arange(1024 * 512, dtype=np.float32).reshape(1, 512, 1024),
                 tiled=True, blockxsize=512, blockysize=512)  # fmt: skip
    scene = open_scene(path)
    reader = GridReader(scene, list(scene.bands), scene.geobox)
    raster, order = scene.rasters[0], []
    started, go_on = Event(), Event()
    decode = raster.read

    def slow(indexes, rows, cols):
        if cols.start == 0:
            started.set()
            assert go_on.wait(PATIENCE)
        order.append(cols.start)
        values = decode(indexes, rows, cols)
        go_on.set()
        return values

    monkeypatch.setattr(raster, 'read', slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reader.read, slice(0, 512), slice(0, 512))
        assert started.wait(PATIENCE)
        # It would wait for the first block forever, did it not decode the second before.
        values, _ = reader.read(slice(0, 512), slice(0, 1024))
        first.result()
    assert order == [512, 0]
    np.testing.assert_array_equal(values, decode([1], slice(0, 512), slice(0, 1024))[0])


def test_a_thread_reads_other_bands_while_one_is_awaited(tmp_path, monkeypatch):
    for seed, name in enumerate(('B02', 'B03')):
        write(tmp_path / f'T33UUU_{name}.tif', noise((1, 64, 64), seed))
    scene = open_scene(tmp_path)
    reader = GridReader(scene, ['B02', 'B03'], scene.geobox)
    awaited, other = (scene.band(name).raster for name in reader.bands)
    started, go_on = Event(), Event()

    def slow(*window, decode=awaited.read):
        started.set()
        assert go_on.wait(PATIENCE)
        return decode(*window)

    def quick(*window, decode=other.read):
        go_on.set()
        return decode(*window)

    monkeypatch.setattr(awaited, 'read', slow)
    monkeypatch.setattr(other, 'read', quick)
    window = slice(0, 64), slice(0, 64)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reader.read, *window)
        assert started.wait(PATIENCE)
        # It would wait for the first band forever, did it not read the second before.
        values, _ = reader.read(*window)
        np.testing.assert_array_equal(values, first.result()[0])


def test_memory_of_windows_is_used_again_and_never_shared():
    _free.clear()
    held = [lent((3, 100, 100), np.float32) for _ in range(3)]
    for number in range(3):
        held[number][:] = number
    assert [int(array[1:, 5:9].max()) for array in held] == [0, 1, 2]
    part = held.pop()[1]
    assert not _free
    assert part.min() == part.max() == 2
    del part
    assert len(_free) == 1
    again = lent((2, 100, 100), np.float32)
    assert not _free
    again[:] = 7
    assert [int(array.max()) for array in held] == [0, 1]
    del held, again
    assert sum(memory.nbytes for memory in _free) == 3 * 120_000
    few = lent((3, 10, 10), np.float32)
    assert few.flags.owndata
    del few
    assert len(_free) == 3


def test_blocks_of_several_are_decoded_together_once():
    cache, asked = BlockCache(2**20), []

    def load(keys):
        asked.append(list(keys))
        return [Block(np.full((1, 2, 2), key), None) for key in keys]

    cache.fill([1, 2], load)
    cache.fill([1, 2, 3], load)
    cache.fill([3], load)
    assert asked == [[1, 2], [3]]
    assert cache.get(2, lambda: None, uses=1).values.max() == 2
    assert cache.held_bytes == 2 * 32


def test_blocks_that_fail_together_are_forgotten():
    cache = BlockCache(2**20)

    def fail(keys):
        raise ReadError('the connection broke')

    with pytest.raises(ReadError, match='broke'):
        cache.fill([1, 2], fail)
    assert cache.get(1, lambda: Block(np.zeros((1, 2, 2)), None)).valid is None
