import json

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from pyproj import Transformer

from geores.datasets import RSVQA
from geores.errors import DatasetError
from geores.testing import check_dataset

from ..rsvqa_fixtures import SIDE, SIZE, SOUTH, WEST, pixels, write_image, write_plain, write_split


def edit(folder, part, change):
    """Change the entries of one JSON file."""
    path = folder / f'{part}.json'
    held = json.loads(path.read_text())
    change(held[part])
    path.write_text(json.dumps(held))


def test_a_folder_without_splits_is_read(tmp_path):
    write_plain(tmp_path / 'lr')
    data = RSVQA(tmp_path / 'lr')
    check_dataset(data)
    assert (len(data), len(data.entries)) == (20, 5)
    sample = data[6]
    assert sample['question'] == 'How many buildings are on the left of a  road?'
    assert (sample['raw_answer'], sample['answer']) == ('7', 'between 0 and 10')
    assert (sample['question_type'], sample['id'], sample['image_id']) == ('count', 'lr/6', 'lr/1')
    assert torch.equal(sample['image'], torch.from_numpy(pixels(1)).float())
    assert (sample['bounds'], sample['crs']) == (
        (WEST + SIDE, SOUTH, WEST + 2 * SIDE, SOUTH + SIDE),
        'EPSG:3857',
    )
    assert RSVQA(tmp_path / 'lr', answers='paper')[6]['answer'] == 'between 1 and 10'
    assert RSVQA(tmp_path / 'lr', 'hr')[6]['answer'] == '7'


def test_prefixed_names_and_images_beside_the_json_are_found(tmp_path):
    write_plain(tmp_path / 'hr', columns=(0, 2), prefix='USGS')
    for path in (tmp_path / 'hr' / 'images').iterdir():
        path.rename(tmp_path / 'hr' / path.name)
    assert len(RSVQA(tmp_path / 'hr', 'hr')) == 8


@pytest.mark.parametrize('prefix', ['LR', 'USGS'])
def test_official_splits_are_read_past_the_stubs_of_others(tmp_path, prefix):
    write_split(tmp_path, (('train', 3), ('val', 2), ('test', 1), ('test_phili', 1)), prefix)
    data = RSVQA(tmp_path)
    assert data.image_splits == ['train'] * 3 + ['val'] * 2 + ['test', 'test_phili']
    held = RSVQA(tmp_path, split='val')
    check_dataset(held)
    assert (len(held), held.image_ids) == (8, [f'{tmp_path.name}/3', f'{tmp_path.name}/4'])
    assert held.ids == data.ids[12:20]
    with pytest.raises(DatasetError, match="no split 'all'; there: test, test_phili, train, val"):
        RSVQA(tmp_path, split='all')


def test_places_of_a_geotiff_are_its_own_and_those_of_a_png_are_reckoned(tmp_path):
    write_plain(tmp_path / 'tif', suffix='.tif')
    write_plain(tmp_path / 'png', suffix='.png')
    tif, png = RSVQA(tmp_path / 'tif'), RSVQA(tmp_path / 'png')
    for entry, bounds in zip(tif.entries, tif.bounds, strict=True):
        with rasterio.open(entry.path) as source:
            assert tuple(bounds) == tuple(source.bounds)
            # What the schema calls the upper left is the bottom edge.
            assert entry.fields['upperleft_map_y'] == source.bounds.bottom
    assert np.allclose(tif.bounds, png.bounds, atol=1e-3)
    assert np.array_equal(tif[3]['image'], png[3]['image'])


def test_an_image_elsewhere_than_web_mercator_is_brought_there(tmp_path):
    write_plain(tmp_path, suffix='.tif', columns=(0,))
    with rasterio.open(tmp_path / 'images' / '0.tif', 'r+') as file:
        file.crs = 'EPSG:32631'
        file.transform = rasterio.transform.from_origin(500_000, 5_770_160, 10, 10)
    west, south, east, north = RSVQA(tmp_path).bounds[0]
    across = Transformer.from_crs('EPSG:32631', 'EPSG:3857', always_xy=True)
    assert (west, south) == pytest.approx(across.transform(500_000, 5_770_000), abs=1)
    assert (east, north) == pytest.approx(across.transform(500_160, 5_770_160), abs=1)


