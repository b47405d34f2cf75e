import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.errors import DatasetError
from geores.splits import block_split

SIZE = 10.0


def grid(rows, cols, step=SIZE):
    y, x = np.mgrid[:rows, :cols].reshape(2, -1) * step
    return np.stack([x, y, x + SIZE, y + SIZE], axis=1)


def names(count):
    return [f'tile{index:05}' for index in range(count)]


def overlap(one, other):
    return (
        min(one[2], other[2]) - max(one[0], other[0]) > 1e-6
        and min(one[3], other[3]) - max(one[1], other[1]) > 1e-6
    )


def gap(one, other):
    x = max(one[0] - other[2], other[0] - one[2], 0)
    y = max(one[1] - other[3], other[1] - one[3], 0)
    return np.hypot(x, y)


@st.composite
def tiles(draw):
    count = draw(st.integers(2, 40))
    corners = draw(st.lists(st.tuples(*[st.integers(-200, 200)] * 2), min_size=count, max_size=count))
    classes = draw(st.lists(st.sampled_from('abc'), min_size=count, max_size=count))
    corners = np.array(corners, float)
    return np.hstack([corners, corners + SIZE]), classes


def split_or_none(*args, **kwargs):
    """Too few blocks are an error; hypothesis draws such tiles too."""
    with contextlib.suppress(DatasetError):
        return block_split(*args, **kwargs)
    return None


@settings(deadline=None, max_examples=80)
@given(tiles(), st.sampled_from([15.0, 40.0, 100.0]), st.sampled_from([0.0, 7.0]), st.integers(0, 3))
def test_parts_never_meet(drawn, block_size, buffer, seed):
    bounds, classes = drawn
    ids = names(len(bounds))
    split = split_or_none(ids, classes, bounds, block_size, 0.3, seed, buffer=buffer)
    if split is None:
        return
    assert not set(split.train) & set(split.val)
    assert set(split.train) | set(split.val) <= set(range(len(ids)))
    for one in split.train:
        for other in split.val:
            assert not overlap(bounds[one], bounds[other])
            assert not buffer or gap(bounds[one], bounds[other]) >= buffer - 1e-6


@settings(deadline=None, max_examples=40)
@given(tiles(), st.randoms(use_true_random=False), st.integers(0, 3))
def test_split_does_not_depend_on_the_order_of_tiles(drawn, random, seed):
    bounds, classes = drawn
    ids = names(len(bounds))
    split = split_or_none(ids, classes, bounds, 40.0, 0.3, seed)
    order = list(range(len(ids)))
    random.shuffle(order)
    again = split_or_none(
        [ids[i] for i in order], [classes[i] for i in order], bounds[order], 40.0, 0.3, seed
    )
    assert (split is None) == (again is None)
    if split is not None:
        assert again.id == split.id
        assert sorted(order[i] for i in again.train) == split.train
        assert sorted(order[i] for i in again.val) == split.val


@settings(deadline=None, max_examples=40)
@given(tiles(), st.integers(0, 3))
def test_blocks_are_whole(drawn, seed):
    bounds, classes = drawn
    split = split_or_none(names(len(bounds)), classes, bounds, 40.0, 0.3, seed)
    if split is not None:
        blocks = np.floor((bounds[:, :2] + SIZE / 2) / 40)
        train, val = ({tuple(blocks[i]) for i in part} for part in (split.train, split.val))
        assert not train & val


def test_each_class_has_about_its_share():
    bounds = grid(40, 40)
    classes = np.random.default_rng(0).choice(['a', 'b', 'rare'], len(bounds), p=[0.6, 0.37, 0.03])
    split = block_split(names(len(bounds)), classes, bounds, 4 * SIZE, 0.2)
    assert len(split.train) + len(split.val) == len(bounds)  # tiles that touch do not overlap
    for label in ('a', 'b', 'rare'):
        held = (classes[split.val] == label).sum() / (classes == label).sum()
        assert 0.15 < held < 0.25


def test_a_class_in_two_blocks_is_in_both_parts_and_mostly_in_training():
    bounds = grid(20, 20)
    classes = np.full(len(bounds), 'common', object)
    inside = (bounds[:, 0] < 40) & (bounds[:, 1] < 40)
    few = (bounds[:, 0] >= 160) & (bounds[:, 1] >= 160)
    classes[np.flatnonzero(inside)[:9]] = 'rare'
    classes[np.flatnonzero(few)[:3]] = 'rare'
    for seed in range(5):
        split = block_split(names(len(bounds)), classes, bounds, 40.0, 0.2, seed)
        assert (classes[split.val] == 'rare').sum() == 3


def test_overlapping_tiles_at_the_seam_are_in_neither_part():
    bounds = grid(1, 40, step=5)
    split = block_split(names(40), ['a', 'b'] * 20, bounds, 50.0, 0.25)
    missing = set(range(40)) - set(split.train) - set(split.val)
    assert missing
    assert all(any(overlap(bounds[one], bounds[other]) for other in split.val) for one in missing)


def test_id_names_the_choice_and_seeds_differ():
    bounds, classes = grid(20, 20), ['a', 'b'] * 200
    split = block_split(names(400), classes, bounds, 40.0, 0.2, 3, buffer=5.0)
    assert split.id.startswith('blocks-40m-buffer5m-0.2-seed3-')
    others = {block_split(names(400), classes, bounds, 40.0, 0.2, seed).id[-12:] for seed in range(4)}
    assert len(others) > 1


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'share': 0.0}, 'val_share'),
        ({'share': 1.0}, 'val_share'),
        ({'block_size': 0.0}, 'block_size'),
        ({'block_size': float('nan')}, 'block_size'),
        ({'buffer': -1.0}, 'buffer'),
        ({'ids': ['same'] * 16}, 'same id'),
        ({'block_size': 1000.0}, 'choose a smaller block size'),
        ({'buffer': 1000.0}, 'too few'),
    ],
)
def test_bad_arguments(change, said):
    good = {'ids': names(16), 'strata': ['a', 'b'] * 8, 'bounds': grid(4, 4), 'block_size': 20.0}
    with pytest.raises(DatasetError, match=said) as error:
        block_split(**(good | change))
    assert '\n' not in str(error.value)
