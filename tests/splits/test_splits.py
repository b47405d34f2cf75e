import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geores.errors import DatasetError
from geores.splits import group_folds, near_duplicates
from geores.splits.buffer import perceptual_hash


def images(count, side=48, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 255, (count, 3, 8, 8))
    return coarse.repeat(side // 8, 2).repeat(side // 8, 3).astype(np.uint8)


def test_hash_stays_where_an_image_changes_little():
    image = images(1)[0]
    bits = perceptual_hash(image)
    assert bits.shape == (64,)
    noisy = image + np.random.default_rng(1).normal(0, 4, image.shape)
    darker = image * 0.8
    for other in (noisy, darker, image[:, ::1, ::1].astype(np.uint16) * 40):
        assert (perceptual_hash(other) != bits).sum() <= 4
    strangers = [(perceptual_hash(one) != bits).sum() for one in images(20, seed=5)]
    assert min(strangers) > 10


def test_near_duplicates_share_a_group():
    unlike = images(6)
    noise = np.random.default_rng(2).normal(0, 3, unlike[:2].shape)
    groups = near_duplicates([*unlike, *(unlike[:2] + noise)])
    assert (groups[0], groups[1]) == (groups[6], groups[7])
    assert len(set(groups[:6])) == 6
    assert near_duplicates([]).shape == (0,)


def test_near_duplicates_of_near_duplicates_share_it_too():
    first, last = images(2).astype(float)
    steps = [first + (last - first) * part for part in np.linspace(0, 1, 60)]
    assert len(set(near_duplicates(steps))) == 1
    assert len(set(near_duplicates([first, last]))) == 2


@given(
    strata=st.lists(st.integers(0, 2), min_size=12, max_size=60),
    folds=st.integers(2, 4),
    seed=st.integers(0, 9),
)
def test_folds_keep_each_sample_once_and_groups_whole(strata, folds, seed):
    ids = [f'image{index}' for index in range(len(strata))]
    groups = [index // 3 for index in range(len(strata))]
    splits = group_folds(ids, [str(one) for one in strata], groups, folds, seed)
    assert sorted(index for split in splits for index in split.val) == list(range(len(ids)))
    for split in splits:
        assert sorted(split.train + split.val) == list(range(len(ids)))
        assert not {groups[index] for index in split.train} & {groups[index] for index in split.val}
    assert len({split.id for split in splits}) == folds


def test_folds_depend_on_names_and_not_on_order():
    ids = [f'image{index}' for index in range(40)]
    strata = [str(index % 3) for index in range(40)]
    order = np.random.default_rng(0).permutation(40)
    one = group_folds(ids, strata, list(range(40)), 4, 0)
    two = group_folds([ids[k] for k in order], [strata[k] for k in order], list(range(40)), 4, 0)
    assert [split.id for split in one] == [split.id for split in two]
    other = group_folds(ids, strata, list(range(40)), 4, 1)
    assert other[0].id != one[0].id


def test_folds_that_cannot_be_made():
    with pytest.raises(DatasetError, match='folds have to be 2 or more'):
        group_folds(['a', 'b'], ['x', 'x'], [0, 1], 1, 0)
    with pytest.raises(DatasetError, match='1 groups of samples are too few for 2 folds'):
        group_folds(['a', 'b'], ['x', 'x'], [0, 0], 2, 0)
    with pytest.raises(DatasetError, match='same id'):
        group_folds(['a', 'a'], ['x', 'x'], [0, 1], 2, 0)
