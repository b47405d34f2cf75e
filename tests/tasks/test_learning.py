"""Options of the classification task: start, freeze, mixup, teachers, and images without labels."""

import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from geores.bundle import load_model
from geores.errors import UsageError
from geores.tasks import SceneClassification
from geores.tasks.losses import known, mix, shares
from geores.tasks.start import adapt_kernel, start_from
from geores.training.batches import Order, _OrderedLoader

from ..fixtures import LABELS, RGB, tiny_bundle

KWARGS = {'labels': LABELS, 'bands': RGB}


@pytest.fixture
def bundle(tmp_path):
    """A bundle of random weights."""
    return tiny_bundle(tmp_path / 'base')


@pytest.fixture
def architecture(bundle):
    card = load_model(bundle).card
    kwargs = dict(card.architecture_kwargs)
    del kwargs['in_chans'], kwargs['num_classes']
    return {'architecture': card.architecture, 'architecture_kwargs': kwargs}


def same(network, other, *, but=()):
    ours, theirs = network.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs if name not in but)


def test_start_from_a_bundle(bundle, architecture):
    base = load_model(bundle).network
    task = SceneClassification(task='single-label', start=str(bundle), **KWARGS, **architecture)
    assert same(task.network, base)

    other = SceneClassification(('a', 'b'), RGB, 'single-label', start=str(bundle), **architecture)
    fresh = [name for name, tensor in base.state_dict().items() if tensor.shape[:1] == (3,)]
    assert same(other.network, base, but=fresh)


def test_start_from_a_file_of_tensors(bundle, architecture, tmp_path):
    base = load_model(bundle).network
    renamed = {f'x{index}': tensor for index, tensor in enumerate(base.state_dict().values())}
    torch.save(renamed, tmp_path / 'weights.pth')
    task = SceneClassification(
        task='single-label', start=str(tmp_path / 'weights.pth'), **KWARGS, **architecture
    )
    assert same(task.network, base)


def test_start_that_cannot_be(bundle, architecture, tmp_path):
    network = load_model(bundle).network
    (tmp_path / 'text.pth').write_text('no weights')
    torch.save({'a': torch.zeros(1), 'epoch': 3}, tmp_path / 'more.pth')
    torch.save({'a': torch.zeros(1)}, tmp_path / 'other.pth')
    for source, message in (
        (tmp_path / 'text.pth', 'cannot be read'),
        (tmp_path / 'none.pth', 'cannot be read'),
        (tmp_path / 'more.pth', 'more than tensors'),
        (tmp_path / 'other.pth', 'another architecture'),
        ('no-such-bundle', 'no-such-bundle'),
    ):
        with pytest.raises(UsageError, match=message):
            start_from(network, source)


def test_kernels_of_other_bands_begin_as_the_mean():
    kernel = torch.randn(4, 3, 3, 3)
    assert torch.equal(adapt_kernel(kernel, RGB, ('B04', 'B03', 'B02')), kernel)
    adapted = adapt_kernel(kernel, RGB, ('B02', 'B08', 'B04', 'B11'))
    assert torch.equal(adapted[:, 0], kernel[:, 2])
    assert torch.equal(adapted[:, 2], kernel[:, 0])
    torch.testing.assert_close(adapted[:, 1] + adapted[:, 3], kernel.mean(1))


def test_frozen_parts_neither_learn_nor_count(architecture):
    task = SceneClassification(task='single-label', freeze=['conv1', 'bn1'], **KWARGS, **architecture)
    task.train()
    assert not task.network.bn1.training
    assert task.network.layer1.training
    before = task.network.bn1.running_mean.clone()
    task.network(torch.randn(4, 3, 64, 64)).sum().backward()
    assert all(one.grad is None for one in task.network.conv1.parameters())
    assert task.network.layer1[0].conv1.weight.grad is not None
    assert torch.equal(task.network.bn1.running_mean, before)
    with pytest.raises(UsageError, match="no part 'conv9'; parts are conv1"):
        SceneClassification(task='single-label', freeze=['conv9'], **KWARGS, **architecture)


