"""The label route: only what labels decide, balanced, the same on every machine, in the official layout."""

import csv
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.transform import from_origin

from geores.errors import DatasetError, OutputError, UsageError
from geores.pipelines.questions_from_labels import LabelOptions, questions_from_labels
from geores.questions import LabelPresence, LandCover, Objects, Presence, parse
from geores.questions.label_questions import label_questions
from geores.questions.labels import SchemeError, load_scheme, plain_scheme, scheme_for, shipped_schemes

SHARED = Path(__file__).parents[2] / 'shared' / 'data'
SCHEMES = shipped_schemes()
AERIAL = SCHEMES['multilabel17']
CLC = SCHEMES['clc43']


def _sets(names, number, seed=0, most=6):
    rng = random.Random(seed)  # noqa: S311
    return [(f'image {i}', rng.sample(sorted(names), rng.randint(1, most))) for i in range(number)]


def _asked(scheme, number=20, **options):
    most = 1 if scheme.single else 6
    images = _sets(scheme.labels, number, most=most)
    return dict(images), list(label_questions(images, scheme, **options))


def _there(name, labels, scheme):
    """Whether a class is there, worked out from the YAML's rules by hand."""
    found = set()
    for rules in scheme.levels.values():
        if name in rules:
            rule = rules[name]
            if rule.yes_with & set(labels):
                found.add(True)
            elif rule.no_without and not rule.no_without & set(labels):
                found.add(False)
            else:
                found.add(None)
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize('name', sorted(SCHEMES))
@pytest.mark.parametrize('balance', ['question', 'answer', 'none'])
def test_every_answer_follows_from_the_labels(name, balance):
    scheme = SCHEMES[name]
    labels, questions = _asked(scheme, balance=balance)
    assert questions
    for question in questions:
        shown = labels[question.image]
        assert parse(question.text) == question.form
        assert question.type == question.form.type
        if isinstance(question.form, LabelPresence):
            truth = any(all(_there(one, shown, scheme) for one in group) for group in question.form.classes)
            assert None not in {
                _there(one, shown, scheme) for group in question.form.classes for one in group
            }
            assert question.answer == ('yes' if truth else 'no')
        elif isinstance(question.form, Presence):
            rule = scheme.objects[question.form.objects.category]
            if question.answer == 'yes':
                assert rule.yes_with & set(shown)
            else:
                assert not rule.yes_with & set(shown)
                assert rule.no_with & set(shown) or not rule.no_without & set(shown)
        elif scheme.single:
            assert question.answer == scheme.labels[shown[0]]
        else:
            level = question.form.level
            there = {one for one in scheme.levels[level] if _there(one, shown, scheme)}
            left = sorted(there - set(question.form.besides))
            assert set(question.form.besides) <= there
            assert question.answer == (
                ' and '.join([', '.join(left[:-1]), left[-1]] if left[1:] else left) or 'None'
            )


@pytest.mark.parametrize('mode', ['corrected', 'faithful'])
@pytest.mark.parametrize('name', sorted(SCHEMES))
def test_no_image_is_asked_the_same_twice(name, mode):
    _, questions = _asked(SCHEMES[name], 10, mode=mode)
    keys = Counter((question.image, question.form.key) for question in questions)
    assert set(keys.values()) == {1}


def test_presence_never_goes_beyond_the_labels():
    """Trees are no forest, pavement is no road; without trees or buildings there is neither, though."""
    decided = AERIAL.categories({'trees', 'pavement', 'buildings'})
    assert {'forest', 'wood', 'road', 'residential building', 'commercial building'}.isdisjoint(decided)
    bare = AERIAL.categories({'sand'})
    assert bare['forest'] is False
    assert bare['building'] is False
    assert bare['water area'] is False
    assert 'road' not in bare
    assert 'building' not in AERIAL.categories({'mobile-home'})
    assert AERIAL.categories({'sea'})['water area'] is True


def test_one_label_says_little_of_what_else_is_there():
    eurosat = SCHEMES['eurosat10']
    assert eurosat.categories({'Forest'}).get('water area') is None
    assert eurosat.categories({'Industrial'})['water area'] is False
    assert eurosat.categories({'SeaLake'})['forest'] is False
    assert eurosat.classes({'Forest'}, '')['rivers'] is None


