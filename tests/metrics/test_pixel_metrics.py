import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, recall_score

from geores.metrics.confusion import PixelReport


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = ['a', 'b', 'c', 'never']
    target, found = rng.integers(0, 3, (2, 4, 20, 20))
    target[rng.random(target.shape) < 0.2] = 255
    report = PixelReport(labels)
    for one, other in zip(found, target, strict=True):
        report.update(torch.from_numpy(one)[None], torch.from_numpy(other)[None])
    figures = report.compute()
    kept = target != 255
    for name, score in (('iou', jaccard_score), ('f1', f1_score), ('accuracy', recall_score)):
        expected = score(target[kept], found[kept], labels=[0, 1, 2], average=None)
        assert [figures[f'{name}_{label}'] for label in 'abc'] == pytest.approx(expected, abs=1e-6)
    assert figures['miou'] == pytest.approx(
        jaccard_score(target[kept], found[kept], labels=[0, 1, 2], average='macro'), abs=1e-6
    )
    assert figures['accuracy'] == pytest.approx((target == found)[kept].mean(), abs=1e-6)
    assert 'iou_never' not in figures
    report.reset()
    assert report.compute() == {}


def test_ignored_pixels_alone_give_nothing():
    report = PixelReport(['a', 'b'])
    report.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), 255))
    assert report.compute() == {}