def test_shares_of_either_kind():
    one = torch.tensor([2, -1, 0])
    assert known(one).tolist() == [True, False, True]
    assert shares(one, 3)[[0, 2]].tolist() == [[0, 0, 1], [1, 0, 0]]
    many = torch.tensor([[1.0, 0.0], [-1.0, -1.0]])
    assert known(many).tolist() == [True, False]
    assert torch.equal(shares(many, 2)[0], many[0])


def test_mixup_mixes_image_and_target_alike():
    torch.manual_seed(0)
    target = torch.eye(6)
    images = target[:, :, None, None].expand(6, 6, 4, 4)
    mixed, answers = mix(images, target, 0.5)
    torch.testing.assert_close(mixed.mean((2, 3)), answers)
    torch.testing.assert_close(answers.sum(1), torch.ones(6))
    torch.testing.assert_close(answers.sum(0), torch.ones(6))
    assert 0 < answers.diagonal().min() < 1


@pytest.mark.parametrize('kind', ['single-label', 'multi-label'])
def test_teachers_answer_for_images_without_labels(tmp_path, kind, architecture):
    teacher = tiny_bundle(tmp_path / 'teacher', task=kind)
    task = SceneClassification(
        task=kind, teachers=[str(teacher)], teacher_share=0.25, **KWARGS, **architecture
    )
    images = torch.rand(3, 3, 32, 32) * 255
    answers = torch.from_numpy(load_model(teacher).predict(images))
    label = torch.tensor([1, -1, 0])
    if kind == 'multi-label':
        label = torch.where(label[:, None] < 0, -1.0, shares(label, 3))
    same_images, target = task._soften(images, label)
    assert torch.equal(same_images, images)
    torch.testing.assert_close(target[1], answers[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(target[0], 0.75 * torch.eye(3)[1] + 0.25 * answers[0], atol=1e-5, rtol=0)

    alone = SceneClassification(task=kind, mixup=0.0, **KWARGS, **architecture)
    kept, target = alone._soften(images, label)
    assert torch.equal(kept, images[[0, 2]])
    assert torch.equal(target, torch.eye(3)[[1, 0]])


def test_teachers_of_other_labels_or_bands(bundle, architecture):
    with pytest.raises(UsageError, match='other labels'):
        SceneClassification(('a', 'b', 'c'), RGB, 'single-label', teachers=[str(bundle)], **architecture)
    with pytest.raises(UsageError, match='other bands'):
        SceneClassification(LABELS, RGB[::-1], 'single-label', teachers=[str(bundle)], **architecture)


@pytest.mark.parametrize('kind', ['single-label', 'multi-label'])
@pytest.mark.parametrize('mixup', [0.0, 0.4])
def test_a_batch_without_a_label_changes_nothing(architecture, kind, mixup):
    task = SceneClassification(task=kind, mixup=mixup, **KWARGS, **architecture)
    label = torch.full((2,) if kind == 'single-label' else (2, 3), -1)
    loss = task.training_step({'image': torch.rand(2, 3, 16, 16), 'label': label}, 0)
    loss.backward()
    assert loss == 0
    assert not any(part.grad.any() for part in task.network.parameters())


def test_an_unlabelled_image_alone_teaches_nothing(architecture):
    task = SceneClassification(task='single-label', **KWARGS, **architecture)
    logits = torch.tensor(np.eye(3), dtype=torch.float32)
    loss = task.loss(logits, torch.tensor([0, -1, 2]), None)
    torch.testing.assert_close(loss, task.loss(logits[[0, 2]], torch.tensor([0, 2]), None))


class Readers(Dataset):
    """Says which process reads."""

    def __len__(self):
        return 4

    def __getitem__(self, place):
        return os.getpid()


@pytest.mark.parametrize('on_device', [False, True])
def test_processes_that_read_live_as_long_as_the_run(monkeypatch, on_device):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: on_device)
    loader = _OrderedLoader(DataLoader(Readers(), 2, num_workers=1), Order(seed=0))
    assert loader.pin_memory is on_device
    if not on_device:
        epochs = [{int(one) for batch in loader for one in batch} for _ in range(2)]
        assert epochs[0] == epochs[1] != {os.getpid()}
    assert _OrderedLoader(DataLoader(Readers(), 2), Order(seed=0)).persistent_workers is False