def test_clc_levels():
    vines = {'Vineyards'}
    assert CLC.classes(vines, 'L1')['agricultural areas'] is True
    assert CLC.classes(vines, 'L1')['artificial areas'] is False
    assert CLC.classes(vines, 'L2')['permanent crops'] is True
    assert [len(CLC.levels[level]) for level in ('L1', 'L2', '')] == [5, 15, 43]


def test_a_name_of_two_levels_is_asked_only_where_both_agree():
    """CLC has water bodies at the first level, of which rivers are one, and lakes at the third."""
    assert CLC.classes({'Water courses'}, 'L1')['water bodies'] is None
    assert CLC.classes({'Water bodies'}, 'L1')['water bodies'] is True
    assert CLC.classes({'Airports'}, 'L1')['water bodies'] is False


def test_the_19_classes_leave_open_what_they_dropped():
    reben = SCHEMES['reben19']
    assert reben.classes({'Arable land'}, 'L1')['artificial areas'] is None
    assert reben.classes({'Urban fabric'}, 'L1')['artificial areas'] is True
    assert reben.classes({'Permanent crops'}, 'L2')['heterogeneous agricultural areas'] is None
    assert reben.classes({'Arable land'}, 'L2')['permanent crops'] is False


def test_balance_by_question_leaves_nothing_to_guess():
    rng = random.Random(3)  # noqa: S311
    images = [
        (
            str(i),
            [name for name, p in (('trees', 0.9), ('water', 0.2), ('cars', 0.5)) if rng.random() < p]
            or ['sea'],
        )
        for i in range(300)
    ]
    answers = defaultdict(Counter)
    for question in label_questions(images, AERIAL, kinds=['objects'], questions=5):
        answers[question.form.objects.category][question.answer] += 1
    assert 'ship' not in answers
    for counts in answers.values():
        assert abs(counts['yes'] - counts['no']) <= 0.35 * sum(counts.values())
    total = sum(answers.values(), Counter())
    assert abs(total['yes'] - total['no']) <= 0.1 * sum(total.values())


def test_balance_by_answer_is_even_in_each_image():
    _, questions = _asked(AERIAL, balance='answer', kinds=['objects', 'classes'])
    by_image = defaultdict(Counter)
    for question in questions:
        by_image[question.image][question.answer] += 1
    assert all(abs(counts['yes'] - counts['no']) <= 1 for counts in by_image.values())


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_without_balance_over_the_set_an_image_does_not_depend_on_the_others(seed):
    images = _sets(AERIAL.labels, 6, seed)
    together = list(label_questions(images, AERIAL, seed=seed, balance='none', questions=5))
    backwards = [
        question
        for image in images
        for question in label_questions([image], AERIAL, seed=seed, balance='none', questions=5)
    ]
    assert together == backwards


def test_the_faithful_mode_asks_as_rsvqaxben():
    _, questions = _asked(CLC, 60, mode='faithful')
    assert len(questions) == 60 * 25
    kinds = Counter(question.type for question in questions)
    assert 0.70 < kinds['presence'] / len(questions) < 0.90  # 0.807 in the published set
    forms = [question.form for question in questions if isinstance(question.form, LabelPresence)]
    joined = Counter(sum(map(len, form.classes)) for form in forms)
    assert 0.3 < joined[1] / len(forms) < 0.6
    dropped = {'sea/ocean', 'forests/semi-natural areas', 'industrial/commercial units'}
    named = {one for form in forms for group in form.classes for one in group}
    assert named.isdisjoint(dropped)
    assert 'transitional woodland/shrub' in named
    for question in questions:
        assert question.text.startswith(('Are ', 'What ', 'Besides ', 'In addition '))


def test_any_labels_can_be_asked_about():
    images = [('a', ['BareLand', 'mobile_home']), ('b', ['sea and sky']), ('c', [])]
    scheme = plain_scheme({'BareLand', 'mobile_home', 'sea and sky'})
    assert set(scheme.labels.values()) == {'bare land', 'mobile home', 'sea/sky'}
    questions = list(label_questions(images, scheme, questions=4, balance='none'))
    assert {question.image for question in questions} == {'a', 'b', 'c'}
    assert ('c', LandCover(), 'None') in {(one.image, one.form, one.answer) for one in questions}


