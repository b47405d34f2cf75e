import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from geores.errors import UsageError
from geores.metrics.vqa import image_gains
from geores.models.amounts import AmountHead, _regress
from geores.vqa.comparison import forms_of

from ..vqa_fixtures import CHANNELS, maps, read

pytestmark = pytest.mark.usefixtures('one_thread')

IMAGES, LOOKS, ANSWERS = 20, 2, 5
BUILDINGS, SMALL, ROADS = forms_of(
    ['How many buildings are there?', 'How many small buildings are there?', 'How many roads are there?']
)


def head(**kwargs):
    torch.manual_seed(0)
    options = {'images': 24, 'counts': ['building'], 'looks': LOOKS, 'members': 3, 'rank': 2, 'width': 4}
    return AmountHead(CHANNELS, 4, 10, ANSWERS, ('road', 'building'), **options | kwargs).eval()


def numbers_of(features, *forms):
    """What the first channel shows, as answers to each question."""
    shown = features[:, 0].mean((1, 2)).tolist()
    return [
        (image, form, math.exp(3 + place + one))
        for image, one in enumerate(shown)
        for place, form in enumerate(forms)
    ]


def prepared(**kwargs):
    one, features = head(**kwargs), maps(IMAGES)
    one.prepare(features, None, None, 1, numbers_of(features, BUILDINGS, SMALL))
    return one, features


def test_amounts_are_told_from_features():
    one, features = prepared()
    other = maps(30, seed=9)
    seen, shown = one.look(other)[:, 0], other[:, 0].mean((1, 2))
    assert torch.corrcoef(torch.stack([seen, shown]))[0, 1] > 0.9
    held, shown = one.recall(torch.arange(IMAGES))[:, 0], features[:, 0].mean((1, 2))
    assert torch.corrcoef(torch.stack([held, shown]))[0, 1] > 0.8
    assert held.mean().item() == pytest.approx(0, abs=1e-4)
    assert held.std().item() == pytest.approx(1, abs=1e-3)


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_what_a_regression_without_an_image_says_is_what_one_fitted_without_it_says(seed):
    random = np.random.default_rng(seed)
    points, amounts = random.normal(size=(8, 3)), random.normal(size=8)
    asked = torch.from_numpy(random.integers(1, 5, 8)).double()
    weight, bias, without = _regress(torch.from_numpy(points), torch.from_numpy(amounts), asked)
    noise = (1 + 1 / asked).numpy()
    errors = {}
    for ridge in (0.03, 0.1, 0.3, 1.0, 3.0):
        said = [
            Ridge(alpha=ridge)
            .fit(points[rest], amounts[rest], sample_weight=1 / noise[rest])
            .predict(points[[left]])[0]
            for left in range(8)
            for rest in [np.delete(np.arange(8), left)]
        ]
        errors[ridge] = float(((amounts - said) ** 2 * asked.numpy()).sum()), said
    best = min(errors, key=lambda ridge: errors[ridge][0])
    np.testing.assert_allclose(without.numpy(), errors[best][1], atol=1e-6)
    whole = Ridge(alpha=best).fit(points, amounts, sample_weight=1 / noise)
    np.testing.assert_allclose(weight.numpy(), whole.coef_, atol=1e-6)
    assert bias.item() == pytest.approx(whole.intercept_, abs=1e-6)


def test_wordings_have_their_own_usual_number():
    """That of small buildings is e times as large here, for any image."""
    one, features = head(), maps(IMAGES)
    told = numbers_of(features, BUILDINGS, SMALL)
    mixed = [row for row in told if (row[0] % 2) == (row[1] == SMALL)]
    one.prepare(features, None, None, 1, mixed)
    held, shown = one.recall(torch.arange(IMAGES))[:, 0], features[:, 0].mean((1, 2))
    assert torch.corrcoef(torch.stack([held, shown]))[0, 1] > 0.6


def test_turns_of_an_image_are_one_image():
    once, features = prepared()
    twice = head()
    told = numbers_of(features, BUILDINGS, SMALL)
    twice.prepare(torch.cat([features, features]), None, torch.arange(IMAGES).repeat(2), 1, told)
    torch.testing.assert_close(once.look(maps(3, seed=5)), twice.look(maps(3, seed=5)))


def test_training_images_are_recalled_by_their_numbers():
    one, features = head(), maps(IMAGES)
    told = [(image + 40, form, number) for image, form, number in numbers_of(features, BUILDINGS)]
    one.prepare(features, None, torch.arange(IMAGES) + 40, 1, told)
    first, second, none = one.recall(torch.tensor([41, 40, 8]))
    assert not torch.equal(first, second)
    assert not none.any()


def test_a_saved_head_answers_the_same():
    one, features = prepared()
    again = head()
    again.load_state_dict(one.state_dict())
    text = read(one, 'How many buildings are there?')
    torch.testing.assert_close(
        one.decide(one.look(features[:1]), text), again.decide(again.look(features[:1]), text)
    )


@pytest.mark.parametrize('questions', [1, 2, 7])
def test_each_question_of_a_training_batch_trains_a_network(questions):
    one, features = prepared()
    text = read(one, *['Is there a road?'] * questions)
    seen = one.look(features[:questions])
    torch.manual_seed(1)
    logits = one.train().decide(seen, text)
    assert logits.shape == (questions, ANSWERS)
    logits.sum().backward()
    trained = [member.direct.weight.grad is not None for member in one.members]
    assert all(trained)


def test_an_image_that_is_not_shown_gets_no_noise():
    one, _ = prepared(members=1)
    text = read(one, 'Is there a road?', 'Is there a road?')
    one.train()
    for part in one.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    assert torch.allclose(*one.decide(torch.zeros(2, 1), text), atol=1e-5)
    assert not torch.allclose(*one.decide(torch.ones(2, 1), text), atol=1e-5)


@pytest.mark.parametrize(
    ('count', 'counts', 'message'),
    [
        (25, ['building'], '25 training images'),
        (2, ['building'], '2 training images'),
        (IMAGES, ['road'], "0 training images .* count of 'road'"),
    ],
)
def test_images_that_teach_nothing_are_refused(count, counts, message):
    features = maps(count)
    with pytest.raises(UsageError, match=message):
        head(counts=counts).prepare(features, None, None, 1, numbers_of(features, BUILDINGS))


@pytest.mark.parametrize('options', [{'members': 0}, {'counts': []}, {'looks': CHANNELS}, {'images': 0}])
def test_arguments_without_sense_are_refused(options):
    with pytest.raises(UsageError):
        head(**options)


def test_a_head_that_saw_no_image_says_so():
    with pytest.raises(UsageError, match='prepare'):
        head().look(maps(1))


def test_gains_are_of_all_questions_and_of_each_type():
    rows = [('a', 'count', False, True), ('a', 'comp', True, True), ('b', 'count', True, False)]
    gains = image_gains([*rows, ('b', 'comp', False, True)])
    assert gains['gain'] == 0.25
    assert gains['gain_comp'] == 0.5
    assert gains['gain_count'] == 0
    assert gains['gain_count_low'] == -1
    assert gains['gain_count_high'] == 1
