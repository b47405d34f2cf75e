"""What a training refuses or says before its first epoch: classes without images, copies, options."""

import logging
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from geores.datasets import SceneFolderDataModule
from geores.datasets._checks import check_classes
from geores.errors import DatasetError, UsageError
from geores.splits import Split, near_duplicates, stratified_split
from geores.tasks import SceneClassification, SemanticSegmentation
from geores.tasks.augment import Blend
from geores.tasks.losses import make_loss


def picture(seed, side=40):
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse.repeat(side // 8, 0).repeat(side // 8, 1))


def folder(root, count=8, classes=('field', 'town', 'wood')):
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(100 * place + number).save(root / name / f'{name}{number:02}.png')
    return root


# --- copies


def original(name):
    return name.rsplit('/', 1)[-1].removeprefix('copy_').rsplit('.', 1)[0]


def add_copies(root, how):
    for path in sorted(root.glob('*/*.png')):
        if how == 'exact':
            shutil.copy(path, path.with_name(f'copy_{path.name}'))
        else:
            Image.open(path).save(path.with_name(f'copy_{path.stem}.jpg'), quality=70)
    return root


@pytest.mark.parametrize('how', ['exact', 'compressed'])
@pytest.mark.parametrize('options', [{'val_share': 0.25}, {'val_share': 0.5, 'seed': 3}, {'folds': 4}])
def test_copies_stay_on_one_side(tmp_path, how, options, caplog):
    root = add_copies(folder(tmp_path / 'set'), how)
    data = SceneFolderDataModule(str(root), size=40, **options)
    with caplog.at_level(logging.WARNING):
        data.setup()
    train, val = ({original(data.dataset.ids[index]) for index in part} for part in data.split[:2])
    assert val
    assert not train & val
    assert 'copy' not in caplog.text


def test_a_split_that_is_given_is_kept_and_copies_are_said(tmp_path, caplog):
    root = add_copies(folder(tmp_path / 'set'), 'exact')
    names = sorted(f'set/{path.parent.name}/{path.name}' for path in root.glob('*/*'))
    parts = ['val' if index % 3 == 0 else 'train' for index in range(len(names))]
    rows = [f'{name},{part}' for name, part in zip(names, parts, strict=True)]
    (tmp_path / 'split.csv').write_text('\n'.join(['id,split', *rows]))
    data = SceneFolderDataModule(str(root), size=40, split=str(tmp_path / 'split.csv'))
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert len(data.split.val) == parts.count('val')
    assert '16 of 16 images of validation and test have a copy' in caplog.text


def test_without_copies_a_split_is_that_of_names_alone(tmp_path):
    data = SceneFolderDataModule(str(folder(tmp_path / 'set')), size=40, val_share=0.25, seed=5)
    assert data.split == stratified_split(data.dataset.ids, data.dataset.strata, 0.25, 5)


def test_a_stratum_of_one_group_is_split_all_the_same():
    ids, strata = [f'{n}' for n in range(20)], ['a'] * 10 + ['b'] * 10
    groups = [0] * 10 + list(range(1, 11))
    assert stratified_split(ids, strata, 0.2, 0, groups) == stratified_split(ids, strata, 0.2, 0)
    pairs = [n // 2 for n in range(20)]
    split = stratified_split(ids, strata, 0.2, 0, pairs)
    assert len(split.val) == 4
    assert {index // 2 for index in split.val}.isdisjoint(index // 2 for index in split.train)


def test_groups_larger_than_the_share_leave_something_to_validate():
    ids, strata = [f'{n}' for n in range(12)], ['a'] * 12
    split = stratified_split(ids, strata, 0.1, 0, [n // 6 for n in range(12)])
    assert len(split.val) == 6


def test_images_without_texture_are_alike_by_their_colour():
    colours = [(40, 40, 220), (40, 220, 40), (220, 40, 40), (40, 40, 221)]
    flat = [np.full((32, 32, 3), colour, np.uint8).transpose(2, 0, 1) for colour in colours]
    groups = near_duplicates(flat)
    assert groups[0] == groups[3]
    assert len(set(groups.tolist())) == 3
    nothing = np.full((3, 32, 32), np.nan, np.float32)
    assert len(near_duplicates([nothing, flat[0].astype(np.float32)])) == 2


# --- classes


def test_a_class_without_training_images_stops(tmp_path):
    root = folder(tmp_path / 'set')
    names = sorted(f'set/{path.parent.name}/{path.name}' for path in root.glob('*/*'))
    rows = [f'{name},{"val" if "/wood/" in name or name.endswith("0.png") else "train"}' for name in names]
    (tmp_path / 'split.csv').write_text('\n'.join(['id,split', *rows]))
    data = SceneFolderDataModule(str(root), size=40, split=str(tmp_path / 'split.csv'))
    with pytest.raises(DatasetError, match=r'^no training image of wood by split split-[0-9a-f]+: a model'):
        data.setup()


def test_a_class_without_validation_images_is_said(tmp_path, caplog):
    root = folder(tmp_path / 'set')
    for path in sorted((root / 'wood').glob('*'))[1:]:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        SceneFolderDataModule(str(root), size=40, val_share=0.25).setup()
    assert 'no validation image of wood by split stratified-0.25' in caplog.text


def test_one_class_alone_is_refused(tmp_path):
    data = SceneFolderDataModule(str(folder(tmp_path / 'set', classes=('only',))), size=40)
    with pytest.raises(DatasetError, match=r'all images are of one class \(only\)'):
        data.setup()


@pytest.mark.parametrize('several', [False, True])
def test_labels_of_a_nomenclature_and_of_teachers_are_said(several, caplog):
    targets = np.array([[1, 0], [1, 0]]) if several else np.array([0, 0])
    split = Split([0, 1], [], 'mine')
    with pytest.raises(DatasetError, match='no training image of b'):
        check_classes(['a', 'b'], targets, split)
    with caplog.at_level(logging.WARNING):
        check_classes(['a', 'b'], targets, split, fixed=True)
        unlabelled = np.concatenate([targets, np.full_like(targets[:1], -1)])
        check_classes(['a', 'b'], unlabelled, Split([0, 1, 2], [], 'mine'))
    assert caplog.text.count('no labelled training image of b by split mine') == 2


def test_folds_and_a_split_do_not_go_together(tmp_path):
    with pytest.raises(DatasetError, match=r'folds and split \(s\.csv\) do not go together'):
        SceneFolderDataModule('set', folds=3, split='s.csv')


# --- losses


def test_focal_takes_shares_and_smoothing():
    logits, target = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, -1, 0])
    hard = make_loss('single-label', 'focal')(logits, target, None)
    kept = target >= 0
    shares = torch.nn.functional.one_hot(target[kept], 3).float()
    weight = torch.tensor([0.5, 1.0, 2.0])
    assert make_loss('single-label', 'focal')(logits[kept], shares, None) == pytest.approx(float(hard))
    log = logits[kept].log_softmax(1).gather(1, target[kept, None])[:, 0]
    factors = weight[target[kept]]
    wanted = -(factors * (1 - log.exp()) ** 2 * log).sum() / factors.sum()
    assert make_loss('single-label', 'focal')(logits, target, weight) == pytest.approx(
        float(wanted), rel=1e-5
    )
    plain = make_loss('single-label', 'ce', 0.1)(logits, target, None)
    assert make_loss('single-label', 'focal', 0.1, gamma=0.0)(logits, target, None) == pytest.approx(
        float(plain)
    )
    several = torch.tensor([[1.0, 0.0, 0.3]])
    smooth = make_loss('multi-label', 'focal', 0.2, gamma=0.0)(logits[:1], several, None)
    assert smooth == pytest.approx(float(make_loss('multi-label', 'bce', 0.2)(logits[:1], several, None)))


@pytest.mark.parametrize('kind', ['single-label', 'multi-label'])
@pytest.mark.parametrize('loss', [None, 'focal', 'gce'])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_every_loss_goes_with_mixup(kind, loss, smoothing):
    if (kind, loss) == ('multi-label', 'gce'):
        with pytest.raises(UsageError, match="loss 'gce' does not fit multi-label"):
            make_loss(kind, loss)
        return
    task = SceneClassification(
        ('a', 'b', 'c'), ('red',), kind, 'resnet10t', mixup=0.4, loss=loss, label_smoothing=smoothing
    )
    task.log = lambda *_, **__: None
    label = torch.tensor([0, 2, 1, 0]) if kind == 'single-label' else torch.randint(0, 2, (4, 3)).float()
    found = task.training_step({'image': torch.rand(4, 1, 32, 32), 'label': label}, 0)
    found.backward()
    assert math.isfinite(found.item())


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'focal_gamma': 1.0}, "focal_gamma 1 goes with loss 'focal'"),
        ({'loss': 'ce', 'gce_q': 0.5}, "gce_q 0.5 goes with loss 'gce'"),
        ({'mixup': -0.1}, 'mixup has to be 0 or above'),
        ({'mixup': float('nan')}, 'mixup has to be 0 or above'),
        ({'augment': [Blend()]}, 'Blend needs teachers'),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(options, reason):
    with pytest.raises(UsageError, match=reason):
        SceneClassification(('a', 'b'), ('red',), 'single-label', 'resnet10t', **options)


def test_segmentation_refuses_them_too():
    with pytest.raises(UsageError, match="focal_gamma 3 goes with loss 'focal'"):
        SemanticSegmentation(('a', 'b'), ('red',), focal_gamma=3.0)
