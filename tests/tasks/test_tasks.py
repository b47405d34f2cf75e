import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.nn import functional
from torch.utils.data import DataLoader

from geores.errors import UsageError
from geores.tasks import SceneClassification
from geores.tasks.augment import (
    WAVELENGTHS,
    Augmentation,
    Colour,
    Dihedral,
    Gain,
    Haze,
    RandomResizedCrop,
    Season,
)
from geores.tasks.losses import balanced_weights, make_loss

BANDS = ('B02', 'B03', 'B04', 'B08', 'B11')

# Of Lightning's own making, or about images held in memory.
quiet = pytest.mark.filterwarnings('ignore:.*does not have many workers', 'ignore:.*LeafSpec')


pytestmark = pytest.mark.usefixtures('one_thread')


def task(kind='multi-label', **kwargs):
    kwargs = {'labels': ('a', 'b', 'c'), 'bands': BANDS[:2], 'architecture': 'resnet10t'} | kwargs
    return SceneClassification(task=kind, **kwargs)


# --- losses


def test_plain_losses_are_those_of_torch():
    torch.manual_seed(0)
    logits, many, one = torch.randn(6, 3), torch.rand(6, 3).round(), torch.arange(6) % 3
    weight = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(
        make_loss('multi-label')(logits, many, weight),
        functional.binary_cross_entropy_with_logits(logits, many, pos_weight=weight),
    )
    torch.testing.assert_close(
        make_loss('single-label', label_smoothing=0.1)(logits, one, weight),
        functional.cross_entropy(logits, one, weight, label_smoothing=0.1),
    )


@pytest.mark.parametrize('weight', [None, torch.tensor([1.0, 2.0, 3.0])])
def test_focal_loss_without_gamma_is_cross_entropy(weight):
    torch.manual_seed(0)
    logits, many, one = torch.randn(6, 3), torch.rand(6, 3).round(), torch.arange(6) % 3
    for kind, target in (('multi-label', many), ('single-label', one)):
        focal = make_loss(kind, 'focal', gamma=0)(logits, target, weight)
        torch.testing.assert_close(focal, make_loss(kind)(logits, target, weight))
        assert make_loss(kind, 'focal')(logits, target, weight) < focal


@pytest.mark.parametrize('weight', [None, torch.tensor([1.0, 2.0, 3.0])])
def test_generalised_loss_lies_between_cross_entropy_and_absolute_error(weight):
    torch.manual_seed(0)
    logits, target = torch.randn(6, 3, dtype=torch.float64), torch.arange(6) % 3
    weight = None if weight is None else weight.double()
    near = make_loss('single-label', 'gce', q=1e-6)(logits, target, weight)
    torch.testing.assert_close(near, make_loss('single-label')(logits, target, weight), rtol=1e-5, atol=0)
    shares = functional.one_hot(target, 3).double()
    error = ((logits.softmax(1) - shares).abs().sum(1) / 2).mean()
    torch.testing.assert_close(make_loss('single-label', 'gce', q=1.0)(logits, shares, None), error)
    for q in (0.0, 1.1):
        with pytest.raises(UsageError, match='gce_q'):
            make_loss('single-label', 'gce', q=q)


def test_generalised_loss_of_what_is_impossible_can_be_learnt_from():
    logits = torch.tensor([[0.0, 300.0]], requires_grad=True)
    make_loss('single-label', 'gce')(logits, torch.tensor([0]), None).backward()
    assert torch.isfinite(logits.grad).all()


def test_unlabelled_samples_do_not_count():
    logits = torch.randn(4, 3)
    target = torch.tensor([0, -1, 2, -1])
    for name in ('ce', 'focal', 'gce'):
        loss = make_loss('single-label', name)
        torch.testing.assert_close(loss(logits, target, None), loss(logits[::2], target[::2], None))


@pytest.mark.parametrize(
    ('kind', 'name'), [('multi-label', 'ce'), ('multi-label', 'gce'), ('single-label', 'bce')]
)
def test_losses_that_do_not_fit(kind, name):
    with pytest.raises(UsageError, match=name):
        make_loss(kind, name)
    with pytest.raises(UsageError, match='label_smoothing'):
        make_loss(kind, label_smoothing=1.0)


def test_balanced_weights():
    many = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(balanced_weights(many, 3), torch.tensor([3.0, 1 / 3, 3.0]))
    one = torch.tensor([0, 0, 0, 1, -1])
    torch.testing.assert_close(balanced_weights(one, 2), torch.tensor([4 / 6, 2.0]))
    assert balanced_weights(torch.zeros(50, 1), 1).item() == 10


# --- augmentations


@pytest.mark.parametrize(
    'step', [Dihedral(), RandomResizedCrop((0.5, 1.2)), Gain(), Haze(), Colour()], ids=repr
)
def test_augmentations_keep_shape_and_input(step):
    torch.manual_seed(0)
    images = torch.rand(16, 3, 12, 12) * 255
    before = images.clone()
    changed = step(images, ('red', 'green', 'blue'))
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    assert torch.equal(images, before)
    assert not torch.equal(changed, images)


