import json

import pytest
import yaml

from geores import load_model
from geores.cli.training import train
from geores.datasets import RSVQADataModule
from geores.errors import OutputError
from geores.evaluation.questions import find_questions
from geores.metrics.crossval import Figures, summarised

from ..fixtures import tiny_bundle
from ..rsvqa_fixtures import QUESTIONS, write_plain

pytestmark = pytest.mark.usefixtures('one_thread')

HEAD = {'text_kwargs': {'width': 8, 'embedding': 4}, 'fusion_kwargs': {'width': 8}, 'hidden': 8}
EXPORT = {
    'name': 'tiny-vqa',
    'description': 'For tests.',
    'sensor': 'any',
    'processing_level': 'any',
    'units': '8-bit',
    'gsd': [8, 12],
    'training_data': 'none',
    'licence': 'CC0-1.0',
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Of the fusion head on a tiny encoder, and eight images apart from each other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['geores', 'train'])
    write_plain(tmp_path / 'lr', columns=tuple(range(0, 16, 2)), suffix='.tif')
    tiny_bundle(tmp_path / 'tiny-rgb')
    record = {
        'data': {
            'class_path': 'geores.datasets.RSVQADataModule',
            'init_args': {'root': 'lr', 'split': 'location', 'batch_size': 2},
        },
        'model': {
            'class_path': 'geores.tasks.VisualQuestionAnswering',
            'init_args': {'encoder': 'tiny-rgb', 'grid': 1, 'cache': 'features', 'head_kwargs': HEAD},
        },
        'trainer': {'max_epochs': 1, 'accelerator': 'cpu', 'enable_progress_bar': False},
        'export': {'class_path': 'geores.tasks.ExportVQABundle', 'init_args': EXPORT},
    }
    path = tmp_path / 'tiny.yaml'
    path.write_text(yaml.safe_dump(record))
    return path


def test_folds_by_image_are_said_to_be_so_and_are_found_again(config, tmp_path):
    train(['--config', str(config), '--data.split', 'image', '--folds', '2', '--out', 'cv'])
    figures = load_model(tmp_path / 'cv' / 'all').card.metrics['lr']
    assert figures['split'] == f'2-fold cross-validation by image on {8 * len(QUESTIONS)} questions'
    for fold in ('fold1', 'fold2'):
        card = load_model(tmp_path / 'cv' / fold).card
        assert card.split.method == 'folds'
        found = find_questions(card, tmp_path / 'lr', 'val')
        assert len(found.questions) == 4 * len(QUESTIONS)


def test_cross_validation_gives_the_bundle_figures_of_its_folds(config, tmp_path):
    train(['--config', str(config), '--folds', '2', '--out', 'cv'])
    folds = [load_model(tmp_path / 'cv' / name).card.metrics['lr'] for name in ('fold1', 'fold2')]
    card = load_model(tmp_path / 'cv' / 'all').card
    figures = card.metrics['lr']
    assert figures['split'] == f'2-fold cross-validation by location on {8 * len(QUESTIONS)} questions'
    assert figures['answers'] == 'official-lr'
    for name in (
        'accuracy',
        'question_only_accuracy',
        'majority_accuracy',
        'accuracy_count',
        'accuracy_presence',
    ):
        values = [fold[name] for fold in folds]
        assert figures[name] == pytest.approx(sum(values) / 2, abs=1e-4)
        assert figures[f'{name}_std'] == pytest.approx(abs(values[0] - values[1]) / 2, abs=1e-4)
    assert card.calibration['temperature'] > 0
    assert json.loads((tmp_path / 'cv' / 'crossval.json').read_text())['metrics'] == card.metrics
    # The bundle of all images knows the answers that either fold lacked.
    everything = RSVQADataModule(str(tmp_path / 'lr'), split='location', val_share=0)
    assert set(card.labels) == set(everything.vocabulary.answers)


def test_a_fold_may_lack_a_figure():
    """Such as that of a kind of question that nobody asks there."""
    text = {'split': 'here', 'answers': 'official-hr'}
    with_area = {'accuracy': 0.5, 'accuracy_area': 0.25, **text}
    without = {'accuracy': 0.7, 'area_log_error': None, **text}
    for folds in ([with_area, without], [without, with_area]):
        found = summarised([Figures({'hr': one}, 10, 2.0) for one in folds], '2-fold')
        assert found.metrics['hr'] == {
            'split': '2-fold cross-validation by location on 20 questions',
            'answers': 'official-hr',
            'accuracy': 0.6,
            'accuracy_std': 0.1,
        }
        assert found.calibration == {'temperature': 2.0}


def test_a_bundle_does_not_go_where_the_log_goes(config, tmp_path):
    """Which has that name already when the bundle is to take its own."""
    args = ['--config', str(config), '--export.path', 'runs/tiny', '--export.overwrite', 'true']
    with pytest.raises(OutputError, match='log of training'):
        train([*args, '--data.val_share', '0.25'])
    train([*args[:3], 'elsewhere', '--data.val_share', '0.25'])
    assert load_model(tmp_path / 'elsewhere').card.task == 'vqa'
