"""Tiles cover every pixel, own each pixel once, and agree with plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.errors import UsageError
from geores.grid import Axis, Tiling
from geores.inference.plan import Plan, plan_chunks


@st.composite
def axes(draw):
    tile = draw(st.integers(1, 40))
    return Axis(draw(st.integers(1, 200)), tile, draw(st.integers(1, tile)))


@given(axes())
def test_every_pixel_is_covered_and_owned_once(axis):
    covered = np.zeros(axis.size, int)
    owned = np.zeros(axis.size, int)
    for i in range(axis.count):
        covered[axis.starts[i] : axis.stops[i]] += 1
        owned[axis.edges[i] : axis.edges[i + 1]] += 1
        assert axis.starts[i] <= axis.edges[i] < axis.edges[i + 1] <= axis.stops[i]
    assert (covered >= 1).all()
    assert (owned == 1).all()


@given(axes())
def test_tiles_start_on_the_stride_but_the_last(axis):
    assert (axis.starts[:-1] == np.arange(axis.count - 1) * axis.stride).all()
    assert axis.stops[-1] == axis.size


@given(axes(), st.data())
def test_touching_and_overlap_agree_with_loops(axis, data):
    start = data.draw(st.integers(0, axis.size - 1))
    stop = data.draw(st.integers(start + 1, axis.size))
    expected = [i for i in range(axis.count) if axis.starts[i] < stop and axis.stops[i] > start]
    found = axis.touching(start, stop)
    assert list(range(found.start, found.stop)) == expected
    matrix = axis.overlap(slice(0, axis.count), slice(0, axis.cell_count))
    assert (matrix.sum(axis=1) == axis.stops - axis.starts).all()
    i, j = data.draw(st.integers(0, axis.count - 1)), data.draw(st.integers(0, axis.cell_count - 1))
    tile = set(range(axis.starts[i], axis.stops[i]))
    cell = set(range(axis.cell_edges[j], axis.cell_edges[j + 1]))
    assert matrix[i, j] == len(tile & cell)


def test_cells_are_counted_from_the_origin():
    tiling = Tiling(100, 130, 64, 32)
    assert tiling.cell_shape == (4, 5)
    assert tiling.shape == (3, 4)
    assert tiling.x.starts.tolist() == [0, 32, 64, 66]


@pytest.mark.parametrize(('tile', 'stride'), [(8, 0), (8, 9), (0, 0), (-1, -1)])
def test_bad_tiles_are_refused(tile, stride):
    with pytest.raises(UsageError, match=r'stride|tile'):
        Tiling(100, 100, tile, stride)


@settings(deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(2, 40), st.data(), st.integers(1, 10**6))
def test_chunks_partition_tiles_pixels_and_cells(height, width, tile, data, bytes_per_pixel):
    tiling = Tiling(height, width, tile, data.draw(st.integers(1, tile)))
    shape = data.draw(
        st.one_of(
            st.just(plan_chunks(tiling, bytes_per_pixel=bytes_per_pixel)),
            st.tuples(st.integers(1, 5), st.integers(1, 5)),
        )
    )
    plan = Plan(tiling, shape, 4)
    tiles, pixels = np.zeros(tiling.shape, int), np.zeros((height, width), int)
    cells = np.zeros(tiling.cell_shape, int)
    chunks = list(plan)
    assert [chunk.index for chunk in chunks] == list(range(len(plan)))
    for chunk in chunks:
        tiles[chunk.rows, chunk.cols] += 1
        pixels[plan.owned(chunk)] += 1
        cells[plan.cells(chunk)] += 1
        read, own = plan.window(chunk.rows, chunk.cols), plan.owned(chunk)
        assert all(r.start <= o.start and o.stop <= r.stop for r, o in zip(read, own, strict=True))
    assert (tiles == 1).all()
    assert (pixels == 1).all()
    assert (cells == 1).all()


@settings(deadline=None)
@given(st.sampled_from([16, 32, 64, 120, 256, 512]), st.data(), st.integers(1, 10**4), st.integers(1, 10**4))
def test_chunks_hold_little_work(tile, data, height, width):
    """What is lost where a run stops: a chunk of at most 2 million pixels, tiles side by side unchanged."""
    stride = data.draw(st.integers(1, tile))
    rows, cols = plan_chunks(Tiling(height, width, tile, stride), bytes_per_pixel=20)
    assert rows * cols * tile**2 <= max(2**21, tile**2)
    tiling = Tiling(4_000, 4_000, tile, tile)
    rows, cols = plan_chunks(tiling, bytes_per_pixel=20)
    assert rows == 1024 // tile
    assert cols in (rows, rows + 1)


def test_wide_strips_make_low_chunks():
    tiling = Tiling(100_000, 1_000_000, 64, 64)
    rows, cols = plan_chunks(tiling, bytes_per_pixel=20)
    assert rows == 1
    assert rows * cols <= 4096
