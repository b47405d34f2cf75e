import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from geores import metrics
from geores.errors import UsageError
from geores.metrics.crossval import Scores, cross_validated


@st.composite
def multi_label(draw):
    samples, labels = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few distinct scores, so that ties are tested.
    scores = rng.integers(0, draw(st.sampled_from([3, 1000])), (samples, labels)) / 1000
    target = rng.random((samples, labels)) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(target).long()


@given(multi_label())
@settings(max_examples=60, deadline=None)
def test_average_precision(case):
    scores, target = case
    present = target.any(0)
    values = metrics.average_precision(scores, target, 'none')
    assert torch.equal(values.isnan(), ~present)
    assume(present.any())
    expected = [
        reference.average_precision_score(target[:, k], scores[:, k])
        for k in range(scores.shape[1])
        if present[k]
    ]
    np.testing.assert_allclose(values[present], expected, atol=1e-6)
    macro, micro = (metrics.average_precision(scores, target, a) for a in ('macro', 'micro'))
    np.testing.assert_allclose(macro, np.mean(expected), atol=1e-6)
    expected = reference.average_precision_score(target, scores, average='micro')
    np.testing.assert_allclose(micro, expected, atol=1e-6)


@given(multi_label(), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=60, deadline=None)
def test_precision_recall_fbeta(case, beta):
    scores, target = case
    said = (scores >= scores.median()).long()
    for average, axis in (('none', 0), ('macro', 0), ('samples', 1), ('micro', None)):
        counts = metrics.count_labels(said, target, average)
        ours = [
            metrics.precision(counts, average),
            metrics.recall(counts, average),
            metrics.fbeta(counts, average, beta),
        ]
        wanted = _reference(said, target, average, axis, beta)
        np.testing.assert_allclose(ours, wanted, atol=1e-6)


def _reference(said, target, average, axis, beta):
    said, target = said.numpy(), target.numpy()
    if axis is None:
        said, target = said.reshape(-1, 1), target.reshape(-1, 1)
    elif axis == 1:
        said, target = said.T, target.T
    rows = [
        reference.precision_recall_fscore_support(
            target[:, k], said[:, k], beta=beta, average='binary', zero_division=0
        )[:3]
        if target[:, k].any()
        else (np.nan,) * 3
        for k in range(target.shape[1])
    ]
    values = np.array(rows).T
    if average == 'none':
        return values
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        return np.nanmean(values, axis=1)


@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_single_label(samples, classes, seed):
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.dirichlet(np.ones(classes), samples))
    target = torch.tensor(rng.integers(0, classes, samples))
    said, true = scores.argmax(1).numpy(), target.numpy()
    report = metrics.single_label_report(scores, target)
    present = np.unique(true)
    assert report['accuracy'] == pytest.approx(reference.accuracy_score(true, said))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        recalls = reference.recall_score(true, said, labels=present, average=None, zero_division=0)
        f1 = reference.f1_score(true, said, labels=present, average='macro', zero_division=0)
    assert report['accuracy_macro'] == pytest.approx(recalls.mean())
    assert report['f1_macro'] == pytest.approx(f1)
    per_class = metrics.recall(metrics.count_classes(scores, target))
    assert torch.equal(~per_class.isnan(), torch.isin(torch.arange(classes), target))


@given(multi_label(), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=60, deadline=None)
def test_best_thresholds_are_the_best_of_all(case, beta):
    scores, target = case
    thresholds = metrics.best_thresholds(scores, target, beta)
    assert thresholds.shape == scores.shape[1:]
    assert ((thresholds > 0) & (thresholds < 1)).all()
    for k in range(scores.shape[1]):
        true = target[:, k : k + 1]
        if not true.any():
            assert thresholds[k] == 0.5
            continue

        def score(threshold, k=k, true=true):
            said = (scores[:, k : k + 1] >= threshold).long()
            return float(metrics.fbeta(metrics.count_labels(said, true), 'none', beta))

        # A cut below every score is one too, unless a score is 0, which no threshold can say.
        cuts = [value for value in scores[:, k].unique().tolist() if value > 1e-4]
        assert score(float(thresholds[k])) >= max(map(score, cuts), default=0) - 1e-9


def test_report_class_equals_functions():
    torch.manual_seed(0)
    scores, target = torch.rand(20, 3), torch.rand(20, 3).round()
    report = metrics.SceneReport('multi-label')
    for part in range(0, 20, 6):
        report.update(scores[part : part + 6], target[part : part + 6])
    assert report.compute() == metrics.multi_label_report(scores, target)
    report = metrics.SceneReport('single-label')
    report.update(scores, torch.arange(20) % 3)
    assert report.compute() == metrics.single_label_report(scores, torch.arange(20) % 3)


def test_nothing_positive_at_all():
    scores, target = torch.rand(4, 2), torch.zeros(4, 2)
    assert metrics.average_precision(scores, target).isnan()
    report = metrics.multi_label_report(scores, target)
    assert all(np.isnan(value) for value in report.values())


@pytest.mark.parametrize(
    ('scores', 'target'),
    [
        (torch.rand(3), torch.ones(3)),
        (torch.rand(3, 2), torch.ones(3, 1)),
        (torch.rand(3, 2) + 1, torch.ones(3, 2)),
        (torch.full((3, 2), torch.nan), torch.ones(3, 2)),
        (torch.rand(3, 2), torch.full((3, 2), 2)),
    ],
)
def test_bad_multi_label_input(scores, target):
    with pytest.raises(UsageError):
        metrics.average_precision(scores, target)
    with pytest.raises(UsageError):
        metrics.best_thresholds(scores, target)


@pytest.mark.parametrize(
    'target', [torch.zeros(2).long(), torch.tensor([0, 1, 2]), torch.tensor([0, -1, 0]), torch.rand(3)]
)
def test_bad_single_label_input(target):
    with pytest.raises(UsageError):
        metrics.count_classes(torch.rand(3, 2), target)


def test_bad_arguments():
    scores, target = torch.rand(3, 2), torch.ones(3, 2)
    with pytest.raises(UsageError, match='average'):
        metrics.average_precision(scores, target, 'weighted')
    with pytest.raises(UsageError, match='average'):
        metrics.count_labels(scores, target, 'weighted')
    with pytest.raises(UsageError, match='beta'):
        metrics.fbeta(metrics.count_labels(scores, target), beta=0)
    with pytest.raises(UsageError, match='sample'):
        metrics.best_thresholds(torch.empty(0, 2), torch.empty(0, 2))


def test_f1_of_each_label_over_the_folds():
    """Pooled over folds by scikit-learn; a label that no image has is left open."""
    draw = np.random.default_rng(0)
    folds = [
        Scores(
            torch.from_numpy(draw.dirichlet(np.ones(4), 30)),
            torch.from_numpy(draw.integers(0, 3, 30)),
            ['a'] * 30,
        )
        for _ in range(3)
    ]
    found = cross_validated(folds, '3-fold').f1.numpy()
    said = torch.cat([fold.values.argmax(1) for fold in folds])
    truth = torch.cat([fold.target for fold in folds])
    wanted = reference.f1_score(truth.numpy(), said.numpy(), labels=[0, 1, 2], average=None)
    np.testing.assert_allclose(found[:3], wanted, atol=1e-6)
    assert np.isnan(found[3])
