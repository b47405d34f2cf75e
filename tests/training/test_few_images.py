"""Fine-tuning on few images: the head that is fitted first, and statistics that stay."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from geores.datasets import SceneFolder
from geores.splits import Split
from geores.tasks import SceneClassification
from geores.training.finetune_recipe import GivenSplit
from geores.training.linear_probe import FEW, KeepStatistics, adapt_statistics, are_few, fit_head
from geores.training.trainer import make_trainer, quiet_trainer

pytestmark = pytest.mark.usefixtures('one_thread')

COLOURS = ((150, 120, 60), (30, 90, 40), (30, 60, 130))


def make(folder, classes, count=8, labels=None):
    """A task with random weights and few noisy images, each class of a colour."""
    draw = np.random.default_rng(0)
    for name, colour in zip('abc', COLOURS[:classes], strict=False):
        (folder / name).mkdir()
        for index in range(count):
            pixels = np.clip(np.array(colour) + draw.normal(0, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{index}.png')
    data = SceneFolder(folder)
    split = Split(list(range(0, len(data), 2)), list(range(1, len(data), 2)), 'halves')
    torch.manual_seed(0)
    task = SceneClassification(
        labels or data.labels, data.bands, 'single-label', 'resnet10t',
        {'stem_width': 8, 'channels': [8, 16, 32, 64]}, mean=[100.0] * 3, std=[50.0] * 3,
    )  # fmt: skip
    return task, GivenSplit(data, split, 4)


@torch.no_grad()
def logits(task, data, places):
    return task.eval()(torch.stack([data.dataset[place]['image'] for place in places])).numpy()


@torch.no_grad()
def features(task, data, places):
    images = torch.stack([data.dataset[place]['image'] for place in places])
    network = task.eval().network
    return network.forward_head(
        network.forward_features((images - task.mean) / task.std), pre_logits=True
    ).numpy()


@pytest.mark.parametrize('classes', [2, 3])
@pytest.mark.parametrize('weights', [None, (2.0, 1.0, 0.5)])
def test_the_head_is_a_logistic_regression_of_the_features(tmp_path, classes, weights):
    task, data = make(tmp_path, classes)
    before = {
        name: one.clone() for name, one in task.network.state_dict().items() if not name.startswith('fc')
    }
    weights = weights and weights[:classes]
    assert fit_head(task, data, weights=weights)
    after = task.network.state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items())
    train, val = data.split.train, data.split.val
    scaler = StandardScaler().fit(features(task, data, train))
    model = LogisticRegression(C=0.01, max_iter=1000, class_weight=weights and dict(enumerate(weights)))
    model.fit(scaler.transform(features(task, data, train)), data.dataset.targets[train])
    wanted = model.predict_proba(scaler.transform(features(task, data, val)))
    found = torch.from_numpy(logits(task, data, val)).softmax(1).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-3)  # of the solver


def test_a_class_without_images_leaves_the_head_fresh(tmp_path):
    task, data = make(tmp_path, 2, labels=('a', 'b', 'c'))
    fresh = task.network.fc.weight.clone()
    assert not fit_head(task, data)
    assert torch.equal(task.network.fc.weight, fresh)


def test_the_task_trains_on_afterwards(tmp_path):
    task, data = make(tmp_path, 3)
    task.train()
    fit_head(task, data)
    assert task.training
    statistics = {name: one.clone() for name, one in task.network.named_buffers() if 'running' in name}
    weights = task.network.bn1.weight.clone()
    with quiet_trainer():
        make_trainer(1, 'cpu', [KeepStatistics()]).fit(task, datamodule=data)
    assert all(
        torch.equal(one, statistics[name]) for name, one in task.network.named_buffers() if name in statistics
    )
    assert not torch.equal(task.network.bn1.weight, weights)


def test_statistics_move_towards_those_of_the_images(tmp_path):
    task, data = make(tmp_path, 2, count=16)
    task.train()
    before = {name: one.clone() for name, one in task.network.state_dict().items()}
    seen = []
    task.network.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    adapt_statistics(task, data)
    (output,) = seen  # 16 images, which count a third beside 32 of old
    mean = output.mean((0, 2, 3)) / 3 + before['bn1.running_mean'] * 2 / 3
    variance = output.transpose(0, 1).flatten(1).var(1) / 3 + before['bn1.running_var'] * 2 / 3
    after = task.network.state_dict()
    torch.testing.assert_close(after['bn1.running_mean'], mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after['bn1.running_var'], variance, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(after[name], before[name]) for name, _ in task.network.named_parameters())
    assert task.training
    assert task.network.bn1.momentum == 0.1


def test_few_is_counted_by_class():
    assert are_few(FEW * 4 - 1, 4)
    assert not are_few(FEW * 4, 4)
