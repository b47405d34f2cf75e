"""A bundle that answers questions, beside the majority and a model that sees the question alone."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

import geores as package
from geores.datasets import RSVQA, RSVQADataModule
from geores.errors import UsageError
from geores.evaluation import blind
from geores.metrics.vqa import numeric_error
from geores.vqa.answers import AnswerEncoding

from ..fixtures import hold_files, tiny_bundle
from ..rsvqa_fixtures import QUESTIONS, write_json, write_plain, write_split
from ..vqa_fixtures import ANSWERS, tiny_vqa

pytestmark = pytest.mark.usefixtures('one_thread')

needs_configilm = pytest.mark.skipif(
    find_spec('configilm') is None,
    reason='configilm is not installed: pip install --no-deps configilm==0.7.1',
)


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    """The question-only model learns twenty questions anew in each fold."""
    monkeypatch.setattr(blind, 'EPOCHS', 4)


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp('encoder') / 'tiny-rgb')


@pytest.fixture
def vqa(encoder, tmp_path, monkeypatch):
    """It looks for its encoder where it is started from."""
    monkeypatch.chdir(encoder.parent)
    return tiny_vqa(tmp_path / 'bundles/tiny-vqa', encoder)


@pytest.fixture
def asked(tmp_path):
    """Twenty questions about five images."""
    write_plain(tmp_path / 'lr', suffix='.tif')
    return tmp_path / 'lr'


@pytest.fixture
def refused(geores, tmp_path):
    """Run `evaluate` and check that it ends with code 2, one line, and nothing left behind."""

    def run(*args):
        before = hold_files(tmp_path)
        answer = geores('evaluate', *args, '--out', tmp_path / 'out')
        assert (answer.code, answer.out) == (2, ''), answer
        assert answer.err.count('\n') == 1, answer.err
        assert 'fault of geores' not in answer.err
        assert hold_files(tmp_path) == before
        return answer.err

    return run


# --- figures


def test_figures_are_those_of_the_predictions(vqa, asked):
    found = package.evaluate(vqa, asked, bootstrap=20)
    rows = found.predictions
    assert len(found) == len(rows) == 5 * len(QUESTIONS)
    for column, before in (('majority', 'majority_'), ('question_only', 'question_only_'), ('predicted', '')):
        assert found.metrics[f'{before}accuracy'] == pytest.approx(
            accuracy_score(rows['answer'], rows[column])
        )
        by_type = [accuracy_score(part['answer'], part[column]) for _, part in rows.groupby('type')]
        assert found.metrics[f'{before}accuracy_mean'] == pytest.approx(np.mean(by_type))
    counts = rows[rows['type'] == 'count']
    bounds = AnswerEncoding('official', 'lr').bounds
    error = numeric_error(counts['predicted'].tolist(), counts['raw_answer'].tolist(), bounds)
    assert found.metrics['count_error'] == pytest.approx(error.mean, nan_ok=True)
    assert found.metrics['count_log_error'] == pytest.approx(error.log, nan_ok=True)
    assert found.metrics['gain'] == pytest.approx(
        found.metrics['accuracy'] - found.metrics['question_only_accuracy']
    )
    assert found.per_type['questions'].to_dict() == {kind: 5 for kind, *_ in QUESTIONS}
    assert found.confusion['questions'].sum() == len(rows)
    curves = found.reliability.groupby('label')['count'].sum()
    assert curves['all'] == len(rows) == curves.drop('all').sum()


def test_answers_are_those_of_the_model(vqa, asked):
    found = package.evaluate(vqa, asked, bootstrap=0, batch_size=2, workers=1)
    model = package.load_model(vqa)
    dataset = RSVQA(asked, size=model.card.input_size)
    for number in (0, 3):
        rows = found.predictions[found.predictions['image'] == dataset.image_ids[number]]
        said = model.answer(dataset.image(number), rows['question'].tolist())
        assert rows['predicted'].tolist() == [one.text for one in said]
        np.testing.assert_allclose(rows['probability'], [one.probability for one in said], atol=1e-5)


def test_answers_that_the_model_cannot_give_count_as_wrong(vqa, asked):
    """Counts of 14 to 28 are 'between 10 and 100', which the bundle does not know."""
    found = package.evaluate(vqa, asked, bootstrap=0)
    assert found.unknown == {'between 10 and 100': 3}
    assert found.per_type.loc['count', ['questions', 'unknown']].tolist() == [5, 3]
    assert len(found.predictions) == 20
    assert any(note.startswith('3 questions have an answer that the training') for note in found.notes)
    unknown = found.predictions[~found.predictions['known']]
    assert (unknown['predicted'] != unknown['answer']).all()
    assert set(found.predictions['predicted']) <= set(ANSWERS[1:])


def test_intervals_draw_images(vqa, asked):
    """All images get the same answers to all but one question, so that only its accuracy can move."""
    found = package.evaluate(vqa, asked, bootstrap=200)
    again = package.evaluate(vqa, asked, bootstrap=200)
    assert found.intervals == again.intervals
    for name, (low, high) in found.intervals.items():
        assert low <= high, name
    low, high = found.intervals['majority_accuracy_presence']
    assert low == high == 1
    low, high = found.intervals['majority_accuracy']
    assert low <= found.metrics['majority_accuracy'] <= high


# --- what the baselines learn from


def test_no_image_teaches_the_majority_its_own_answers(vqa, tmp_path, monkeypatch):
    """Each of two images has an answer of its own, which the other cannot teach."""
    monkeypatch.setattr(blind, 'EPOCHS', 80)
    parts = write_plain(tmp_path / 'two', columns=(0, 2), suffix='.tif')
    parts['answers'][1]['answer'] = 'no'
    write_json(tmp_path / 'two', '', parts)
    found = package.evaluate(vqa, tmp_path / 'two', bootstrap=0)
    assert found.metrics['majority_accuracy_presence'] == 0
    assert found.metrics['question_only_accuracy_presence'] == 0
    assert found.metrics['majority_accuracy_comp'] == 1
    assert 'other images' in found.notes[0]


def test_a_training_folder_teaches(vqa, asked, tmp_path, geores, monkeypatch):
    monkeypatch.setattr(blind, 'EPOCHS', 80)
    parts = write_plain(tmp_path / 'more', columns=(20, 22, 24), suffix='.tif')
    for answer in parts['answers'][1::4]:
        answer['answer'] = 'no'
    write_json(tmp_path / 'more', '', parts)
    found = package.evaluate(vqa, asked, train=[tmp_path / 'more'], bootstrap=0)
    assert set(found.predictions.loc[found.predictions['type'] == 'presence', 'majority']) == {'no'}
    assert found.metrics['question_only_accuracy_presence'] == 0
    assert f'12 questions on 3 images of {tmp_path / "more"}' in found.taught_by
    answer = geores('evaluate', vqa, asked, '--train', tmp_path / 'more', '--json', '--bootstrap', 0)
    assert answer.records[0]['metrics']['majority_accuracy_presence'] == 0


def test_training_folders_with_and_without_splits_teach_together(vqa, asked, tmp_path):
    write_plain(tmp_path / 'more', columns=(20, 22, 24), suffix='.tif')
    write_split(tmp_path / 'official')
    alone = package.evaluate(vqa, asked, train=tmp_path / 'official', bootstrap=0).taught_by
    found = package.evaluate(vqa, asked, train=[tmp_path / 'official', tmp_path / 'more'], bootstrap=0)
    learnt, more = (int(told.split(' questions')[0]) for told in (found.taught_by, alone))
    assert learnt == more + 12


def test_official_parts(vqa, tmp_path, refused):
    write_split(tmp_path / 'official')
    found = package.evaluate(vqa, tmp_path / 'official', split='test', bootstrap=0)
    assert found.predictions['image'].unique().tolist() == ['official/5']
    assert found.taught_by == '12 questions on 3 images of the training part'
    assert found.intervals == {}
    assert 'there: test, train, val' in refused(vqa, tmp_path / 'official', '--split', 'test_phili')
    assert "not 'half'" in refused(vqa, tmp_path / 'official', '--split', 'half')


def test_the_split_of_the_card(encoder, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(encoder.parent)
    module = RSVQADataModule(str(asked), split='location', folds=2, fold=2, seed=3)
    bundle = tiny_vqa(tmp_path / 'bundles/fold', encoder, split_id=module.split.id, split=module.split.method)
    kept = package.evaluate(bundle, asked, split='val', bootstrap=0)
    images = [module.dataset.image_ids[number] for number in module.split.val]
    assert kept.predictions['image'].unique().tolist() == images
    assert (kept.warnings, kept.taught_by[-13:]) == ((), 'training part')
    everything = package.evaluate(bundle, asked, bootstrap=0)
    assert everything.warnings[0].startswith(f'{len(module.split.train)} of 5 images have trained')
    write_plain(tmp_path / 'more', columns=(40,), suffix='.tif')
    with pytest.raises(UsageError, match='cannot be made again'):
        package.evaluate(bundle, [asked, tmp_path / 'more'], split='val')


def test_the_question_only_model_learns_what_questions_say(monkeypatch):
    """Roads are always there and barns never; a question that the grammar does not parse is looked up."""
    monkeypatch.setattr(blind, 'EPOCHS', 80)
    lessons = [('Is there a road?', 'presence', 'yes'), ('Is there a barn?', 'presence', 'no')] * 40
    lessons += [('What now', 'other', 'maybe')]
    asked = ['Is a barn present?', 'Is a road present in the image?', 'what now?', 'Never heard']
    kinds = ['presence', 'presence', 'other', 'presence']
    columns = [list(column) for column in zip(*lessons, strict=True)]
    said = blind.answer_without_images(*columns, asked, kinds)
    assert said[:3] == ['no', 'yes', 'maybe']
    assert said[3] in {'yes', 'no'}
    assert blind.answer_without_images(*columns, asked, kinds) == said


# --- files and the command


def test_files(geores, vqa, asked, tmp_path):
    out = tmp_path / 'deep/out'
    answer = geores('evaluate', vqa, asked, '--out', out, '--json', '--bootstrap', 20)
    assert answer.code == 0, answer.err
    (told,) = answer.records
    assert sorted(hold_files(out)) == sorted(Path(path).name for path in told['outputs'].values())
    kept = json.loads((out / 'tiny-vqa_metrics.json').read_text())
    assert kept['metrics'] == told['metrics']
    assert (kept['images'], kept['questions'], kept['answers']) == (5, 20, 'official-lr')
    assert kept['unknown_answers'] == {'between 10 and 100': 3}
    assert set(kept['numbers']['count']) == {'majority', 'question_only', 'model'}
    assert pd.read_csv(out / 'tiny-vqa_per_type.csv', index_col='type').loc['comp', 'questions'] == 5
    predictions = pd.read_parquet(out / 'tiny-vqa_predictions.parquet')
    assert {'id', 'image', 'type', 'answer', 'predicted', 'probability'} <= set(predictions)
    assert b'geores' in pq.read_schema(out / 'tiny-vqa_predictions.parquet').metadata
    for plot in out.glob('*.png'):
        with Image.open(plot) as picture:
            assert np.asarray(picture.convert('L')).std() > 5
    again = geores('evaluate', vqa, asked, '--out', out, '--bootstrap', 0)
    assert (again.code, again.out) == (2, '')
    assert '--overwrite' in again.err


def test_tables_for_people(geores, vqa, asked):
    answer = geores('evaluate', vqa, asked, '--bootstrap', 50)
    assert answer.code == 0
    for text in ('tiny-vqa on 20 questions', 'majority', 'question-only', 'OA', 'AA', 'count, log10', ' to '):
        assert text in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    assert 'have learnt from the other images' in answer.err


# --- what cannot be used


def test_models_and_data_of_other_kinds(refused, vqa, encoder, asked, tmp_path):
    (tmp_path / 'classes/water').mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(tmp_path / 'classes/water/a.png')
    assert 'holds no questions.json' in refused(vqa, tmp_path / 'classes')
    assert 'no such folder' in refused(vqa, tmp_path / 'nowhere')
    assert 'holds questions' in refused(encoder, asked)
    assert 'train goes with models that answer' in refused(encoder, tmp_path / 'classes', '--train', asked)
    assert 'labels goes with models that give labels' in refused(vqa, asked, '--labels', 'a.gpkg')
    assert 'stride goes with' in refused(vqa, asked, '--stride', 3)


def test_a_kind_of_question_without_answers(refused, vqa, tmp_path):
    """As of areas, which a bundle for LR is not asked about."""
    questions = (*QUESTIONS, ('area', 'What is the area covered by roads?', '12m2'))
    write_plain(tmp_path / 'hr', suffix='.tif', questions=questions)
    assert "no answers of the kind 'area', and 5 questions" in refused(vqa, tmp_path / 'hr')
    found = package.evaluate(vqa, tmp_path / 'hr', ignore_unknown=True, bootstrap=0)
    assert len(found) == 20
    assert any("5 questions of the kind 'area'" in note for note in found.notes)
    write_plain(tmp_path / 'areas', suffix='.tif', questions=questions[-1:])
    assert "'area'" in refused(vqa, tmp_path / 'areas', '--ignore-unknown')


def test_kinds_that_the_data_lack(vqa, tmp_path):
    write_plain(tmp_path / 'few', suffix='.tif', questions=QUESTIONS[1:2])
    found = package.evaluate(vqa, tmp_path / 'few', bootstrap=10)
    assert list(found.per_type.index) == ['presence']
    assert 'not measured, for the data has no such questions: count, rural_urban' in found.notes
    assert len(found.numbers) == 0


def test_images_of_another_resolution(encoder, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(encoder.parent)
    fine = tiny_vqa(tmp_path / 'bundles/fine', encoder, gsd=(0.1, 0.3))
    warnings = package.evaluate(fine, asked, bootstrap=0).warnings
    assert warnings == ('images at 10 m a pixel, and tiny-vqa is for 0.1 to 0.3 m',)


def test_files_that_disagree(refused, vqa, asked):
    held = json.loads((asked / 'answers.json').read_text())
    (asked / 'answers.json').write_text(json.dumps({'answers': held['answers'][1:]}))
    assert 'question 0 has no answer' in refused(vqa, asked)
    held['answers'][1]['answer'] = 'perhaps'
    (asked / 'answers.json').write_text(json.dumps(held))
    assert "'perhaps' is no answer" in refused(vqa, asked)
    held['answers'][1]['answer'] = 'yes'
    (asked / 'answers.json').write_text(json.dumps(held))
    (asked / 'images/3.tif').write_bytes(b'not an image')
    assert '3.tif' in refused(vqa, asked)
    (asked / 'images/3.tif').unlink()
    assert 'image 3 has no file' in refused(vqa, asked)


def test_one_image_alone(refused, vqa, tmp_path):
    write_plain(tmp_path / 'one', columns=(0,), suffix='.tif')
    assert '--train' in refused(vqa, tmp_path / 'one')


def test_one_image_with_questions_alone(refused, vqa, tmp_path):
    parts = write_plain(tmp_path / 'two', columns=(0, 2), suffix='.tif')
    first = parts['questions'][0]['img_id']
    parts['questions'] = [one for one in parts['questions'] if one['img_id'] == first]
    kept = {one['id'] for one in parts['questions']}
    parts['answers'] = [one for one in parts['answers'] if one['question_id'] in kept]
    parts['images'][1]['questions_ids'] = []
    write_json(tmp_path / 'two', '', parts)
    assert '--train' in refused(vqa, tmp_path / 'two')


def test_options_out_of_range(refused, vqa, asked):
    for option, value in (
        ('--batch-size', 0),
        ('--workers', -1),
        ('--bootstrap', -1),
        ('--precision', 'fp8'),
    ):
        assert str(value) in refused(vqa, asked, option, value)


# --- the release


@needs_configilm
def test_a_shipped_bundle_on_the_release():
    """RSVQA HR of Philadelphia: two images, which have trained no bundle."""
    root = Path(find_spec('configilm').submodule_search_locations[0]) / 'extra/mock_data/RSVQA-HR'
    found = package.evaluate('vqa-aerial', root, split='test_phili', bootstrap=100)
    assert found.comparison.images == 2
    assert sorted(found.per_type.index) == ['area', 'comp', 'count', 'presence']
    assert found.taught_by.endswith('questions on 4 images of the training part')
    assert found.metrics['accuracy'] > 0.5