@pytest.mark.parametrize('change', [{'upperleft_map_x': None}, {'upperleft_map_y': 1e9}, {'res_x': 'fine'}])
def test_an_image_that_lies_nowhere_has_no_bounds(tmp_path, change):
    write_plain(tmp_path)
    edit(tmp_path, 'images', lambda entries: entries[1].update(change))
    data = RSVQA(tmp_path)
    assert np.isnan(data.bounds).all(axis=1).tolist() == [False, True, False, False, False]
    assert 'bounds' not in data[0]
    check_dataset(data)


def test_a_batch_holds_each_image_once(tmp_path):
    write_plain(tmp_path)
    data = RSVQA(tmp_path)
    batch = data.batch([9, 0, 8, 3])
    assert batch['image'].shape == (2, 3, SIZE, SIZE)
    assert (batch['image_number'].tolist(), batch['image_index'].tolist()) == ([2, 0], [0, 1, 0, 1])
    assert batch['question'] == [data[index]['question'] for index in (9, 0, 8, 3)]
    for place, index in enumerate((9, 0, 8, 3)):
        assert torch.equal(batch['image'][batch['image_index'][place]], data[index]['image'])
    assert 'image' not in data.batch([0], with_images=False)


def test_several_folders_are_read_as_one(tmp_path):
    write_plain(tmp_path / 'a', columns=(0, 2))
    write_plain(tmp_path / 'b', columns=(4,))
    data = RSVQA([tmp_path / 'a', tmp_path / 'b'])
    check_dataset(data)
    assert data.image_ids == ['a/0', 'a/1', 'b/0']
    assert data.image_numbers.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    write_plain(tmp_path / 'c' / 'a', columns=(0,))
    with pytest.raises(DatasetError, match="both called 'a'"):
        RSVQA([tmp_path / 'a', tmp_path / 'c' / 'a'])


def configilm(folder, split='train'):
    entries = {
        '41': {
            'type': 'presence',
            'question': 'Are some pastures present?',
            'answer': 'no',
            'S2_name': 'P_1',
        },
        '40': {
            'type': 'LC',
            'question': 'Which L1 classes?',
            'answer': 'forest and wetlands',
            'S2_name': 'P_2',
        },
        '7': {'type': 'LC', 'question': 'Which L2 classes?', 'answer': 'None', 'S2_name': 'P_1'},
    }
    folder.mkdir(exist_ok=True)
    (folder / f'RSVQAxBEN_QA_{split}.json').write_text(json.dumps(entries))


def test_rsvqaxben_is_read_as_configilm_writes_it(tmp_path):
    configilm(tmp_path)
    write_image(tmp_path / 'images' / 'P_1.tif', 1)
    write_image(tmp_path / 'images' / 'P_2.tif', 2)
    data = RSVQA(tmp_path, 'xben', split='train')
    check_dataset(data)
    assert data.answers == ['no', 'forest and wetlands', 'None']
    assert data.image_numbers.tolist() == [0, 1, 0]


def test_images_may_come_from_a_reader(tmp_path):
    configilm(tmp_path)
    data = RSVQA(tmp_path, 'xben', reader=read_patch)
    check_dataset(data)
    assert torch.equal(data[1]['image'], torch.from_numpy(pixels(2)).float())
    assert np.isnan(data.bounds).all()
    with pytest.raises(DatasetError, match='size has to be None'):
        RSVQA(tmp_path, 'xben', reader=read_patch, size=8)
    with pytest.raises(DatasetError, match='uint8'):
        RSVQA(tmp_path, 'xben', reader=np.zeros_like)[0]


