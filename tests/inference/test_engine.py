"""The engine against plain loops: constant in constant out, ownership, independence of how it is run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.grid import Tiling
from geores.inference import ChunkWork, LazyStore, MemoryStore, Plan, Quicklook, TileTable, VectorSink, run


class ArrayReader:
    """Reads windows of arrays."""

    def __init__(self, values, valid=None):
        self.values = np.asarray(values, np.float32)
        self.valid = np.ones(self.values.shape[1:], bool) if valid is None else valid

    def read(self, rows, cols):
        return self.values[:, rows, cols].copy(), self.valid[rows, cols].copy()


def means(tiles):
    """A step that tells tiles apart: mean and maximum of the first band."""
    first = tiles[:, 0].reshape(len(tiles), -1)
    return {'scores': np.stack([first.mean(1), first.max(1)], axis=1), 'raster': tiles[:, :1]}


@st.composite
def plans(draw, longest=48):
    tile = draw(st.integers(2, 16))
    tiling = Tiling(
        draw(st.integers(1, longest)),
        draw(st.integers(1, longest)),
        tile,
        draw(st.integers(max(1, tile // 4), tile)),
    )
    chunks = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    return Plan(tiling, chunks, draw(st.integers(1, 9)), draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])))


def masks(tiling, seed):
    rng = np.random.default_rng(seed)
    valid = rng.random((tiling.height, tiling.width)) > 0.2
    valid[: tiling.height // 3, : tiling.width // 2] = False
    return valid


def work_through(plan, reader, sinks, **threads):
    store = MemoryStore()
    run(ChunkWork(plan, reader, means, sinks), store, **threads)
    return store


def whole(count):
    return slice(0, count[0]), slice(0, count[1])


@settings(deadline=None, max_examples=40)
@given(plans(), st.floats(-1e4, 1e4, width=32), st.integers(0, 9))
def test_constant_in_constant_out(plan, value, seed):
    valid = masks(plan.tiling, seed)
    constant = np.full((1, *valid.shape), value, np.float32)
    constant[:, ~valid] = np.nan
    work = ChunkWork(plan, ArrayReader(constant, valid), means, [VectorSink(2)], [value])
    store = MemoryStore()
    run(work, store)
    cells, share = TileTable(plan, store).cells(*whole(plan.tiling.cell_shape))
    assert np.allclose(cells[~np.isnan(cells)], value, rtol=1e-5, atol=1e-6)
    if plan.min_valid == 0:
        assert (np.isnan(cells[0]) == (share == 0)).all()


@settings(deadline=None, max_examples=40)
@given(plans(), st.integers(0, 9))
def test_owned_pixels_add_up_and_shares_are_exact(plan, seed):
    valid = masks(plan.tiling, seed)
    store = work_through(plan, ArrayReader(np.zeros((1, *valid.shape)), valid), [VectorSink(2)])
    table = TileTable(plan, store)
    tiles, cells = whole(plan.tiling.shape), whole(plan.tiling.cell_shape)
    assert table.read('owned', *tiles).sum() == valid.sum()
    assert table.cell_valid(*cells).sum() == valid.sum()
    counts, scores = table.read('valid', *tiles), table.read('scores', *tiles)
    y, x = plan.tiling.y, plan.tiling.x
    for row, col in np.ndindex(*plan.tiling.shape):
        inside = valid[y.starts[row] : y.stops[row], x.starts[col] : x.stops[col]]
        assert counts[row, col] == inside.sum()
        enough = inside.sum() > 0 and inside.mean() >= plan.min_valid - 1e-12
        assert np.isnan(scores[row, col, 0]) == (not enough)


@settings(deadline=None, max_examples=40)
@given(plans(), st.integers(0, 9))
def test_cells_are_area_weighted_means_of_tiles(plan, seed):
    rng = np.random.default_rng(seed)
    tiling = plan.tiling
    values = rng.random((1, tiling.height, tiling.width))
    store = work_through(plan, ArrayReader(values), [VectorSink(2)])
    table = TileTable(plan, store)
    scores = table.read('scores', *whole(tiling.shape))[..., 0]
    total, weight = np.zeros((2, tiling.height, tiling.width))
    y, x = tiling.y, tiling.x
    for row, col in np.ndindex(*tiling.shape):
        place = np.s_[y.starts[row] : y.stops[row], x.starts[col] : x.stops[col]]
        total[place] += scores[row, col]
        weight[place] += 1
    found, _ = table.cells(*whole(tiling.cell_shape))
    for row, col in np.ndindex(*tiling.cell_shape):
        place = np.s_[y.cell_edges[row] : y.cell_edges[row + 1], x.cell_edges[col] : x.cell_edges[col + 1]]
        # Every covering tile counts by the pixels it shares with the cell.
        assert found[0, row, col] == pytest.approx(total[place].sum() / weight[place].sum(), rel=1e-5)


@settings(deadline=None, max_examples=40)
@given(plans(), plans(), st.integers(0, 9))
def test_results_do_not_depend_on_chunks_threads_or_windows(plan, other, seed):
    rng = np.random.default_rng(seed)
    tiling = plan.tiling
    reader = ArrayReader(rng.random((2, tiling.height, tiling.width)), masks(tiling, seed))
    sinks = [VectorSink(2), Quicklook([0, 1], 1 + seed)]
    one = work_through(plan, reader, sinks)
    again = Plan(tiling, other.chunk_shape, plan.batch_size, plan.min_valid)
    two = work_through(again, reader, sinks, readers=3, computers=4)
    lazy = LazyStore(ChunkWork(again, reader, means, sinks))
    cells = whole(tiling.cell_shape)
    expected = TileTable(plan, one).cells(*cells)
    for store in (two, lazy):
        for before, after in zip(expected, TileTable(again, store).cells(*cells), strict=True):
            assert np.array_equal(before, after, equal_nan=True)
        pictures = [sinks[1].assemble(p, s) for p, s in ((plan, one), (again, store))]
        assert np.array_equal(*pictures, equal_nan=True)
    rows = slice(tiling.cell_shape[0] // 3, tiling.cell_shape[0])
    part = TileTable(plan, one).cells(rows, slice(0, 1))[0]
    assert np.allclose(part, expected[0][:, rows, :1], rtol=1e-6, equal_nan=True)


def test_small_grids_are_padded_by_reflection():
    seen = []

    def step(tiles):
        seen.append(tiles.copy())
        return {'scores': np.zeros((len(tiles), 1), np.float32)}

    values = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    plan = Plan(Tiling(2, 3, 5, 5), (1, 1), 1)
    run(ChunkWork(plan, ArrayReader(values), step, [VectorSink(1)]), MemoryStore())
    assert np.array_equal(seen[0][0, 0], np.pad(values[0], ((0, 3), (0, 2)), mode='reflect'))


def test_an_error_of_the_step_stops_the_run_and_keeps_what_was_done():
    calls = []

    def step(tiles):
        calls.append(len(tiles))
        if len(calls) > 2:
            raise RuntimeError('no more')
        return {'scores': tiles[:, :1, 0, 0]}

    plan = Plan(Tiling(40, 8, 8, 8), (1, 1), 1)
    store = MemoryStore()
    with pytest.raises(RuntimeError, match='no more'):
        run(ChunkWork(plan, ArrayReader(np.zeros((1, 40, 8))), step, [VectorSink(1)]), store)
    assert store.done() == {0, 1}
