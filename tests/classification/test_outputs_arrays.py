"""What a classification gives as arrays, lazy ones among them, which agree with its files."""

# ruff: noqa: F811 - fixtures are arguments too
import dask.array as da
import numpy as np
import pytest
import rioxarray
import xarray as xr
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from geores import classify
from geores.errors import ReadError

from ..fixtures import RGB, hold_files, noise, write_scene
from ..outputs_fixtures import multi, path, saved, shares_of  # noqa: F401 - fixtures


def as_array(path, chunks=None):
    return rioxarray.open_rasterio(path, chunks=chunks).assign_coords(band=list(RGB))


def test_dask_in_dask_out(path, multi):
    with as_array(path) as array:
        eager = classify(array, multi, stride=16, precision='fp32')
    assert isinstance(eager.scores.data, np.ndarray)
    assert isinstance(eager.scores.valid_share.data, np.ndarray)
    with as_array(path, chunks={'x': 100, 'y': 100}) as array:
        lazy = classify(array, multi, stride=16, precision='fp32')
        assert isinstance(lazy.scores.data, da.Array)
        assert isinstance(lazy.scores.valid_share.data, da.Array)
        xr.testing.assert_identical(lazy.scores.compute(), eager.scores)
        assert_geodataframe_equal(lazy.tiles, eager.tiles)
        assert lazy.shares == eager.shares


def test_array_gives_what_its_file_gives(path, multi, saved):
    with as_array(path) as array:
        result = classify(array, multi, stride=16, precision='fp32')
    np.testing.assert_array_equal(result.scores.values, saved[0].scores.values)
    np.testing.assert_allclose(result.scores.x, saved[0].scores.x)
    np.testing.assert_allclose(result.scores.y, saved[0].scores.y)
    assert result.scores.rio.crs == saved[0].scores.rio.crs


def counted_array(touched, height=2100, width=2100, fail=False):
    """A dask-backed scene that remembers which of its blocks were computed."""

    def block(part, block_info):
        touched.append(block_info[0]['chunk-location'])
        if fail:
            raise OSError('the link is down')
        return part

    values = da.from_array(noise(3, height, width), chunks=(3, 350, 350)).map_blocks(
        block, meta=np.empty((0, 0, 0), 'uint8')
    )
    ys, xs = 5_800_000 - 10 * (np.arange(height) + 0.5), 300_000 + 10 * (np.arange(width) + 0.5)
    array = xr.DataArray(
        values, dims=('band', 'y', 'x'), coords={'band': list(RGB), 'y': ys, 'x': xs}, name='lazy'
    )
    return array.rio.write_crs('EPSG:32633')


def test_nothing_is_computed_before_it_is_asked_for(multi):
    touched = []
    result = classify(counted_array(touched), multi)
    scores = result.scores
    assert not touched
    corner = scores[:, :3, :3].compute()
    assert np.isfinite(corner).all()
    assert 0 < len(set(touched)) < 36 / 2


def test_failure_of_a_lazy_scene_is_a_read_error(multi, tmp_path):
    result = classify(counted_array([], fail=True), multi)
    with pytest.raises(ReadError, match='rows'):
        result.save(tmp_path)
    assert not hold_files(tmp_path)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile=st.integers(8, 40),
    data=st.data(),
)
@settings(max_examples=15, deadline=None)
def test_files_agree_with_arrays(multi, tmp_path_factory, height, width, tile, data):
    stride = data.draw(st.integers(max(1, tile // 3), tile))
    folder = tmp_path_factory.mktemp('random')
    result = classify(
        write_scene(folder / 'scene.tif', height=height, width=width),
        multi,
        tile=tile,
        stride=stride,
        precision='fp32',
    )
    scores = result.scores
    assert scores.shape == (3, -(-height // stride), -(-width // stride))
    assert np.isfinite(scores).all()
    assert result.tiles['area'].sum() == pytest.approx(height * width * result.pixel_area)
    assert result.valid_share == 1
    assert result.shares == pytest.approx(shares_of(result.tiles))
