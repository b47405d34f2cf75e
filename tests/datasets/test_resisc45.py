"""NWPU-RESISC45: folders, lists, the paper's draws, training and baselines on it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from geores.bundle import load_model
from geores.datasets import RESISC45, RESISC45DataModule
from geores.datasets._module import TorchgeoRESISC45
from geores.datasets.resisc45 import CLASSES
from geores.errors import DatasetError, UsageError
from geores.protocol.compare import plan_baselines
from geores.protocol.options import BaselineOptions
from geores.testing.training import check_dataset

pytestmark = pytest.mark.usefixtures('one_thread')

COUNT = 10


def write_resisc45(root, count=COUNT, classes=CLASSES, lists=True):
    """The released layout, with images of 16 pixels whose colour tells the class."""
    draw = np.random.default_rng(0)
    names = []
    for name in classes:
        folder = root / 'NWPU-RESISC45' / name
        folder.mkdir(parents=True)
        colour = draw.integers(20, 235, 3)
        for index in range(1, count + 1):
            pixels = np.clip(colour + draw.normal(0, 6, (16, 16, 3)), 0, 255).astype(np.uint8)
            names.append(f'{name}_{index:03}.jpg')
            Image.fromarray(pixels).save(folder / names[-1], quality=95)
    if lists:
        parts = {'train': range(1, 7), 'val': (7, 8), 'test': (9, 10)}
        for part, indexes in parts.items():
            kept = [name for name in names if int(name[-7:-4]) in indexes]
            (root / f'resisc45-{part}.txt').write_text('\n'.join(kept) + '\n')
    return root


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_resisc45(tmp_path_factory.mktemp('resisc45'))


def test_samples(root):
    data = RESISC45(root)
    assert len(data) == 45 * COUNT
    assert len(CLASSES) == 45
    assert data.labels == CLASSES == tuple(sorted(CLASSES))
    sample = data[COUNT]
    assert sample['id'] == 'airport/airport_001.jpg'
    assert sample['label'].item() == 1
    assert sample['image'].dtype == torch.float32
    assert sample['image'].shape == (3, 16, 16)
    with Image.open(root / 'NWPU-RESISC45' / sample['id']) as image:
        np.testing.assert_array_equal(sample['image'].numpy().transpose(1, 2, 0), np.asarray(image))
    check_dataset(data)


def test_same_samples_as_torchgeo(root):
    for split in ('train', 'val', 'test'):
        theirs, ours = TorchgeoRESISC45(str(root), split), RESISC45(root, split)
        assert [path.split('/')[-1] for path, _ in theirs.samples] == [one.split('/')[-1] for one in ours.ids]
        assert list(theirs.classes) == list(ours.labels)
        for index in (0, len(ours) - 1):
            torch.testing.assert_close(theirs[index]['image'], ours[index]['image'])
            assert int(theirs[index]['label']) == int(ours[index]['label'])


def test_root_may_be_the_folder_of_the_classes(root):
    inner = root / 'NWPU-RESISC45'
    assert RESISC45(inner).ids == RESISC45(root).ids
    assert RESISC45(inner, 'test').ids == RESISC45(root, 'test').ids


@pytest.mark.parametrize('ratio', [0.1, 0.2])
def test_draws_take_the_ratio_of_each_class(root, ratio):
    data = RESISC45DataModule(str(root), ratio)
    split = data.split
    strata = data.dataset.strata
    assert set(Counter(strata[index] for index in split.train).values()) == {round(COUNT * ratio)}
    assert sorted([*split.train, *split.val]) == list(range(45 * COUNT))
    again, other = (RESISC45DataModule(str(root), ratio, repeat).split for repeat in (0, 1))
    assert again == split
    assert other.train != split.train


def test_draws_are_those_of_the_baselines(root):
    plan = plan_baselines(root, BaselineOptions(repeats=2, methods=('colour',)), dataset='resisc45')
    assert plan.splits[0.2, 1] == RESISC45DataModule(str(root), 0.2, 1).split


def test_fixed_lists(root):
    split = RESISC45DataModule(str(root), ratio=None).split
    assert (len(split.train), len(split.val)) == (45 * 6, 45 * 2)
    assert split.id.startswith('resisc45-lists-')
    assert len(RESISC45(root, 'test')) == 45 * 2


@pytest.mark.parametrize(('given', 'said'), [({'ratio': 1.0}, 'ratio'), ({'repeat': -1}, 'repeat')])
def test_options_out_of_range(root, given, said):
    with pytest.raises(DatasetError, match=said):
        RESISC45DataModule(str(root), **given)


def test_bad_folders(root, tmp_path):
    with pytest.raises(DatasetError, match=r'no NWPU-RESISC45 here; looked for NWPU-RESISC45/airplane'):
        RESISC45(tmp_path)
    with pytest.raises(DatasetError, match='no NWPU-RESISC45 here'):
        RESISC45(tmp_path / 'nowhere')
    some = write_resisc45(tmp_path / 'some', 1, CLASSES[:43], lists=False)
    with pytest.raises(DatasetError, match=r'2 of the 45 classes: thermal_power_station, wetland'):
        RESISC45(some)
    with pytest.raises(DatasetError, match='split has to be'):
        RESISC45(root, 'validation')


def test_bad_lists_and_strangers(tmp_path):
    root = write_resisc45(tmp_path, 2, lists=False)
    with pytest.raises(DatasetError, match=r'no list resisc45-train\.txt'):
        RESISC45(root, 'train')
    (root / 'resisc45-train.txt').write_text('airplane_001.jpg\nairplane_999.jpg\n')
    with pytest.raises(DatasetError, match=r'names 1 images that are not here: airplane_999\.jpg'):
        RESISC45(root, 'train')
    (root / 'NWPU-RESISC45' / 'castle').mkdir()
    Image.new('RGB', (16, 16)).save(root / 'NWPU-RESISC45' / 'castle' / 'castle_001.png')
    with pytest.raises(DatasetError, match='castle is no class'):
        RESISC45(root)


def test_what_cannot_be_fetched_is_said(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError('no network')

    monkeypatch.setattr(TorchgeoRESISC45, '_download', refuse)
    with pytest.raises(DatasetError, match='cannot be fetched: no network'):
        RESISC45(tmp_path, download=True)


def test_baselines_by_name(geores, root, tmp_path):
    answer = geores('baselines', root, '--dataset', 'resisc45', '--methods', 'colour', '--svm-c', '1',
                    '--out', tmp_path, '--json')  # fmt: skip
    assert answer.code == 0, answer.err
    assert [(one['ratio'], one['repeats']) for one in answer.records] == [(0.1, 10), (0.2, 10)]
    assert all(one['accuracy_mean'] > 0.3 and one['accuracy_std'] > 0 for one in answer.records)
    assert 'fine-tuned VGGNet-16 87.15' in answer.err


def test_baselines_refuse_other_names_and_other_data(root, tmp_path):
    with pytest.raises(UsageError, match='choose one of folder, resisc45'):
        plan_baselines(root, BaselineOptions(), dataset='resisc')
    with pytest.raises(DatasetError, match='no NWPU-RESISC45 here'):
        plan_baselines(tmp_path, BaselineOptions(), dataset='resisc45')


@pytest.mark.parametrize('ratio', [10, 20])
def test_configurations_train(geores, root, tmp_path, monkeypatch, ratio):
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[2] / 'configs' / f'resisc45-resnet50-{ratio}.yaml'
    answer = geores(
        'train', '--config', config, '--data.root', root, '--data.size', 32, '--data.num_workers', 0,
        '--model.architecture', 'resnet10t', '--trainer.max_epochs', 1,
        '--trainer.check_val_every_n_epoch', 1, '--trainer.accelerator', 'cpu',
        '--export.path', tmp_path / 'bundle',
    )  # fmt: skip
    assert answer.code == 0, answer.err
    card = load_model(tmp_path / 'bundle').card
    assert card.labels == CLASSES
    assert card.split_id.startswith(f'stratified-{1 - ratio / 100:g}-')
