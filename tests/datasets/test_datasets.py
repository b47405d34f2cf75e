import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

import geores.datasets
from geores.datasets import GeoTIFFPatches, GeoTIFFPatchesDataModule, SceneFolder, SceneFolderDataModule
from geores.errors import DatasetError
from geores.splits import stratified_split

SHARED = Path(__file__).parents[3] / 'shared' / 'data'
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f'{SHARED} is absent')
LABELS = ('trees', 'water')


def make_scenes(root, classes=('forest', 'lake'), count=5, size=12, labels=LABELS, skip=0):
    rng = np.random.default_rng(0)
    rows = []
    for scene in classes:
        folder = root / 'images' / scene
        folder.mkdir(parents=True)
        for index in range(count):
            values = rng.integers(0, 255, (size, size, 3)).astype(np.uint8)
            Image.fromarray(values).save(folder / f'{scene}{index:02}.png')
            rows.append([f'{scene}{index:02}', scene, *rng.integers(0, 2, len(labels))])
    rows[skip][2:] = [1] * len(labels)
    write(root / 'multilabels.csv', [['name', 'scene', *labels], *rows[skip:]])
    return root


def make_patches(root, labels=('Forest', 'SeaLake', ''), count=5, bands=('B02', 'B03', 'B08')):
    (root / 'images').mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(count * len(labels)):
        name, label = f'patch_{index:02}.tif', labels[index % len(labels)]
        values = rng.integers(0, 3000, (len(bands), 8, 8)).astype(np.uint16)
        make_tif(root / 'images' / name, values, bands)
        rows.append([name, label])
    write(root / 'labels.csv', [['file', 'label'], *rows])
    return root


def make_tif(path, values, bands):
    height, width = values.shape[1:]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(path, 'w', 'GTiff', width, height, len(values), dtype=values.dtype) as target:
            target.write(values)
            target.descriptions = bands


def write(path, rows):
    with path.open('w', newline='') as file:
        csv.writer(file).writerows(rows)


def fails(make, *parts):
    with pytest.raises(DatasetError) as error:
        make()
    assert '\n' not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_installs_under_one_name_only():
    assert SceneFolder.__module__ == 'geores.datasets.folder'
    assert geores.datasets.__name__ == 'geores.datasets'


# --- folders of scenes


def test_scene_samples(tmp_path):
    dataset = SceneFolder(make_scenes(tmp_path / 'set'))
    assert dataset.labels == ('forest', 'lake')
    assert len(dataset) == 10
    sample = dataset[7]
    pixels = np.asarray(Image.open(tmp_path / 'set/images/lake/lake02.png')).transpose(2, 0, 1)
    assert sample['image'].dtype == torch.float32
    np.testing.assert_array_equal(sample['image'], pixels)
    assert sample['label'].dtype == torch.int64
    assert (int(sample['label']), sample['source']) == (1, 'set')
    assert sample['id'] == 'set/lake/lake02.png'
    assert sample['bands'] == ('red', 'green', 'blue')


def test_multi_label_samples(tmp_path):
    dataset = SceneFolder(make_scenes(tmp_path / 'set', skip=2), 'multi-label')
    assert (len(dataset), dataset.left_out, dataset.labels) == (8, 2, LABELS)
    assert dataset[0]['id'] == 'set/forest/forest02.png'
    assert dataset[0]['label'].tolist() == [1.0, 1.0]
    assert dataset[0]['label'].dtype == torch.float32


def test_several_sources_share_labels_in_any_order(tmp_path):
    one = make_scenes(tmp_path / 'one')
    two = make_scenes(tmp_path / 'two', classes=('pond',), labels=LABELS[::-1])
    (two / 'multilabels.csv').write_text('name,scene,water,trees\npond00,pond,1,0\n')
    dataset = SceneFolder([one, two], 'multi-label')
    assert [dataset[index]['source'] for index in (0, -1)] == ['one', 'two']
    assert dataset[-1]['label'].tolist() == [0.0, 1.0]
    assert SceneFolder([one, two]).labels == ('forest', 'lake', 'pond')


def test_classes_may_lie_in_the_root_itself(tmp_path):
    root = make_scenes(tmp_path / 'set')
    assert len(SceneFolder(root / 'images')) == 10


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'tif'])
def test_sizes_and_formats(tmp_path, suffix):
    folder = tmp_path / 'set' / 'class'
    folder.mkdir(parents=True)
    values = np.zeros((8, 8, 3), np.uint8)
    values[:, 4:] = 200
    Image.fromarray(values).save(folder / f'a.{suffix}', **({'quality': 100} if suffix == 'jpg' else {}))
    half = SceneFolder(tmp_path / 'set', size=4)[0]['image']
    np.testing.assert_allclose(half[0], [[0, 0, 200, 200]] * 4, atol=3)
    assert SceneFolder(tmp_path / 'set', size=16)[0]['image'].shape == (3, 16, 16)


