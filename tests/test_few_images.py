"""Fine-tuning on few images: the head that is fitted first, and statistics that stay."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from geores.datasets import SceneFolder
from geores.pipelines.finetuning.few import FEW, KeepStatistics, are_few, fit_head
from geores.pipelines.finetuning.fitting import GivenSplit, quiet_trainer
from geores.splits import Split
from geores.tasks import SceneClassification

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
@pytest.mark.parametrize('balanced', [False, True])
def test_the_head_is_a_logistic_regression_of_the_features(tmp_path, classes, balanced):
    task, data = make(tmp_path, classes)
    before = {
        name: one.clone() for name, one in task.network.state_dict().items() if not name.startswith('fc')
    }
    assert fit_head(task, data, balanced=balanced)
    after = task.network.state_dict()
    assert all(torch.equal(after[name], one) for name, one in before.items())
    train, val = data.split.train, data.split.val
    scaler = StandardScaler().fit(features(task, data, train))
    model = LogisticRegression(C=0.01, max_iter=1000, class_weight='balanced' if balanced else None)
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
        Trainer(
            max_epochs=1, accelerator='cpu', logger=False, enable_checkpointing=False, barebones=False,
            enable_model_summary=False, enable_progress_bar=False, limit_val_batches=0,
            callbacks=[KeepStatistics()],
        ).fit(task, datamodule=data)  # fmt: skip
    assert all(
        torch.equal(one, statistics[name]) for name, one in task.network.named_buffers() if name in statistics
    )
    assert not torch.equal(task.network.bn1.weight, weights)


def test_few_is_counted_by_class():
    assert are_few(FEW * 4 - 1, 4)
    assert not are_few(FEW * 4, 4)
