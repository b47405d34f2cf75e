"""Cross-validation by ground, in scikit-learn's protocol."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, LeaveOneGroupOut, cross_val_score

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
        next(cv.split(features[:5] + 1))  # no rows of those that were split


FEATURES = np.random.default_rng(1).normal(size=(120, 3))


def nested(features, labels, outer, inner, jobs=None):
    search = GridSearchCV(LogisticRegression(), {'C': [0.1, 1.0]}, cv=inner, n_jobs=jobs)
    return cross_val_score(search, features, labels, cv=outer, error_score='raise')


def by_blocks(positions=PLACES, count=3):
    return GeographicKFold(count, 'blocks', block_size=700, positions=positions)


@pytest.mark.parametrize('form', ['array', 'list', 'frame', 'sparse'])
def test_inner_splits_of_a_search_follow_the_rows_given(form):
    made = {
        'array': lambda: FEATURES,
        'list': FEATURES.tolist,
        'frame': lambda: pd.DataFrame(FEATURES, index=[f'r{row}' for row in range(120)]),
        'sparse': lambda: csr_array(FEATURES),
    }[form]()
    assert len(nested(made, LABELS, by_blocks(), by_blocks())) == 3
    rows = np.arange(0, 120, 2)
    part = made[rows] if form in ('array', 'sparse') else made.iloc[rows] if form == 'frame' else made[::2]
    theirs = by_blocks(PLACES[rows]).split(PLACES[rows], LABELS[rows])
    for (train, test), wanted in zip(by_blocks().split(part, LABELS[rows]), theirs, strict=True):
        assert (train.tolist(), test.tolist()) == tuple(one.tolist() for one in wanted)


def test_positions_may_be_columns_of_the_features():
    frame = pd.DataFrame(FEATURES).assign(lon=PLACES[:, 0], lat=PLACES[:, 1])
    frame.columns = frame.columns.astype(str)
    names = by_blocks(('lon', 'lat'))
    assert len(nested(frame, LABELS, KFold(3), names)) == 3
    found = [test.tolist() for _, test in names.split(frame, LABELS)]
    assert found == [test.tolist() for _, test in by_blocks().split(FEATURES, LABELS)]
    with pytest.raises(DatasetError, match="no column 'lon'"):
        next(names.split(frame.drop(columns='lon'), LABELS))


def test_rows_that_cannot_be_told_apart_are_refused():
    places = PLACES + 0.001
    same = np.zeros((120, 2))
    list(by_blocks(places).split(same))
    with pytest.raises(DatasetError, match='rows of X are equal and lie at different positions'):
        next(by_blocks(places).split(same[:60]))


def test_rows_go_to_other_processes():
    copy = pickle.loads(pickle.dumps(by_blocks(PLACES)))  # noqa: S301
    assert [test.tolist() for _, test in copy.split(FEATURES)] == [
        test.tolist() for _, test in by_blocks().split(FEATURES)
    ]


@pytest.mark.parametrize('several', [False, True])
def test_values_of_a_regression_need_no_labels(several):
    values = FEATURES[:, :2] if several else FEATURES[:, 0]
    found = cross_val_score(Ridge(), FEATURES, values, cv=by_blocks())
    assert found.min() > 0.9
    plain = [test.tolist() for _, test in by_blocks().split(FEATURES)]
    assert [test.tolist() for _, test in by_blocks().split(FEATURES, values)] == plain
    counts = np.arange(120) * 17 if not several else values
    assert len(list(by_blocks().split(FEATURES, pd.Series(counts) if not several else counts))) == 3


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
