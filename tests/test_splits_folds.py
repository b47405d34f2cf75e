"""Cross-validation by ground, in scikit-learn's protocol."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score

from geores.errors import DatasetError
from geores.splits import GeographicKFold, LeaveOneRegionOut

from .test_splits_geographic import all_distances, scattered

PLACES = scattered(120, 'antimeridian')
LABELS = np.random.default_rng(0).choice(list('ab'), 120)


@pytest.mark.parametrize(
    'options',
    [
        {'method': 'blocks', 'block_size': 700},
        {'method': 'hexagons', 'block_size': 700},
        {'method': 'clusters', 'cluster_count': 12},
        {'method': 'random'},
    ],
)
def test_each_row_tests_once_away_from_training(options):
    buffer = 0 if options['method'] == 'random' else 150
    folds = list(GeographicKFold(4, buffer=buffer, **options).split(PLACES, LABELS))
    assert len(folds) == 4
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(120))
    distances = all_distances(PLACES)
    for train, test in folds:
        assert 24 <= len(test) <= 36
        assert not set(train) & set(test)
        assert not buffer or distances[np.ix_(train, test)].min() >= buffer


def test_scikit_learn_takes_it():
    features = np.random.default_rng(1).normal(size=(120, 3))
    cv = GeographicKFold(3, 'blocks', block_size=700, buffer=100, positions=PLACES)
    assert len(cross_val_score(LogisticRegression(), features, LABELS, cv=cv)) == cv.get_n_splits() == 3
    with pytest.raises(DatasetError, match='120 positions are given for 5 rows'):
        next(cv.split(features[:5]))


def test_leaving_a_region_out():
    regions = np.where(PLACES[:, 0] < 0, 'east', 'west')
    theirs = list(LeaveOneGroupOut().split(PLACES, groups=regions))
    for (train, test), (their_train, their_test) in zip(
        LeaveOneRegionOut().split(PLACES, groups=regions), theirs, strict=True
    ):
        assert (train == their_train).all()
        assert (test == their_test).all()
    apart = LeaveOneRegionOut(500)
    assert apart.get_n_splits(groups=regions) == 2
    for train, test in apart.split(PLACES, groups=regions):
        assert all_distances(PLACES)[np.ix_(train, test)].min() >= 500
    with pytest.raises(DatasetError, match='groups have to name'):
        list(LeaveOneRegionOut().split(PLACES))
    with pytest.raises(DatasetError, match='two regions at least'):
        list(LeaveOneRegionOut().split(PLACES, groups=['one'] * 120))
    with pytest.raises(DatasetError, match='leaves none of'):
        list(LeaveOneRegionOut(1e6).split(PLACES, groups=regions))


def test_arguments_of_no_use_are_refused():
    with pytest.raises(DatasetError, match='n_splits has to be 2'):
        GeographicKFold(1)
    with pytest.raises(DatasetError, match='too few for 5 parts'):
        next(GeographicKFold(5, 'blocks', block_size=1e6).split(PLACES))
    with pytest.raises(DatasetError, match='buffer has to be'):
        GeographicKFold(5, buffer=-1)
