import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from geores import metrics
from geores.errors import UsageError
from geores.metrics.crossval import bootstrap_weights
from geores.metrics.curves import calibrated, calibration_error, fit_temperature


@st.composite
def multi_label(draw):
    samples, labels = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few distinct scores, so that ties and scores on edges are tested.
    scores = rng.integers(0, draw(st.sampled_from([11, 1001])), (samples, labels))
    target = rng.random((samples, labels)) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    return torch.tensor(scores / scores.max().clip(1)), torch.tensor(target).long()


# --- calibration


@given(multi_label(), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_reliability_curve(case, bins):
    scores, target = case
    curve = metrics.reliability_curve(scores, target, bins)
    assert torch.equal(curve.samples.sum(0), torch.full(scores.shape[1:], len(scores)))
    for k in range(scores.shape[1]):
        if target[:, k].unique().numel() < 2:
            continue  # scikit-learn wants both
        share, score = calibration_curve(target[:, k], scores[:, k], n_bins=bins)
        filled = curve.samples[:, k] > 0
        np.testing.assert_allclose(curve.share[filled, k], share)
        np.testing.assert_allclose(curve.score[filled, k], score)
        assert curve.share[~filled, k].isnan().all()


def test_a_temperature_undoes_what_made_scores_too_sure():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 5, generator=generator)
    target = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    sure = (3 * logits).softmax(1)
    temperature = fit_temperature(sure.clamp_min(1e-12).log(), target)
    assert temperature == pytest.approx(3, rel=0.15)
    after = calibrated(sure, temperature)
    assert torch.equal(after.argmax(1), sure.argmax(1))
    torch.testing.assert_close(calibrated(sure, 1.0), sure)
    assert calibration_error(after, target) < 0.03 < calibration_error(sure, target)
    assert fit_temperature(logits[:0], target[:0]) == 1.0


def test_expected_calibration_error_worked_by_hand():
    scores = torch.tensor([[0.1], [0.3], [0.9], [0.7]])
    curve = metrics.reliability_curve(scores, torch.tensor([[0], [1], [1], [1]]), bins=2)
    assert curve.samples.flatten().tolist() == [2, 2]
    np.testing.assert_allclose(curve.score.flatten(), [0.2, 0.8], rtol=1e-6)
    np.testing.assert_allclose(curve.share.flatten(), [0.5, 1.0])
    # Half of the samples are off by 0.3, half by 0.2.
    np.testing.assert_allclose(metrics.expected_calibration_error(curve), [0.25], rtol=1e-6)


@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_expected_calibration_error(samples, classes, seed):
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.dirichlet(np.ones(classes), samples))
    target = torch.tensor(rng.integers(0, classes, samples))
    ours = metrics.expected_calibration_error(
        metrics.reliability_curve(*metrics.top_label(scores, target), bins=15)
    )
    theirs = multiclass_calibration_error(scores, target, classes, n_bins=15, norm='l1')
    np.testing.assert_allclose(ours, [theirs], atol=1e-6)
    one_hot = torch.nn.functional.one_hot(target, classes)
    ours = metrics.expected_calibration_error(metrics.reliability_curve(scores, one_hot))
    columns = scores.T.contiguous(), one_hot.T.contiguous()
    theirs = [binary_calibration_error(*column, n_bins=10) for column in zip(*columns, strict=True)]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


# --- thresholds


@given(multi_label())
@settings(max_examples=25, deadline=None)
def test_threshold_curve(case):
    scores, target = case
    thresholds = torch.cat([scores.flatten()[:5], torch.tensor([0.0, 0.25, 1.0])])
    curve = metrics.threshold_curve(scores, target, thresholds)
    micro = metrics.threshold_curve(scores, target, thresholds, 'micro')
    flat = scores.reshape(-1, 1), target.reshape(-1, 1)
    for t, threshold in enumerate(thresholds):
        rows = [_reference(scores[:, k], target[:, k], threshold) for k in range(scores.shape[1])]
        for part, wanted in zip(curve[1:], np.array(rows).T, strict=True):
            np.testing.assert_allclose(part[t], wanted, atol=1e-6)
        wanted = _reference(*(values[:, 0] for values in flat), threshold)
        np.testing.assert_allclose([part[t] for part in micro[1:]], wanted, atol=1e-6)


def _reference(scores, target, threshold):
    """Precision, recall and F1; NaN as geores has it, where nothing is true or said."""
    said = scores >= threshold
    precise, found, f1, _ = reference.precision_recall_fscore_support(
        target, said, average='binary', zero_division=0
    )
    if not target.any():
        return np.nan, np.nan, np.nan
    return precise if said.any() else np.nan, found, f1


def test_threshold_curve_has_the_points_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, target = torch.tensor(rng.random((50, 1))), torch.tensor(rng.integers(0, 2, (50, 1)))
    precise, found, thresholds = reference.precision_recall_curve(target, scores)
    curve = metrics.threshold_curve(scores, target, torch.tensor(thresholds.copy()))
    np.testing.assert_allclose(curve.precision[:, 0], precise[:-1], rtol=1e-6)
    np.testing.assert_allclose(curve.recall[:, 0], found[:-1], rtol=1e-6)
    assert metrics.threshold_curve(scores, target).thresholds[[0, 49, -1]].tolist() == pytest.approx(
        [0.01, 0.5, 0.99]
    )


