"""The command of the label route: the official layout, the same on every machine, or one clear error."""

import csv
import json
import os
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from geores.errors import DatasetError, OutputError
from geores.question_sets.from_labels import questions_from_labels
from geores.question_sets.options import LabelOptions
from geores.questions import parse
from geores.questions.labels import SchemeError, shipped_schemes

SCHEMES = shipped_schemes()
AERIAL = SCHEMES['multilabel17']


def _sets(names, number, seed=0, most=6):
    rng = random.Random(seed)  # noqa: S311
    return [(f'image {i}', rng.sample(sorted(names), rng.randint(1, most))) for i in range(number)]


@pytest.fixture
def aerial(tmp_path):
    """A folder as `ucmerced`: images of two classes and a table of labels."""
    root = tmp_path / 'aerial'
    labels = list(AERIAL.labels)
    rng = random.Random(1)  # noqa: S311
    rows = [['name', 'scene', *labels]]
    for scene in ('beach', 'town'):
        (root / 'images' / scene).mkdir(parents=True)
        for i in range(3):
            Image.new('RGB', (8, 8), (i, 2, 3)).save(root / 'images' / scene / f'{scene}{i}.jpg')
            rows.append([f'{scene}{i}', scene, '1' if i else '0', *(rng.choice('01') for _ in labels[1:])])
    with (root / 'multilabels.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    return root


def _read(folder):
    """A reader of the official layout that knows nothing of geores."""
    images, questions, answers = (
        json.loads((folder / f'{kind}.json').read_text())[kind] for kind in ('images', 'questions', 'answers')
    )
    for position, record in enumerate(questions):
        assert record['id'] == position
        assert record['active'] is True
        answer = answers[record['answers_ids'][0]]
        assert answer['question_id'] == position
        assert position in images[record['img_id']]['questions_ids']
        yield images[record['img_id']], record, answer['answer']


@pytest.fixture
def table(tmp_path):
    path = tmp_path / 'metadata.parquet'
    images = _sets(SCHEMES['reben19'].labels, 12)
    pd.DataFrame({'patch_id': [one for one, _ in images], 'labels': [each for _, each in images]}).to_parquet(
        path
    )
    return path


def test_the_command_writes_the_official_layout(aerial, tmp_path, geores):
    out = tmp_path / 'out'
    done = geores(
        'questions', 'from-labels', aerial, '--out', out, '--balance', 'types', '--questions', 8, '--json'
    )
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert record['scheme'] == 'multilabel17'
    rows = list(_read(out))
    assert len(rows) == record['questions'] == 6 * 8
    for image, question, answer in rows:
        with Image.open(out / 'images' / image['original_name']) as picture:
            assert picture.size == (8, 8)
            assert picture.format == 'PNG'
        assert parse(question['question']).to_dict() == question['form']
        assert answer
    assert sorted(path.name for path in out.iterdir()) == [
        'answers.json',
        'images',
        'images.json',
        'manifest.json',
        'questions.json',
    ]
    assert str(tmp_path) not in (out / 'manifest.json').read_text()


def test_patches_are_copied_with_their_place(tmp_path):
    root = tmp_path / 'patches'
    (root / 'images').mkdir(parents=True)
    for i in range(2):
        profile = {
            'driver': 'GTiff',
            'width': 4,
            'height': 4,
            'count': 1,
            'dtype': 'uint16',
            'crs': 'EPSG:32633',
            'transform': from_origin(500000, 5900000 + i, 10, 10),
        }
        with rasterio.open(root / 'images' / f'{i}.tif', 'w', **profile) as file:
            file.write(np.ones((1, 4, 4), np.uint16))
            file.set_band_description(1, 'B02')
    (root / 'labels.csv').write_text('file,label\n0.tif,Forest\n1.tif,SeaLake\n')
    made = questions_from_labels(root, tmp_path / 'out', LabelOptions(balance='types', style='released'))
    assert made.scheme == 'eurosat10'
    rows = list(_read(tmp_path / 'out'))
    assert {(row[0]['res_x'], row[0]['upperleft_map_y'], row[0]['sensor']) for row in rows} == {
        ('10m', 5900000.0, 'S2'),
        ('10m', 5900001.0, 'S2'),
    }
    assert (tmp_path / 'out' / 'images' / '0.tif').read_bytes() == (root / 'images' / '0.tif').read_bytes()
    texts = {(row[0]['labels'][0], row[1]['type'], row[2]) for row in rows}
    assert ('Forest', 'LC', 'forest') in texts
    assert any(row[1]['question'] in {'Is there a water area?', 'Is a water area present?'} for row in rows)


def test_the_same_to_the_byte_in_any_process(table, tmp_path):
    questions_from_labels(table, tmp_path / 'here', LabelOptions(seed=5))
    code = 'from geores.cli import main; main()'
    options = ['--out', tmp_path / 'there', '--seed', '5', '--json']
    subprocess.run(
        [sys.executable, '-c', code, 'questions', 'from-labels', table, *options],
        check=True,
        env=os.environ | {'PYTHONHASHSEED': '12345'},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    here, there = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ('here', 'there')
    )
    assert here == there


def test_another_seed_asks_other_questions(table, tmp_path):
    texts = []
    for seed in (0, 1):
        questions_from_labels(table, tmp_path / str(seed), LabelOptions(seed=seed))
        texts.append((tmp_path / str(seed) / 'questions.json').read_bytes())
    assert texts[0] != texts[1]


def test_bad_input_leaves_nothing_behind(aerial, table, tmp_path):
    out = tmp_path / 'new' / 'out'
    with pytest.raises(DatasetError, match='no such folder'):
        questions_from_labels(tmp_path / 'nowhere', out)
    with pytest.raises(SchemeError, match='no such scheme'):
        questions_from_labels(aerial, out, LabelOptions(hierarchy='clc99'))
    with pytest.raises(SchemeError, match='has no label'):
        questions_from_labels(aerial, out, LabelOptions(hierarchy='reben19'))
    (tmp_path / 'text.parquet').write_text('no table')
    with pytest.raises(DatasetError, match='not a Parquet table'):
        questions_from_labels(tmp_path / 'text.parquet', out)
    pd.DataFrame({'id': ['a'], 'labels': ['sea']}).to_parquet(tmp_path / 'flat.parquet')
    with pytest.raises(DatasetError, match='lists of names'):
        questions_from_labels(tmp_path / 'flat.parquet', out)
    pd.DataFrame({'id': ['a'], 'labels': [['Urban fabric']]}).to_parquet(tmp_path / 'one.parquet')
    with pytest.raises(DatasetError, match='decide no question'):
        questions_from_labels(tmp_path / 'one.parquet', out, LabelOptions(kinds=('objects',)))
    (aerial / 'images' / 'town' / 'town1.jpg').write_text('no image')
    with pytest.raises(OSError, match='town1'):
        questions_from_labels(aerial, out, LabelOptions(balance='types'))
    assert not out.exists()
    assert not list(tmp_path.glob('**/.*partial'))


def test_what_stands_is_not_overwritten(table, tmp_path):
    out = tmp_path / 'out'
    questions_from_labels(table, out)
    with pytest.raises(OutputError, match='--overwrite'):
        questions_from_labels(table, out)
    questions_from_labels(table, out, LabelOptions(seed=1), overwrite=True)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('mine')
    with pytest.raises(OutputError, match='nothing else is replaced'):
        questions_from_labels(table, tmp_path / 'mine', overwrite=True)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError):
        questions_from_labels(table, tmp_path / 'file' / 'out')
    assert (tmp_path / 'mine' / 'thesis.txt').exists()
