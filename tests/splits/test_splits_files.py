"""Splits by file, and datamodules that take them."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from geores.datasets import SceneFolderDataModule
from geores.errors import DatasetError
from geores.splits import read_split
from geores.splits.files import read_text_table


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for scene in ('beach', 'forest'):
        (tmp_path / 'data' / scene).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / 'data' / scene / f'{scene}{number}.png')
    return tmp_path / 'data'


def write(path, ids, parts):
    pd.DataFrame({'id': ids, 'split': parts}).to_parquet(path)
    return str(path)


PARTS = ['train', 'train', 'validation', 'test', 'dropped'] * 2


@pytest.mark.parametrize('form', ['data/{0}/{0}{1}.png', '{0}{1}.png', '{0}{1}'])
def test_a_datamodule_takes_a_file(folder, tmp_path, form):
    ids = [form.format(scene, number) for scene in ('beach', 'forest') for number in range(5)]
    path = write(tmp_path / 'mine.parquet', ids, PARTS)
    data = SceneFolderDataModule(str(folder), size=32, batch_size=2, split=path)
    data.setup()
    assert [data.dataset.ids[row] for row in data.split.train] == [
        f'data/{scene}/{scene}{number}.png' for scene in ('beach', 'forest') for number in (0, 1)
    ]
    assert [batch['id'] for batch in data.val_dataloader()] == [
        ['data/beach/beach2.png', 'data/forest/forest2.png']
    ]
    assert [batch['id'] for batch in data.test_dataloader()] == [
        ['data/beach/beach3.png', 'data/forest/forest3.png']
    ]
    assert data.split.id == read_split(path).id
    assert data.split.id.startswith('mine-')


def test_the_id_knows_the_parts_alone(tmp_path):
    one = read_split(write(tmp_path / 'split.parquet', ['a', 'b'], ['train', 'test']))
    two = read_split(write(tmp_path / 'split.parquet', ['b', 'a'], ['test', 'train']))
    three = read_split(write(tmp_path / 'split.parquet', ['a', 'b'], ['test', 'train']))
    assert one.id == two.id != three.id


def test_files_of_no_use_are_refused(folder, tmp_path):
    path = tmp_path / 'split.parquet'
    with pytest.raises(DatasetError, match='no such file'):
        read_split(path)
    path.write_text('no parquet')
    with pytest.raises(DatasetError, match='cannot be read as a split'):
        read_split(path)
    with pytest.raises(DatasetError, match='a column of ids'):
        read_split(write(path, ['a', 'a'], ['train', 'test']))
    with pytest.raises(DatasetError, match="not 'holdout'"):
        read_split(write(path, ['a', 'b'], ['train', 'holdout']))
    known = write(path, [f'beach{number}' for number in range(5)], PARTS[:5])
    with pytest.raises(DatasetError, match='10 of 10 samples are not in the file'):
        SceneFolderDataModule(str(folder), size=32, split=known).setup()
    ids = [f'{scene}{number}' for scene in ('beach', 'forest') for number in range(5)]
    with pytest.raises(DatasetError, match='none of 10 samples is in train'):
        SceneFolderDataModule(str(folder), size=32, split=write(path, ids, ['test'] * 10)).setup()


def test_other_formats(tmp_path):
    (tmp_path / 'split.csv').write_text('name,split\na,train\nb,test\n')
    assert read_split(tmp_path / 'split.csv').parts == {'a': 'train', 'b': 'test'}


def test_tables_of_text_are_written_as_they_were(tmp_path):
    text = (
        'id,country,flag,count,lon,lat,big\n007,NA,7,3,13.5,52.0,1.50\n'
        '008,DE,,4,13.25,52.5,2.25\n010,,1,5,-0.125,52.0,99999999999999999999.5\n'
    )
    path = tmp_path / 'rows.csv'
    path.write_text('\ufeff' + text, encoding='utf-8')
    frame = read_text_table(path)
    assert frame['id'].tolist() == ['007', '008', '010']
    assert frame['country'].tolist() == ['NA', 'DE', None]
    assert frame['flag'].tolist() == ['7', None, '1']
    assert frame['count'].tolist() == [3, 4, 5]
    assert frame['lon'].dtype == float
    assert frame.to_csv(index=False) == text