def test_a_single_label_model_may_decline():
    scores = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    target = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 1]))
    top = metrics.top_scores(scores)
    assert top.tolist() == [[scores[0, 0], 0], [scores[1, 0], 0], [0, scores[2, 1]], [0, scores[3, 1]]]
    curve = metrics.threshold_curve(top, target, torch.tensor([0.01, 0.65, 0.95]), 'micro')
    # Every answer counts at first; from 0.65 on the one wrong answer is not given.
    np.testing.assert_allclose(curve.precision, [0.75, 1, np.nan])
    np.testing.assert_allclose(curve.recall, [0.75, 0.75, 0])


# --- matrices


@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_confusion_matrix(samples, classes, seed):
    rng = np.random.default_rng(seed)
    scores = torch.tensor(rng.random((samples, classes)))
    target = torch.tensor(rng.integers(0, classes, samples))
    wanted = reference.confusion_matrix(target, scores.argmax(1), labels=range(classes))
    np.testing.assert_array_equal(metrics.confusion_matrix(scores, target), wanted)


@given(multi_label())
@settings(max_examples=40, deadline=None)
def test_label_matrices(case):
    scores, target = case
    said = (scores >= 0.5).long()
    wanted = [
        reference.confusion_matrix(target[:, k], said[:, k], labels=[0, 1]) for k in range(said.shape[1])
    ]
    np.testing.assert_array_equal(metrics.label_matrices(said, target), wanted)


# --- intervals


@given(multi_label(), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_weighted_average_precision(case, seed):
    scores, target = case
    weights = torch.tensor(np.random.default_rng(seed).integers(0, 4, (3, len(scores)))).double()
    ours = metrics.weighted_average_precision(scores, target, weights)
    for row, drawn in enumerate(weights):
        for k in range(scores.shape[1]):
            if not (target[:, k] * drawn).any():
                assert ours[row, k].isnan()
                continue
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                wanted = reference.average_precision_score(target[:, k], scores[:, k], sample_weight=drawn)
            np.testing.assert_allclose(ours[row, k], wanted)


def test_intervals_are_those_of_resampled_reports():
    rng = np.random.default_rng(0)
    target = torch.tensor(rng.random((80, 3)) < 0.4).long()
    scores = torch.tensor(np.clip(0.5 * target.numpy() + 0.6 * rng.random((80, 3)), 0, 1))
    said = (scores >= 0.5).long()
    intervals = metrics.bootstrap_intervals(scores, said, target, replicates=60, seed=1)
    (weights,) = bootstrap_weights(80, 60, seed=1, size=60)
    assert (weights.sum(1) == 80).all()
    draws = [torch.arange(80).repeat_interleave(row.long()) for row in weights]
    reports = [metrics.multi_label_report(scores[draw], target[draw]) for draw in draws]
    for name, limits in intervals.items():
        wanted = np.quantile([report[name] for report in reports], [0.025, 0.975])
        np.testing.assert_allclose(limits, wanted, atol=1e-6)
    assert metrics.bootstrap_intervals(scores, said, target, 60, seed=1) == intervals
    assert metrics.bootstrap_intervals(scores, said, target, 60, seed=2) != intervals


def test_intervals_of_perfect_and_of_empty_labels():
    target = torch.tensor([[1, 0], [0, 0], [1, 0]])
    intervals = metrics.bootstrap_intervals(target.double(), target, target, replicates=50)
    assert intervals['f1_macro'] == (1.0, 1.0)
    nothing = torch.zeros(3, 2)
    intervals = metrics.bootstrap_intervals(nothing, nothing, nothing, replicates=5)
    assert np.isnan(intervals['f1_macro']).all()


@pytest.mark.parametrize(
    'call',
    [
        lambda: metrics.reliability_curve(torch.rand(3), torch.ones(3)),
        lambda: metrics.reliability_curve(torch.rand(3, 2), torch.ones(3, 2), bins=0),
        lambda: metrics.reliability_curve(torch.full((3, 2), torch.nan), torch.ones(3, 2)),
        lambda: metrics.threshold_curve(torch.rand(3, 2) + 1, torch.ones(3, 2)),
        lambda: metrics.threshold_curve(torch.rand(3, 2), torch.ones(3, 2), average='macro'),
        lambda: metrics.top_label(torch.rand(3, 2), torch.tensor([0, 1, 2])),
        lambda: metrics.top_scores(torch.rand(3)),
        lambda: metrics.confusion_matrix(torch.rand(3, 2), torch.tensor([0, -1, 0])),
        lambda: metrics.label_matrices(torch.rand(3, 2), torch.full((3, 2), 2)),
        lambda: metrics.bootstrap_intervals(torch.rand(3, 2), torch.ones(3, 2), torch.ones(3, 2), 0),
        lambda: metrics.bootstrap_intervals(*[torch.zeros(0, 2)] * 3),
    ],
)
def test_bad_input(call):
    with pytest.raises(UsageError):
        call()


def test_no_samples():
    curve = metrics.reliability_curve(torch.zeros(0, 2), torch.zeros(0, 2))
    assert metrics.expected_calibration_error(curve).isnan().all()
    assert metrics.threshold_curve(torch.zeros(0, 2), torch.zeros(0, 2)).f1.isnan().all()