def test_dihedral_gives_all_eight():
    torch.manual_seed(0)
    image = torch.arange(9.0).view(1, 1, 3, 3)
    turned = Dihedral()(image.expand(400, 1, 3, 3), ('red',)).flatten(1)
    kinds, counts = turned.unique(dim=0, return_counts=True)
    assert len(kinds) == 8
    assert counts.min() > 25
    expected = {
        tuple(np.rot90(face, turns).flatten())
        for face in (image[0, 0].numpy(), image[0, 0].numpy().T)
        for turns in range(4)
    }
    assert {tuple(kind.tolist()) for kind in kinds} == expected


def test_crop_of_full_scale_changes_nothing():
    images = torch.rand(4, 2, 8, 8)
    same = RandomResizedCrop((1.0, 1.0))(images, BANDS[:2])
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match='scale'):
        RandomResizedCrop((1.0, 0.5))


def test_haze_is_stronger_in_short_wavelengths():
    torch.manual_seed(0)
    images = torch.full((500, len(BANDS), 2, 2), 200.0)
    added = (Haze(share=1.0, offset=0.0)(images, BANDS) - images).mean((0, 2, 3))
    assert (added.diff() < 0).all()
    assert added[0] > 400
    assert added[-1] < 60
    with pytest.raises(UsageError, match='VV'):
        Haze()(images[:, :1], ('VV',))
    assert set(BANDS) < set(WAVELENGTHS)


def test_season_fades_what_is_green_and_leaves_water():
    torch.manual_seed(0)
    bands = ('B04', 'B08', 'B11')
    forest = torch.tensor([280.0, 2400.0, 1200.0]).view(1, 3, 1, 1).expand(200, 3, 4, 4)
    water = torch.tensor([200.0, 150.0, 60.0]).view(1, 3, 1, 1).expand(200, 3, 4, 4)
    faded = Season(share=1.0)(forest, bands)
    ndvi = (faded[:, 1] - faded[:, 0]) / (faded[:, 1] + faded[:, 0])
    assert 0.25 < ndvi.min() < 0.5
    assert ndvi.max() <= 2120 / 2680 + 1e-6
    torch.testing.assert_close(Season(share=1.0)(water, bands), water)
    with pytest.raises(UsageError, match='B08'):
        Season()(forest[:, :1], ('B04',))
    with pytest.raises(UsageError, match='VV'):
        Season()(forest, ('B04', 'B08', 'VV'))


# --- the task


def test_forward_normalises():
    model = task(mean=[5.0, 6.0], std=[2.0, 3.0]).eval()
    images = torch.rand(2, 2, 32, 32)
    normal = (images - torch.tensor([5.0, 6.0]).view(2, 1, 1)) / torch.tensor([2.0, 3.0]).view(2, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(images), model.network(normal))


@pytest.mark.parametrize(
    'kwargs',
    [
        {'architecture': 'resnet1'},
        {'mean': [1.0]},
        {'class_weights': [1.0]},
        {'loss': 'ce'},
        {'architecture_kwargs': {'checkpoint_path': 'x'}},
    ],
)
def test_bad_arguments(kwargs):
    with pytest.raises(UsageError):
        task(**kwargs)


class Blobs(LightningDataModule):
    """Two bands of noise about a level that the labels decide."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.labels = torch.eye(3)[torch.arange(24) % 3] if kind == 'multi-label' else None
        codes = torch.arange(24) % 3
        images = torch.randn(24, 2, 32, 32) * 20 + 100
        images[:, 0] += codes.view(-1, 1, 1) * 60
        self.train_targets = codes if self.labels is None else self.labels
        self.samples = [
            {'image': image, 'label': target}
            for image, target in zip(images, self.train_targets, strict=True)
        ]
        self.statistics = [160.0, 100.0], [55.0, 20.0]

    def train_dataloader(self):
        return DataLoader(self.samples, 12, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.samples, 12)


def _fit(model, data, **kwargs):
    trainer = Trainer(
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **kwargs,
    )
    trainer.fit(model, datamodule=data)
    return trainer


@quiet
@pytest.mark.parametrize('kind', ['multi-label', 'single-label'])
def test_overfits_a_few_images(kind):
    torch.manual_seed(1)
    model = task(kind, class_weights='balanced', learning_rate=3e-3, augment=[Dihedral()])
    trainer = _fit(model, Blobs(kind), max_epochs=12, check_val_every_n_epoch=12)
    figure = 'val/f1_micro' if kind == 'multi-label' else 'val/accuracy'
    assert trainer.callback_metrics[figure] > 0.95
    assert model.mean.flatten().tolist() == [160.0, 100.0]
    expected = 2.0 if kind == 'multi-label' else 1.0
    torch.testing.assert_close(model.weight, torch.full((3,), expected))


@quiet
def test_learning_rate_rises_and_falls():
    rates = []

    class Watch(Augmentation):
        def forward(self, images, bands):
            rates.append(model.optimizers().param_groups[0]['lr'])
            return images

    model = task(warmup=0.25, learning_rate=1.0, augment=[Watch()])
    _fit(model, Blobs('multi-label'), max_epochs=4, limit_val_batches=0)
    assert len(rates) == 8
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[2] == pytest.approx(1.0)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.1
    groups = model.optimizers().param_groups
    assert [group['weight_decay'] for group in groups] == [0.05, 0.0]


def test_data_without_statistics():
    class Bare(LightningDataModule):
        train_dataloader = val_dataloader = Blobs.train_dataloader
        samples = ()

    with pytest.raises(UsageError, match='mean and std'):
        _fit(task(), Bare(), max_epochs=1)
