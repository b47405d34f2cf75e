import json
import logging
import shutil

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from torch.nn import functional

from geores import load_model
from geores.datasets import RSVQADataModule
from geores.errors import BundleError, OutputError, UsageError
from geores.models.amounts import AmountHead
from geores.tasks import ExportVQABundle, VisualQuestionAnswering
from geores.tasks._exports import best_temperature

from ..fixtures import tiny_bundle
from ..rsvqa_fixtures import write_plain, write_split

pytestmark = [
    pytest.mark.usefixtures('one_thread'),
    pytest.mark.filterwarnings('ignore:.*does not have many workers', 'ignore:.*LeafSpec'),
]

HEAD = {
    'text_kwargs': {'width': 8, 'embedding': 4},
    'fusion': 'attention',
    'fusion_kwargs': {'width': 8},
    'hidden': 8,
}
OWN = {'stem_width': 8, 'channels': [8, 16, 32, 64]}
TEXT = {
    'name': 'tiny-vqa',
    'description': 'For tests.',
    'sensor': 'any',
    'processing_level': 'any',
    'units': '8-bit',
    'gsd': (8, 12),
    'training_data': 'none',
    'licence': 'CC0-1.0',
}


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Generated questions on images of 16 pixels, and an encoder for them."""
    folder = tmp_path_factory.mktemp('vqa')
    write_split(folder / 'rsvqa')
    tiny_bundle(folder / 'tiny-rgb')
    return folder


def data(place, **kwargs):
    return RSVQADataModule(str(place / 'rsvqa'), **({'batch_size': 2} | kwargs))


def task(place, **kwargs):
    return VisualQuestionAnswering(
        **({'encoder': str(place / 'tiny-rgb'), 'head_kwargs': HEAD, 'learning_rate': 0.01} | kwargs)
    )


def fit(one, module, epochs=2, callbacks=(), **options):
    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    seed_everything(0, verbose=False)
    trainer = Trainer(
        accelerator='cpu', devices=1, max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1,
        callbacks=list(callbacks), **options,
    )  # fmt: skip
    trainer.fit(one, datamodule=module)
    return trainer


def weights(one):
    return {name: value.clone() for name, value in one.network.state_dict().items()}


LATENTS = {
    'head': 'vqa-latents',
    'head_kwargs': {'categories': ['road', 'building'], 'images': 20, 'looks': 10, 'rank': 2},
    'scale': 0.5,
    'looks': True,
}


@pytest.mark.parametrize('options', [{}, LATENTS])
def test_a_bundle_answers_as_the_task_does(place, tmp_path, caplog, options):
    caplog.set_level('INFO', 'geores.tasks')
    one, module = task(place, grid=1, **options), data(place)
    export = ExportVQABundle(**TEXT, path=str(tmp_path / 'tiny-vqa'), dtype='float32')
    fit(one, module, 8, [export])
    shutil.copytree(place / 'tiny-rgb', tmp_path / 'tiny-rgb')
    model = load_model(tmp_path / 'tiny-vqa')
    with torch.inference_mode():
        for batch in module.val_dataloader():
            expected = model.activate(one.eval().answers(batch)[0])
            for place_of, (image, question) in enumerate(
                zip(batch['image_index'], batch['question'], strict=True)
            ):
                answer = model.answer(batch['image'][image], [question])[0]
                assert answer.text == model.card.labels[int(expected[place_of].argmax())]
                assert answer.probability == pytest.approx(float(expected[place_of].max()), abs=1e-4)
                if 'left of' not in question:  # which the grammar does not parse as this data put it
                    assert answer.question_type == batch['question_type'][place_of]
    figures = model.card.metrics['rsvqa']
    assert figures.keys() >= {'accuracy', 'majority_accuracy', 'question_only_accuracy', 'accuracy_presence'}
    assert figures['answers'] == 'official-lr'
    assert model.card.encoder.get('scale', 1) == options.get('scale', 1)
    assert model.card.encoder.get('looks', False) == options.get('looks', False)
    assert model.card.calibration['temperature'] > 0
    assert model.card.answer_encoding == {'style': 'official', 'variant': 'lr'}
    table = caplog.text
    assert all(word in table for word in ('majority', 'question-only', 'model', 'comp', '(OA)', '(AA)'))


@pytest.mark.parametrize('turning', ['none', 'words'])
def test_a_cache_changes_no_answer(place, tmp_path, turning):
    """Cached features are float16: weights agree to its precision."""
    found = []
    for cache in (None, str(tmp_path / 'cache'), str(tmp_path / 'cache')):
        one, module = task(place, cache=cache, grid=1), data(place, turning=turning)
        fit(one, module, 1)
        assert module.with_images == (cache is None)
        found.append(weights(one))
    assert len(list((tmp_path / 'cache').iterdir())) == 1
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=3e-3, rtol=3e-3)
        assert torch.equal(found[1][name], found[2][name])


def test_the_question_only_model_sees_no_image_and_shapes_no_weight_of_the_model(place):
    with_twin, alone = task(place), task(place, question_only=False)
    fit(with_twin, data(place), gradient_clip_val=1.0)
    # Dropout draws of the twin would move those of the model: without them both are the same.
    still = HEAD | {'dropout': 0.0, 'fusion_kwargs': {'width': 8, 'dropout': 0.0}}
    with_twin, alone = task(place, head_kwargs=still), task(place, head_kwargs=still, question_only=False)
    fit(with_twin, data(place), gradient_clip_val=1.0)
    fit(alone, data(place), gradient_clip_val=1.0)
    for name, value in weights(alone).items():
        torch.testing.assert_close(with_twin.network.state_dict()[name], value)
    batch = next(iter(data(place).val_dataloader()))
    other = batch | {'image': 255 - batch['image']}
    with torch.inference_mode():
        (first, blind), (second, other_blind) = (with_twin.eval()(one) for one in (batch, other))
    assert torch.equal(blind, other_blind)
    assert not torch.allclose(first, second)


def test_a_training_step_is_that_of_plain_torch(place):
    still = HEAD | {
        'dropout': 0.0,
        'fusion': 'product',
        'fusion_kwargs': {'width': 8, 'flat': 64, 'dropout': 0.0},
    }
    one = task(place, head_kwargs=still, question_only=False, warmup=0.0, schedule='constant')
    module = data(place, batch_size=100)
    start = {}

    def keep(trainer, task):
        start.update(weights(task))

    fit(one, module, 1, [LambdaCallback(on_train_start=keep)])
    network = one.network.train()
    after = weights(one)
    network.load_state_dict(start)
    batch = next(iter(module.train_dataloader()))
    optimizer = torch.optim.Adam(network.head.parameters(), 0.01)
    with torch.no_grad():
        features = network.encoder.eval()((batch['image'] - one.mean) / one.std)[batch['image_index']]
    logits = network.head(features, *one.tokenizer(batch['question']))
    functional.cross_entropy(logits, batch['label']).backward()
    optimizer.step()
    for name, value in weights(one).items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=1e-4)


def test_an_own_encoder_is_tuned_or_left_alone(place):
    for tune in (False, True):
        one = task(place, encoder=None, architecture='resnet10t', architecture_kwargs=OWN, tune=tune)
        start = {}
        fit(
            one,
            data(place, batch_size=3),
            1,
            [LambdaCallback(on_train_start=lambda _, task, kept=start: kept.update(weights(task)))],
        )
        changed = {name for name, value in weights(one).items() if not torch.equal(value, start[name])}
        assert any(name.startswith('own.') for name in changed) == tune
        assert any(name.startswith('head.') for name in changed)


def test_an_answer_that_training_never_gave_is_wrong_and_counted(place):
    one, module = task(place), data(place, classes=2)
    fit(one, module, 1)
    comparison = one.predictions.comparison()
    assert comparison.unknown > 0
    assert comparison.questions == 8
    assert np.isfinite(float(one.trainer.callback_metrics['val/loss']))


@pytest.mark.parametrize(
    'kwargs',
    [
        {'encoder': None},
        {'architecture': 'resnet10t'},
        {'tune': True},
        {'label_smoothing': 1.0},
        {'head': 'resnet18'},
        {'head_kwargs': {'fusion': 'sum'}},
        {'encoder_bands': {'red': 'B04'}},
        {'encoder': 'sentinel3'},
        {'mean': [1.0], 'std': [1.0]},
    ],
)
def test_arguments_that_do_not_fit(place, kwargs):
    with pytest.raises(UsageError):
        fit(task(place, **kwargs), data(place), 1)


def test_a_bundles_path_that_is_taken_is_refused_before_work(place, tmp_path):
    export = ExportVQABundle(**TEXT, path=str(tmp_path))
    with pytest.raises(OutputError, match='exists already'):
        fit(task(place), data(place), 1, [export])


def test_the_temperature_makes_probabilities_right():
    torch.manual_seed(0)
    logits = torch.randn(4000, 4)
    target = torch.distributions.Categorical(logits=logits).sample()
    first = (target > 0).nonzero()[:, 0]
    assert best_temperature(logits, target) == pytest.approx(1.0, abs=0.15)
    assert best_temperature(3 * logits[first], target[first]) > 2
    assert best_temperature(logits[:0], target[:0]) == 1.0


# --- a head that learns of the images before training

FACTORS = {'head': 'vqa-factors', 'head_kwargs': {'categories': ['road', 'building'], 'components': 1}}


def test_a_run_that_goes_on_keeps_the_question_only_model(place, tmp_path):
    first = task(place, **FACTORS)
    fit(first, data(place)).save_checkpoint(tmp_path / 'half.ckpt')
    kept = {name: one.clone() for name, one in first.question_only.state_dict().items()}
    found = {}

    def look(trainer, pl_module):
        found.update({name: one.clone() for name, one in pl_module.question_only.state_dict().items()})

    second = task(place, **FACTORS)
    trainer = Trainer(
        accelerator='cpu', devices=1, max_epochs=3, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1,
        callbacks=[LambdaCallback(on_train_start=look)],
    )  # fmt: skip
    trainer.fit(second, datamodule=data(place), ckpt_path=tmp_path / 'half.ckpt')
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], one) for name, one in kept.items())
    assert not torch.equal(second.network.head.axes, torch.zeros_like(second.network.head.axes))


@pytest.mark.parametrize('options', [{'scale': 0.5}, {'looks': True}, {'scale': 0.0, 'encoder': None}])
def test_changes_of_images_are_for_a_shared_encoder(place, options):
    own = {'encoder': None, 'architecture': 'resnet10t', 'architecture_kwargs': OWN}
    with pytest.raises(UsageError, match='scale'):
        fit(task(place, **own | options), data(place))


def test_latents_of_training_images_are_learnt_beside_a_twin_without(place):
    one = task(place, grid=1, **LATENTS)
    before = {}
    keep = LambdaCallback(on_train_start=lambda _, own: before.update(centre=own.network.head.centre.clone()))
    fit(one, data(place), callbacks=[keep])
    seen = one.network.head.numbers >= 0
    assert not torch.allclose(one.network.head.centre[seen], before['centre'][seen], atol=1e-3)
    batch = next(iter(data(place).val_dataloader()))
    with torch.inference_mode():
        (first, blind), (second, other) = (
            one.eval()(each) for each in (batch, batch | {'image': 255 - batch['image']})
        )
    assert torch.equal(blind, other)
    assert not torch.allclose(first, second)


def test_such_a_head_needs_images_and_features_that_stay(place):
    with pytest.raises(UsageError, match='questions_only'):
        fit(task(place, **FACTORS), data(place, questions_only=[str(place / 'rsvqa')]))
    with pytest.raises(UsageError, match='tune'):
        fit(
            task(
                place, encoder=None, architecture='resnet10t', architecture_kwargs=OWN, tune=True, **FACTORS
            ),
            data(place),
        )


def test_an_unseen_image_is_answered_as_the_question_only_model_sees_it(place):
    one, module = task(place, **FACTORS), data(place)
    fit(one, module, 1)
    batch = next(iter(module.val_dataloader()))
    hidden = batch | {'unseen': torch.ones(len(batch['image']), dtype=torch.bool)}
    other = hidden | {'image': 255 - batch['image']}
    with torch.inference_mode():
        first, second, open_eyed = (one.eval()(each)[0] for each in (hidden, other, batch))
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first, open_eyed, atol=1e-6)


AMOUNTS = {
    'head': 'vqa-amounts',
    'head_kwargs': {'categories': ['road', 'building'], 'images': 20, 'counts': ['building'], 'looks': 10},
    'looks': True,
    'grid': 2,
}
COUNTED = (
    ('rural_urban', 'Is it a rural or an urban area', 'rural'),
    ('presence', 'Is there a road?', 'yes'),
    ('count', 'How many buildings are there?', '{count}'),
    ('comp', 'Are there more roads than buildings?', 'no'),
)


@pytest.fixture
def counted(place, tmp_path):
    """Images with 0, 7, 14 ... buildings."""
    write_plain(tmp_path / 'counted', range(0, 24, 2), questions=COUNTED)
    return RSVQADataModule(str(tmp_path / 'counted'), split='image', batch_size=4, val_share=0.25)


@pytest.mark.parametrize('turning', ['none', 'words'])
def test_exact_numbers_are_learnt_from_and_in_no_batch_of_validation(place, counted, monkeypatch, turning):
    one, learnt = task(place, **AMOUNTS), []
    counted.turning = turning
    weigh = AmountHead.weigh_numbers

    def watch(head, losses, seen, text, numbers):
        learnt.extend(numbers.tolist())
        return weigh(head, losses, seen, text, numbers)

    monkeypatch.setattr(AmountHead, 'weigh_numbers', watch)
    fit(one, counted, 1)
    names = [counted.dataset.image_ids[image].split('/')[-1] for image in counted.split.train]
    expected = [7 * int(name) for name in names]
    assert sorted(number for number in learnt if number == number) == sorted(2 * expected)  # and the twin
    assert len(learnt) == 2 * 4 * len(counted.split.train)
    assert 'number' in next(iter(counted.train_dataloader()))
    assert not any('number' in batch for batch in counted.val_dataloader())
    assert torch.isfinite(one.network.head.count.change).all()


def test_a_bundle_of_the_distribution_of_numbers_is_loaded_again_and_of_networks_before_is_refused(
    place, counted, tmp_path
):
    one = task(place, **AMOUNTS)
    export = ExportVQABundle(**TEXT, path=str(tmp_path / 'tiny-vqa'), dtype='float16')
    fit(one, counted, 3, [export])
    shutil.copytree(place / 'tiny-rgb', tmp_path / 'tiny-rgb')
    model = load_model(tmp_path / 'tiny-vqa')
    assert model.network.head.wordings.tolist() == one.network.head.wordings.tolist()
    batch = next(iter(counted.val_dataloader()))
    with torch.inference_mode():
        expected = model.activate(one.eval().answers(batch)[0])
    for place_of, (image, question) in enumerate(zip(batch['image_index'], batch['question'], strict=True)):
        (answer,) = model.answer(batch['image'][image], [question])
        assert answer.probability == pytest.approx(float(expected[place_of].max()), abs=0.01)
    card = tmp_path / 'tiny-vqa/card.json'
    fields = json.loads(card.read_text())
    fields['architecture_kwargs'] |= {'members': 4, 'rank': 3, 'width': 8}
    card.write_text(json.dumps(fields))
    with pytest.raises(BundleError, match='members') as caught:
        load_model(tmp_path / 'tiny-vqa')
    assert len(str(caught.value).splitlines()) == 1