def test_budget_decides_what_is_held(tmp_path):
    root = make_scenes(tmp_path / 'set')
    held, read = SceneFolder(root, size=8), SceneFolder(root, size=8, budget=100)
    before = held[3]['image'], read[3]['image']
    held.images.load()
    read.images.load()
    for path in root.glob('images/*/*.png'):
        path.unlink()
    assert torch.equal(held[3]['image'], before[0])
    assert torch.equal(*before)
    fails(lambda: read[3], 'forest03.png')


def test_bad_scene_folders(tmp_path):
    root = make_scenes(tmp_path / 'set')
    fails(lambda: SceneFolder(tmp_path / 'none'), str(tmp_path / 'none'), 'root')
    (tmp_path / 'empty').mkdir()
    fails(lambda: SceneFolder(tmp_path / 'empty'), 'empty', 'no images')
    fails(lambda: SceneFolder(root, 'segmentation'), 'mode')
    table = root / 'multilabels.csv'
    text = table.read_text()

    def multi():
        return SceneFolder(root, 'multi-label')

    table.write_text(text.replace('scene', 'place', 1))
    fails(multi, 'multilabels.csv', "'scene'")
    table.write_text(text.replace('lake03', 'lake99'))
    fails(multi, 'lake99')
    table.write_text(text.replace(',1', ',0'))
    assert SceneFolder(root, 'multi-label').targets.sum(0).min() == 0
    fails(SceneFolderDataModule(str(root), 'multi-label').setup, "'trees'", 'never positive')
    table.write_text(text.replace(',1', ',yes'))
    fails(multi, 'yes')
    table.write_text('name,scene,trees\n')
    fails(multi, 'no rows')
    table.write_text('name,scene,trees\nlake00,lake\n')
    fails(multi, 'lake00', 'trees')
    table.unlink()
    fails(multi, 'multilabels.csv')
    other = make_scenes(tmp_path / 'other', labels=('trees', 'sand'))
    table.write_text(text)
    fails(lambda: SceneFolder([root, other], 'multi-label'), 'sand')


@pytest.mark.parametrize('content', [b'', b'not an image', b'\x89PNG\r\n\x1a\n broken'])
def test_unreadable_images_are_named(tmp_path, content):
    root = make_scenes(tmp_path / 'set')
    (root / 'images/lake/lake01.png').write_bytes(content)
    fails(SceneFolder(root).images.load, 'lake01.png')


def test_other_shapes_and_types(tmp_path):
    root = make_scenes(tmp_path / 'set')
    path = root / 'images/lake/lake01.png'
    Image.new('RGB', (5, 5)).save(path)
    fails(SceneFolder(root).images.load, 'lake01.png', '(3, 5, 5)')
    Image.new('I;16', (12, 12)).save(path)
    fails(SceneFolder(root).images.load, 'lake01.png', '8-bit')


# --- patches


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_patch_samples(tmp_path):
    root = make_patches(tmp_path / 'set')
    dataset = GeoTIFFPatches(root, bands=['B08', 'B02'])
    assert dataset.labels == ('Forest', 'SeaLake')
    assert (len(dataset), dataset.left_out) == (10, 5)
    sample = dataset[1]
    with rasterio.open(root / 'images/patch_01.tif') as source:
        np.testing.assert_array_equal(sample['image'], source.read([3, 1]))
    assert sample['image'].dtype == torch.float32
    assert (sample['bands'], int(sample['label'])) == (('B08', 'B02'), 1)
    assert sample['id'] == 'set/patch_01.tif'
    assert GeoTIFFPatches(root).bands == ('B02', 'B03', 'B08')
    everything = GeoTIFFPatches(root, unlabelled=True)
    assert (len(everything), int(everything[2]['label'])) == (15, -1)
    assert GeoTIFFPatches(root, size=4)[0]['image'].shape == (3, 4, 4)


@pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
def test_patches_of_several_folders(tmp_path):
    one, other = make_patches(tmp_path / 'one'), make_patches(tmp_path / 'other')
    both = GeoTIFFPatches([one, other])
    assert (len(both), both.left_out) == (20, 10)
    assert both.ids[0] == 'one/patch_00.tif'
    assert both.ids[10] == 'other/patch_00.tif'
    assert both.sources == ['one'] * 10 + ['other'] * 10
    np.testing.assert_array_equal(both[13]['image'], GeoTIFFPatches(other)[3]['image'])
    assert both.targets.tolist() == [*GeoTIFFPatches(one).targets] * 2
    again = make_patches(tmp_path / 'elsewhere' / 'one')
    fails(lambda: GeoTIFFPatches([one, again]), 'same name')