@pytest.mark.parametrize(
    'change', [{'S2_name': 3}, {'answer': None}, {'type': []}, {'question': ''}, {'S2_name': '../P_1'}]
)
def test_configilm_files_that_are_odd_are_refused(tmp_path, change):
    configilm(tmp_path)
    write_image(tmp_path / 'images' / 'P_1.png', 1)
    write_image(tmp_path / 'images' / 'P_2.png', 2)
    path = tmp_path / 'RSVQAxBEN_QA_train.json'
    held = json.loads(path.read_text())
    held['40'].update(change)
    path.write_text(json.dumps(held))
    with pytest.raises(DatasetError, match=r'RSVQAxBEN_QA_train\.json: (question 40|image)'):
        RSVQA(tmp_path, 'xben')


def read_patch(name):
    return pixels(int(name[-1]))


def gone(folder):
    (folder / 'images' / '3.png').unlink()


def odd_size(folder):
    write_image(folder / 'images' / '3.png', 3)
    path = folder / 'images' / '3.png'

    Image.open(path).resize((20, 20)).save(path)


@pytest.mark.parametrize(
    ('part', 'change', 'message'),
    [
        ('answers', lambda entries: entries.pop(5), 'question 5 has no answer in answers.json'),
        ('answers', lambda entries: entries[5].update(active=False), 'question 5 has no answer'),
        ('answers', lambda entries: entries[5].update(question_id=4), 'answer 5 is the second to question 4'),
        ('answers', lambda entries: entries[5].update(question_id=99), 'answer 5 is to question 99'),
        ('answers', lambda entries: entries[5].update(id=4), 'two answers have the id 4'),
        (
            'answers',
            lambda entries: entries[6].update(answer='a few'),
            "'a few' is no answer of type 'count'",
        ),
        ('answers', lambda entries: entries[6].update(answer=6), 'answer 6 is 6, not text'),
        ('answers', lambda entries: entries[6].pop('answer'), "answer 6 has no 'answer'"),
        ('questions', lambda entries: entries.pop(), 'answer 19 is to question 19, which is not there'),
        ('images', lambda entries: entries[2]['questions_ids'].append(99), 'image 2 has question 99, which'),
        ('questions', lambda entries: entries[5].update(img_id=50), 'question 5 is on image 50'),
        ('questions', lambda entries: entries[5].update(question='  '), 'question 5 is empty'),
        ('questions', lambda entries: entries[5].update(question=None), 'question 5 is empty'),
        ('questions', lambda entries: entries[5].update(question='word ' * 10_000), 'has 10000 words'),
        ('questions', lambda entries: entries[5].pop('type'), "question 5 has no 'type'"),
        ('questions', lambda entries: entries.append(7), "entry 20 has no 'id'"),
        ('questions', lambda entries: entries[5].update(id=[1]), r'id is .*not a number'),
        ('questions', lambda entries: entries[5].update(img_id=[1]), 'img_id is .*not a number'),
        ('questions', lambda entries: entries[5].update(type=None), 'type is .*not text'),
        ('answers', lambda entries: entries[5].update(question_id={}), 'question_id is .*not a number'),
        ('images', lambda entries: entries[2].update(questions_ids=5), 'questions_ids is no list'),
        ('images', lambda entries: entries[2].update(questions_ids=[[5]]), 'questions_ids is no list'),
        ('images', lambda entries: entries.append(dict(entries[0])), 'two images have the id 0'),
        ('images', lambda entries: entries.append({'id': 77}), 'image 77 has no file 77.tif'),
        ('images', lambda entries: entries.append({'id': '../images/0'}), 'has no file'),
        ('images', lambda entries: entries[2].update(active=False), 'is on image 2, which images.json'),
    ],
)
def test_files_that_disagree_are_refused(tmp_path, part, change, message):
    write_plain(tmp_path)
    edit(tmp_path, part, change)
    with pytest.raises(DatasetError, match=message):
        RSVQA(tmp_path)