def test_schemes_are_found_by_their_labels():
    assert scheme_for({'trees', 'sea'}).name == 'multilabel17'
    assert scheme_for({'Forest', 'SeaLake'}, single=True).name == 'eurosat10'
    assert scheme_for({'Arable land', 'Urban fabric'}).name == 'reben19'
    assert scheme_for({'Vineyards', 'Airports'}).name == 'clc43'
    assert scheme_for({'unheard of'}).name == 'plain'


@pytest.mark.parametrize(
    'text',
    [
        '',
        '[]',
        'labels: 3',
        '{name: x, labels: {a: a}, colour: red}',
        'name: x\nlabels: {a: A}',
        '{: }{',
        'name: x\nlabels: {a: a}\nobjects: {road: [b]}',
        'name: x\nlabels: {a: a}\nobjects: {the road: [a]}',
        'name: x\nlabels: {a: a}\nlevels: {first: {b: [a]}}',
        'name: x\nlabels: {a: this or that}',
        'name: x\nlabels: {a: a}\nobjects: {road: {maybe: [a]}}',
    ],
)
def test_a_wrong_scheme_is_refused(tmp_path, text):
    path = tmp_path / 'scheme.yaml'
    path.write_text(text)
    with pytest.raises(SchemeError, match=r'scheme\.yaml'):
        load_scheme(path)


def test_wrong_options_are_refused():
    images = [('a', ['sea'])]
    for options in (
        {'questions': 0},
        {'mode': 'best'},
        {'balance': 'fair'},
        {'kinds': ['all']},
        {'style': 'modern'},
        {'mode': 'faithful', 'balance': 'none'},
    ):
        with pytest.raises(UsageError):
            label_questions(images, AERIAL, **options)
    with pytest.raises(UsageError, match='two images'):
        label_questions(images * 2, AERIAL)
    with pytest.raises(SchemeError, match='lava'):
        label_questions([('a', ['lava'])], AERIAL)
    with pytest.raises(UsageError, match='2 labels'):
        label_questions([('a', ['Forest', 'River'])], SCHEMES['eurosat10'])


# The command


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
        'questions', 'from-labels', aerial, '--out', out, '--balance', 'none', '--questions', 8, '--json'
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
    made = questions_from_labels(root, tmp_path / 'out', LabelOptions(balance='none', style='released'))
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
    digests = set()
    for hash_seed in ('0', '1', '12345'):
        out = tmp_path / f'out{hash_seed}'
        code = 'from geores.cli import main; main()'
        subprocess.run(
            [sys.executable, '-c', code, 'questions', 'from-labels', table, '--out', out, '--seed', '5'],
            check=True,
            env=os.environ | {'PYTHONHASHSEED': hash_seed},
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
        )
        digest = hashlib.sha256()
        for path in sorted(out.iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        digests.add(digest.hexdigest())
    assert len(digests) == 1


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
        questions_from_labels(aerial, out, LabelOptions(balance='none'))
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
    with pytest.raises(OutputError, match='not replaced'):
        questions_from_labels(table, tmp_path / 'mine', overwrite=True)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError):
        questions_from_labels(table, tmp_path / 'file' / 'out')
    assert (tmp_path / 'mine' / 'thesis.txt').exists()


@pytest.mark.parametrize('name', ['ucmerced', 'aid'])
def test_on_real_multi_labels(name):
    path = SHARED / name / 'multilabels.csv'
    if not path.is_file():
        pytest.skip('needs ../shared/data')
    with path.open() as file:
        rows = list(csv.DictReader(file))[::40]
    images = [(row['name'], [label for label in AERIAL.labels if row[label] == '1']) for row in rows]
    questions = list(label_questions(images, AERIAL, style='released'))
    assert len(questions) > 10 * len(images)
    answers = Counter(question.answer for question in questions)
    assert 0.4 < answers['yes'] / (answers['yes'] + answers['no']) < 0.6
    assert Presence(Objects('water area')) in {question.form for question in questions}