def test_bad_patches(tmp_path):
    root = make_patches(tmp_path / 'set')
    fails(lambda: GeoTIFFPatches(tmp_path / 'none'), str(tmp_path / 'none'))
    fails(lambda: GeoTIFFPatches(root, bands=['B12'])[0], 'patch_00.tif', "'B12'")
    table = root / 'labels.csv'
    text = table.read_text()
    for old, new, part in [
        ('label', 'class', "'label'"),
        ('patch_03', 'patch_99', 'patch_99.tif'),
        ('patch_03', 'patch_00', 'twice'),
    ]:
        table.write_text(text.replace(old, new, 1))
        fails(lambda: GeoTIFFPatches(root), part)
    table.write_text('file,label\npatch_00.tif,\n')
    fails(lambda: GeoTIFFPatches(root), 'no label')
    table.unlink()
    fails(lambda: GeoTIFFPatches(root), 'labels.csv')


def test_unreadable_patches_are_named(tmp_path):
    root = make_patches(tmp_path / 'set')
    path = root / 'images/patch_03.tif'
    whole = path.read_bytes()
    path.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"/>')
    fails(GeoTIFFPatches(root, size=8).images.load, 'patch_03.tif')
    path.write_bytes(whole[:300])
    fails(GeoTIFFPatches(root, size=8).images.load, 'patch_03.tif')
    path.write_bytes(whole)
    make_tif(path, np.zeros((2, 8, 8), np.uint16), (None, None))
    fails(GeoTIFFPatches(root, size=8).images.load, 'patch_03.tif', "'B02'")


# --- splits and datamodules


def test_split_is_stratified_and_depends_on_names_only():
    ids = [f'id{index}' for index in range(100)]
    strata = ['a' if index < 80 else 'b' for index in range(100)]
    split = stratified_split(ids, strata, 0.25, 3)
    assert sorted(split.train + split.val) == list(range(100))
    assert sum(index < 80 for index in split.val) == 20
    turned = stratified_split(ids[::-1], strata[::-1], 0.25, 3)
    assert {ids[index] for index in split.val} == {ids[::-1][index] for index in turned.val}
    assert split.id == turned.id
    assert split.id != stratified_split(ids, strata, 0.25, 4).id
    fails(lambda: stratified_split(ids, strata, 1.0, 0), 'val_share')
    fails(lambda: stratified_split(['a', 'a'], ['x', 'x'], 0.5, 0), 'same id')
    fails(lambda: stratified_split(['a'], ['x'], 0.5, 0), 'too few')


def test_scene_datamodule(tmp_path):
    root = make_scenes(tmp_path / 'set')
    data = SceneFolderDataModule(str(root), 'multi-label', size=8, batch_size=3)
    assert (data.labels, data.task) == (LABELS, 'multi-label')
    data.setup('fit')
    batches = list(data.val_dataloader())
    assert len(data.split.val) == 2
    assert batches[0]['image'].shape == (2, 3, 8, 8)
    assert batches[0]['label'].shape == (2, 2)
    assert batches[0]['source'] == ['set', 'set']
    assert [len(batch['id']) for batch in data.train_dataloader()] == [3, 3]
    images = np.stack([data.dataset[index]['image'] for index in data.split.train])
    mean, std = data.statistics
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(std, images.std((0, 2, 3)), rtol=1e-4)
    assert data.train_targets.shape == (8, 2)


def test_patch_datamodule(tmp_path):
    root = make_patches(tmp_path / 'set')
    data = GeoTIFFPatchesDataModule(str(root), bands=['B03'], size=8, batch_size=100)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch['image'].shape == (8, 1, 8, 8)
    assert batch['label'].dtype == torch.int64
    assert (data.bands, data.task, data.labels) == (('B03',), 'single-label', ('Forest', 'SeaLake'))


@needs_shared
def test_real_folders_are_as_described():
    both = SceneFolder([SHARED / 'ucmerced', SHARED / 'aid'], 'multi-label', size=16)
    assert (len(both), both.left_out, len(both.labels)) == (4380, 3300, 17)
    patches = GeoTIFFPatches(SHARED / 's2-l2a')
    assert (len(patches), patches.left_out, len(patches.labels)) == (802, 200, 10)
    assert patches[0]['image'].shape == (12, 64, 64)