def test_a_missing_or_odd_image_is_refused(tmp_path):
    write_plain(tmp_path)
    odd_size(tmp_path)
    data = RSVQA(tmp_path)
    with pytest.raises(DatasetError, match=r'3\.png: 20 x 20 pixels, and 0\.png has 16 x 16; set size'):
        data.batch([12])
    with pytest.raises(DatasetError, match=r'3\.png'):
        data.images.load()
    check_dataset(RSVQA(tmp_path, size=8))
    (tmp_path / 'images' / '3.png').write_bytes(b'no image')
    with pytest.raises(DatasetError, match=r'3\.png: the image cannot be read'):
        RSVQA(tmp_path).image(3)
    gone(tmp_path)
    with pytest.raises(DatasetError, match=r'image 3 has no file'):
        RSVQA(tmp_path)


@pytest.mark.parametrize('text', ['', '[]', '{"questions": 3}', '{"questions": [NaN]}', '[' * 100_000])
def test_files_that_are_no_json_of_the_layout_are_refused(tmp_path, text):
    write_plain(tmp_path)
    (tmp_path / 'questions.json').write_text(text)
    with pytest.raises(DatasetError, match=r'questions\.json'):
        RSVQA(tmp_path)


def test_folders_that_lack_files_are_refused(tmp_path):
    with pytest.raises(DatasetError, match='no such folder'):
        RSVQA(tmp_path / 'none')
    with pytest.raises(DatasetError, match=r'holds no questions\.json'):
        RSVQA(tmp_path)
    write_split(tmp_path)
    (tmp_path / 'USGS_split_val_questions.json').write_text('{}')
    with pytest.raises(DatasetError, match='one dataset a folder'):
        RSVQA(tmp_path)
    (tmp_path / 'USGS_split_val_questions.json').unlink()
    (tmp_path / 'LR_split_val_answers.json').unlink()
    with pytest.raises(DatasetError, match='no such file'):
        RSVQA(tmp_path)


def test_an_id_in_two_splits_is_refused(tmp_path):
    write_split(tmp_path)
    for part in ('images', 'questions', 'answers'):
        held = (tmp_path / f'LR_split_train_{part}.json').read_text()
        (tmp_path / f'LR_split_val_{part}.json').write_text(held)
    with pytest.raises(DatasetError, match='image 0 comes in two splits'):
        RSVQA(tmp_path)


def test_files_without_an_active_question_are_refused(tmp_path):
    write_plain(tmp_path, columns=())
    with pytest.raises(DatasetError, match='no active question'):
        RSVQA(tmp_path)


def patch(path, bands=('B02', 'B03', 'B04', 'B08'), dtype='uint16'):
    """A GeoTIFF of Sentinel-2 whose bands are 1000, 2000 ... times 1 to 16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(1, SIZE + 1) * 1000 * np.arange(1, len(bands) + 1)[:, None, None] / 4
    values = np.broadcast_to(values, (len(bands), SIZE, SIZE)).astype(dtype)
    options = {'driver': 'GTiff', 'height': SIZE, 'width': SIZE, 'count': len(bands), 'dtype': dtype}
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_800_000)
    with rasterio.open(path, 'w', crs='EPSG:32633', transform=transform, **options) as file:
        file.write(values)
        file.descriptions = bands
    return values


def test_patches_of_sentinel2_are_shown_in_8_bits(tmp_path):
    write_plain(tmp_path / 'lr', columns=(0, 2))
    for number in range(2):
        (tmp_path / 'lr' / 'images' / f'{number}.png').unlink()
        values = patch(tmp_path / 'lr' / 'images' / f'{number}.tif')
    expected = (values[[2, 1, 0]] * (255 / 4096)).round().clip(0, 255)
    assert np.array_equal(RSVQA(tmp_path / 'lr')[0]['image'], expected)
    assert RSVQA(tmp_path / 'lr', size=8)[0]['image'].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ('bands', 'dtype'), [(('B01', 'B02', 'B03'), 'uint16'), (('B02', 'B03', 'B04'), 'float32')]
)
def test_other_patches_are_refused(tmp_path, bands, dtype):
    write_plain(tmp_path / 'lr', columns=(0,))
    (tmp_path / 'lr' / 'images' / '0.png').unlink()
    patch(tmp_path / 'lr' / 'images' / '0.tif', bands, dtype)
    with pytest.raises(DatasetError, match=r'0\.tif'):
        RSVQA(tmp_path / 'lr')[0]
