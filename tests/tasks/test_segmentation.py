import numpy as np
import pytest
import torch
import yaml

from geores.bundle import load_model
from geores.cli.training import train
from geores.datasets import GeoTIFFPairs, GeoTIFFPairsDataModule, ReBENMapsDataModule
from geores.errors import DatasetError, UsageError
from geores.tasks import SemanticSegmentation
from geores.tasks.augment import Blend, Dihedral, Gain, RandomResizedCrop
from geores.tasks.start import OnnxTeacher

from ..reben_fixtures import make_reben
from ..segmentation_fixtures import (
    BANDS,
    LABELS,
    SIDE,
    config,
    name_classes,
    onnx_teacher,
    pairs,
    settings,
    write,
)

pytestmark = pytest.mark.usefixtures('one_thread')


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['geores', 'train', '--config', 'x.yaml'])


def test_from_pairs_to_a_bundle_that_labels_pixels(tmp_path, capsys):
    root = pairs(tmp_path / 'mine')
    train(config(tmp_path / 'pixels.yaml', root=root, class_weights='balanced'))
    assert 'bundle written' in capsys.readouterr().out
    model = load_model(tmp_path / 'runs' / 'pixels' / 'version_0' / 'pixels')
    card = model.card
    assert (card.task, card.activation, card.labels, card.bands) == (
        'segmentation',
        'softmax',
        tuple(LABELS),
        tuple(BANDS),
    )
    assert (card.context, card.alignment, card.input_size) == (SIDE // 4, 2, SIDE)
    figures = card.metrics['labels']
    assert figures['split'] == '3 validation images'
    assert figures['accuracy'] > 0.97
    assert figures['miou'] > 0.9
    assert {'iou_water', 'f1_trees', 'accuracy_water'} <= figures.keys()
    data = GeoTIFFPairs(root)
    sample = data[0]
    found = model.predict(sample['image'][None].numpy()).argmax(1)[0]
    counts = sample['mask'].numpy() != 255
    assert (found == sample['mask'].numpy())[counts].mean() > 0.95


def test_a_teacher_alone_teaches_pixels_without_labels(tmp_path):
    root = pairs(tmp_path / 'mine', masks=False)
    path = onnx_teacher(tmp_path / 'teacher.onnx', [[4, -4], [-4, 4]], [0, 0])
    teacher = {
        'class_path': 'geores.tasks.start.OnnxTeacher',
        'init_args': {'path': path, 'labels': LABELS, 'bands': BANDS, 'std': [1000, 1000], 'layout': 'NCHW'},
    }
    options = settings(root, teacher=teacher)
    options['trainer']['max_epochs'] *= 2
    options['data']['init_args'] |= {'unlabelled': True, 'labels': LABELS}
    (tmp_path / 'taught.yaml').write_text(yaml.safe_dump(options))
    train(['--config', 'taught.yaml', '--model.teacher.path', path, '--export.path', 'taught'])
    metrics = load_model('taught').card.metrics
    assert set(metrics) == {'teacher'}
    assert metrics['teacher']['accuracy'] > 0.8


@pytest.mark.parametrize(('layout', 'squash'), [('NCHW', None), ('NHWC', (5.0, -1.0))])
def test_a_teacher_answers_as_its_transform_says(tmp_path, layout, squash):
    weight, bias = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([0.1, -0.2])
    path = onnx_teacher(tmp_path / 'teacher.onnx', weight, bias, layout)
    mean, std = [1.0, 2.0], [2.0, 3.0]
    teacher = OnnxTeacher(path, LABELS, BANDS, mean, std, 0.005, squash, layout)
    images = torch.rand(2, 3, 4, 6) * 3000
    found = teacher(images, ['B02', *BANDS])
    x = (images[:, 1:].double() * 0.005).log1p()
    x = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    if squash:
        x = torch.sigmoid(squash[0] * x + squash[1])
    expected = torch.einsum('kc,nchw->nkhw', torch.tensor(weight), x) + torch.tensor(bias)[:, None, None]
    torch.testing.assert_close(found.double(), expected.softmax(1), atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match='takes band B08'):
        teacher(images, ['B02', 'B03', 'B04'])


def test_soft_targets_are_those_of_the_batch_as_augmented(tmp_path):
    path = onnx_teacher(tmp_path / 'teacher.onnx', [[1, -1], [-1, 1]], [0, 0])
    teacher = OnnxTeacher(path, LABELS, BANDS, std=[1000, 1000], layout='NCHW')
    seen = []

    def spy(images, bands):
        seen.append(images)
        return OnnxTeacher.__call__(teacher, images, bands)

    task = SemanticSegmentation(LABELS, BANDS, teacher=teacher, augment=[Dihedral(), Gain()])
    task.teacher = spy
    task.log = lambda *args, **kwargs: None
    image = torch.rand(2, 2, 8, 8) * 3000
    student = []
    task.network.register_forward_pre_hook(lambda _, args: student.append(args[0]))
    task.training_step({'image': image, 'mask': torch.full((2, 8, 8), 255)}, 0)
    torch.testing.assert_close(student[0], seen[0])
    assert not torch.equal(seen[0], image)


def test_masks_move_with_their_images():
    from geores.tasks.segmentation import _augmented

    image = torch.arange(64.0).view(1, 1, 8, 8).repeat(16, 1, 1, 1)
    mask = image[:, 0].long()
    images, masks = _augmented(Dihedral(), image, mask, ['B03'])
    assert torch.equal(images[:, 0].long(), masks)
    assert not torch.equal(images, image)
    with pytest.raises(UsageError, match='RandomResizedCrop resamples'):
        SemanticSegmentation(LABELS, BANDS, augment=[RandomResizedCrop()])


def test_only_a_teacher_answers_for_blended_images():
    from geores.tasks.segmentation import _augmented

    torch.manual_seed(0)
    image, mask = torch.rand(16, 1, 4, 4), torch.zeros(16, 4, 4, dtype=torch.int64)
    images, masks = _augmented(Blend(share=0.5), image, mask, ['B03'])
    same = (images == image).flatten(1).all(1)
    assert 0 < same.sum() < 16
    assert (masks[same] == 0).all()
    assert (masks[~same] == 255).all()
    assert images.amax() <= image.amax()
    with pytest.raises(UsageError, match='Blend needs a teacher'):
        SemanticSegmentation(LABELS, BANDS, augment=[Blend()])
    with pytest.raises(UsageError, match='share and most'):
        Blend(share=2)


@pytest.mark.parametrize('loss', ['ce', 'focal', 'gce'])
def test_ignored_pixels_do_not_count(loss):
    task = SemanticSegmentation(LABELS, BANDS, loss=loss, class_weights=[1.0, 3.0])
    logits = torch.randn(2, 2, 4, 4)
    mask = torch.randint(0, 2, (2, 4, 4))
    mask[:, 2:] = 255
    other = logits.clone()
    other[:, :, 2:] = 50.0
    whole = task._loss(logits, mask, None)
    torch.testing.assert_close(whole, task._loss(other, mask, None))
    torch.testing.assert_close(whole, task._loss(logits[:, :, :2], mask[:, :2], None))
    if loss == 'ce':
        reference = torch.nn.functional.cross_entropy(
            logits, mask, torch.tensor([1.0, 3.0]), ignore_index=255
        )
        torch.testing.assert_close(whole, reference)
    assert float(task._loss(logits, torch.full((2, 4, 4), 255), None)) == 0


def test_teacher_and_label_share_a_labelled_pixel():
    task = SemanticSegmentation(LABELS, BANDS, teacher_share=0.25)
    logits, mask = torch.randn(1, 2, 1, 2), torch.tensor([[[1, 255]]])
    taught = torch.tensor([0.3, 0.7]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    target = torch.tensor([[0.3 * 0.25, 0.7 * 0.25 + 0.75], [0.3, 0.7]])
    log = logits.log_softmax(1)[0, :, 0].T
    torch.testing.assert_close(task._loss(logits, mask, taught), -(target * log).sum(1).mean())


@pytest.mark.parametrize(
    ('kwargs', 'part'),
    [
        ({'class_weights': [1.0]}, '1 class_weights'),
        ({'log_scale': 0.1}, 'log_scale needs mean and std'),
        ({'mean': [1.0], 'std': [1.0]}, '1 values'),
        ({'architecture_kwargs': {'widths': [1, 2]}}, 'widths'),
        ({'freeze': ['none']}, "no part 'none'"),
        ({'warmup': 2.0}, 'warmup'),
    ],
)
def test_what_does_not_fit_is_refused(kwargs, part):
    with pytest.raises(UsageError, match=part):
        SemanticSegmentation(LABELS, BANDS, **kwargs)


def test_a_teacher_that_does_not_fit_is_refused(tmp_path):
    path = onnx_teacher(tmp_path / 'teacher.onnx', [[1, -1], [-1, 1]], [0, 0])
    teacher = OnnxTeacher(path, LABELS[::-1], BANDS, layout='NCHW')
    with pytest.raises(UsageError, match='other labels: trees, water'):
        SemanticSegmentation(LABELS, BANDS, teacher=teacher)
    with pytest.raises(UsageError, match='knows no soft targets'):
        SemanticSegmentation(LABELS[::-1], BANDS, teacher=teacher, loss='focal')
    with pytest.raises(UsageError, match='no such file'):
        OnnxTeacher(str(tmp_path / 'none.onnx'), LABELS, BANDS)
    (tmp_path / 'bad.onnx').write_text('no network')
    with pytest.raises(UsageError, match='cannot be run'):
        OnnxTeacher(str(tmp_path / 'bad.onnx'), LABELS, BANDS)(torch.zeros(1, 2, 2, 2), BANDS)
    with pytest.raises(UsageError, match='for 3 labels of 1 images'):
        OnnxTeacher(path, [*LABELS, 'snow'], BANDS, layout='NCHW')(torch.zeros(1, 2, 2, 2), BANDS)


def test_pairs_read_names_nodata_and_bands(tmp_path):
    root = pairs(tmp_path / 'mine', count=2)
    image = np.full((2, SIDE, SIDE), 1000, np.uint16)
    image[1, 0, 0] = 7
    write(root / 'images' / '00.tif', image, BANDS, nodata=7)
    data = GeoTIFFPairs(root, bands=['B08'])
    assert (data.labels, data.bands, data.task) == (tuple(LABELS), ('B08',), 'segmentation')
    sample = data[0]
    assert sample['image'].shape == (1, SIDE, SIDE)
    assert sample['mask'].dtype == torch.int64
    assert sample['mask'][0, 0] == 255
    assert sample['mask'][0, 1] == 0
    assert (sample['mask'][-3:, -3:] == 255).all()
    assert sample['id'] == 'mine/00.tif'
    turned = GeoTIFFPairs(root, labels=LABELS[::-1])
    assert turned[0]['mask'][0, 1] == 1


def resize(path):
    write(path, np.ones((3, 3), np.uint8))  # which takes its names away
    name_classes(path, LABELS)


@pytest.mark.parametrize(
    ('change', 'part'),
    [
        (lambda root: (root / 'masks' / '01.tif').unlink(), 'no such class map'),
        (lambda root: name_classes(root / 'masks' / '01.tif', ['water']), 'value 2 is no class'),
        (lambda root: (root / 'masks' / '01.tif.aux.xml').unlink(), 'no category names; set labels'),
        (lambda root: write(root / 'masks' / '01.tif', np.ones((3, 3), np.uint8)), 'set labels'),
        (lambda root: resize(root / 'masks' / '01.tif'), '(3, 3) pixels'),
    ],
)
def test_pairs_that_do_not_fit_are_named(tmp_path, change, part):
    root = pairs(tmp_path / 'mine', count=2)
    change(root)
    with pytest.raises(DatasetError) as error:
        GeoTIFFPairs(root)[1]
    assert part in str(error.value)
    assert '01.tif' in str(error.value)


def test_pairs_without_images_are_refused(tmp_path):
    with pytest.raises(DatasetError, match='no image'):
        GeoTIFFPairs(tmp_path / 'none')
    root = pairs(tmp_path / 'mine', count=2, masks=False)
    with pytest.raises(DatasetError, match='set labels'):
        GeoTIFFPairs(root, unlabelled=True)


def test_class_counts_are_of_training_pixels(tmp_path):
    data = GeoTIFFPairsDataModule(str(pairs(tmp_path / 'mine', count=4)), val_share=0.5)
    masks = torch.stack([data.dataset[index]['mask'] for index in data.split.train])
    assert data.class_counts.tolist() == [int((masks == place).sum()) for place in range(2)]
    assert data.size == SIDE


def test_a_class_without_training_pixels_is_named(tmp_path, caplog):
    root = pairs(tmp_path / 'mine', count=4)
    for path in (root / 'masks').glob('*.tif'):
        name_classes(path, [*LABELS, 'ice'])
    with pytest.raises(DatasetError, match='no training pixel of ice by split'):
        GeoTIFFPairsDataModule(str(root), val_share=0.5).setup()
    GeoTIFFPairsDataModule(str(root), labels=[*LABELS, 'ice'], val_share=0.5).setup()
    assert 'no training pixel of ice' in caplog.text
    with pytest.raises(DatasetError, match='all pixels are of one class'):
        GeoTIFFPairsDataModule(str(root), labels=['ice'], val_share=0.5).setup()


def test_reben_with_its_maps_trains_to_a_bundle(tmp_path):
    make_reben(tmp_path / 'reben', count=6)
    options = settings(tmp_path / 'reben', class_weights='balanced')
    options['data'] = {
        'class_path': 'geores.datasets.ReBENMapsDataModule',
        'init_args': {
            'root': str(tmp_path / 'reben'),
            'bands': ['B02', 'B03', 'B04', 'B08'],
            'batch_size': 2,
        },
    }
    options['trainer'] |= {'max_epochs': 1, 'check_val_every_n_epoch': 1}
    (tmp_path / 'maps.yaml').write_text(yaml.safe_dump(options))
    train(['--config', 'maps.yaml', '--export.path', 'mapped'])
    card = load_model('mapped').card
    assert (card.task, len(card.labels), card.input_size, card.context) == ('segmentation', 19, 120, 22)
    assert card.split_id.startswith('reben-official')
    data = ReBENMapsDataModule(str(tmp_path / 'reben'), bands=['B02'])
    masks = torch.stack([data.dataset[index]['mask'] for index in data.split.train])
    assert int(data.class_counts.sum()) == int((masks != 255).sum())
