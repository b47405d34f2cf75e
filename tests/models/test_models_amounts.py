import math

import numpy as np
import pytest
import scipy.stats
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

IMAGES, LOOKS = 20, 2
BINS = ('0', 'between 0 and 10', 'between 10 and 100', 'between 100 and 1000', 'more than 1000')
ANSWERS = ('<unknown>', 'yes', 'no', *BINS, 'rural', 'urban')
BUILDINGS, SMALL, ROADS = forms_of(
    ['How many buildings are there?', 'How many small buildings are there?', 'How many roads are there?']
)


def head(answers=ANSWERS, **kwargs):
    torch.manual_seed(0)
    options = {'images': 24, 'counts': ['building'], 'looks': LOOKS}
    one = AmountHead(CHANNELS, 4, 10, len(answers), ('road', 'building'), **options | kwargs).eval()
    one.learn_answers(answers)
    return one


def numbers_of(features, *forms):
    """What the first channel shows, as answers to each question."""
    shown = features[:, 0].mean((1, 2)).tolist()
    return [
        (image, form, math.exp(3 + place + one))
        for image, one in enumerate(shown)
        for place, form in enumerate(forms)
    ]


def prepared(asked=(), **kwargs):
    one, features = head(**kwargs), maps(IMAGES)
    one.prepare(features, None, None, asked, numbers_of(features, BUILDINGS, SMALL))
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
    one.prepare(features, None, None, [], mixed)
    held, shown = one.recall(torch.arange(IMAGES))[:, 0], features[:, 0].mean((1, 2))
    assert torch.corrcoef(torch.stack([held, shown]))[0, 1] > 0.6


def test_turns_of_an_image_are_one_image():
    once, features = prepared()
    twice = head()
    told = numbers_of(features, BUILDINGS, SMALL)
    twice.prepare(torch.cat([features, features]), None, torch.arange(IMAGES).repeat(2), [], told)
    torch.testing.assert_close(once.look(maps(3, seed=5)), twice.look(maps(3, seed=5)))


def test_training_images_are_recalled_by_their_numbers():
    one, features = head(), maps(IMAGES)
    told = [(image + 40, form, number) for image, form, number in numbers_of(features, BUILDINGS)]
    one.prepare(features, None, torch.arange(IMAGES) + 40, [], told)
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


QUESTIONS = {
    'Are there buildings?': {1, 2},
    'How many buildings are there?': {3, 4, 5, 6, 7},
    'Are there more buildings than roads?': {1, 2},
    'Are there less small buildings than roads?': {1, 2},
    'Is the number of buildings equal to the number of roads?': {1, 2},
    'Is it a rural or an urban area?': set(range(len(ANSWERS))),
}


def drawn(one, scale=0.3):
    """Draw the weights of a head at random."""
    torch.manual_seed(1)
    for part in one.parameters():
        part.data += scale * torch.randn_like(part)
    return one


def distribution(one, question, seen):
    """Centre and scale of log(1 + number) of the objects of a question, written out."""
    first, _, _ = one.questions.split(read(one, question))
    weights, objects = one.count, first[0]
    own = dict(zip(one.wordings.tolist(), weights.own.tolist(), strict=True))
    centre = weights.level + objects @ weights.usual + (objects @ weights.change) @ seen
    centre = centre + own.get(int(one.questions.wordings(first)), 0.0)
    return centre.item(), (weights.width + objects @ weights.spread).exp().item()


@pytest.mark.parametrize('question', ['How many buildings are there?', 'How many small roads are there?'])
def test_answers_to_how_many_are_intervals_of_a_logistic_distribution(question):
    one = drawn(prepared(asked=[BUILDINGS, ROADS])[0])
    seen = torch.tensor([0.7])
    centre, width = distribution(one, question, seen)
    told = scipy.stats.logistic(loc=centre, scale=width / 1.7)
    expected = np.diff([0, *(told.cdf(math.log(end)) for end in (1.5, 11.5, 101.5, 1001.5)), 1])
    shares = one.decide(seen[None], read(one, question)).exp()[0]
    np.testing.assert_allclose(shares[3:8].detach().numpy(), expected, rtol=1e-3, atol=2e-6)


def test_whether_any_are_there_and_which_are_more_follow_from_the_same_distributions():
    one = drawn(prepared(asked=[BUILDINGS, ROADS])[0])
    seen = torch.tensor([-0.4])
    (centre, width), (other, its) = (
        distribution(one, f'How many {name} are there?', seen) for name in ('buildings', 'roads')
    )
    shares = one.decide(
        seen.expand(2, 1), read(one, 'Are there buildings?', 'Are there more buildings than roads?')
    ).exp()
    any_there = scipy.stats.logistic(loc=centre, scale=width / 1.7).sf(math.log(1.5))
    assert shares[0, 1].item() == pytest.approx(any_there, abs=1e-4)
    both = math.hypot(width, its)
    more = scipy.stats.logistic(scale=both / 1.7).cdf(centre - other - abs(one.apart.item()))
    assert shares[1, 1].item() == pytest.approx(more, abs=1e-4)
    assert shares[:, 2].tolist() == pytest.approx([1 - any_there, 1 - more], abs=1e-4)


@pytest.mark.parametrize('question', QUESTIONS)
def test_shares_of_answers_of_the_kind_asked_add_up(question):
    one = drawn(head())
    shares = one.decide(torch.tensor([[0.3]]), read(one, question)).exp()[0]
    assert shares[sorted(QUESTIONS[question])].sum().item() == pytest.approx(1, abs=1e-3)


@settings(deadline=None, max_examples=30)
@given(st.floats(-3, 3), st.floats(0, 3))
def test_the_more_of_an_amount_the_more_objects_are_there(seen, further):
    one = drawn(head())
    text = read(one, 'How many buildings are there?')
    with torch.no_grad():
        one.count.change.zero_()[one.questions.categories['building']] = 0.8
        none, more = one.decide(torch.tensor([[seen], [seen + further]]), text.expand(2, -1))[:, 3]
    assert more <= none + 1e-6


def test_areas_have_a_distribution_of_their_own():
    answers = ('<unknown>', '0m2', 'between 0m2 and 10m2', 'more than 1000m2', '0', '1')
    one = drawn(head(answers, counts=[], areas=['building']))
    text = read(one, 'What is the area covered by buildings?')
    shares = one.decide(torch.tensor([[0.3]]), text).exp()[0]
    assert shares[1:4].min() > 5e-6
    assert shares[4:].max() < 1e-5


def test_a_number_has_its_share_of_the_loss_of_a_question():
    one = drawn(prepared(asked=[BUILDINGS], exact=0.25)[0])
    seen, text = torch.tensor([[0.5]] * 4), read(one, *['How many buildings are there?'] * 4)
    numbers = torch.tensor([float('nan'), 0.0, 1.0, 40.0])
    losses = one.weigh_numbers(torch.ones(4), seen, text, numbers)
    centre, width = distribution(one, 'How many buildings are there?', seen[0])
    told = scipy.stats.logistic(loc=centre, scale=width / 1.7)
    middle = (math.log(40.5) + math.log(41.5)) / 2
    shares = [
        told.cdf(math.log(1.5)),
        told.cdf(math.log(2.5)) - told.cdf(math.log(1.5)),
        told.cdf(middle + 0.15) - told.cdf(middle - 0.15),
    ]
    assert losses[0] == 1
    np.testing.assert_allclose(losses[1:].detach(), 0.75 - 0.25 * np.log(shares), rtol=1e-3)


def test_every_weight_is_trained():
    one = head(counts=['building'], areas=['road'])
    asked = forms_of([*QUESTIONS, 'What is the area covered by roads?'])
    features = maps(IMAGES)
    area = forms_of(['What is the area covered by roads?'])[0]
    one.prepare(features, None, None, asked, numbers_of(features, BUILDINGS, area))
    one.train()
    text = one.read(torch.zeros(len(asked), 1), torch.ones(len(asked)), asked)
    seen = one.recall(torch.arange(len(asked)))
    numbers = torch.tensor([float('nan'), 3.0, *[float('nan')] * 4, 70.0])
    losses = -one.decide(seen, text)[:, [1, 4]].mean(1)
    (one.weigh_numbers(losses, seen, text, numbers).sum() + one.penalty()).backward()
    untrained = [
        name for name, part in one.named_parameters() if part.grad is None or not part.grad.abs().sum() > 0
    ]
    assert not untrained


def test_wordings_are_learnt_from_all_questions_and_others_have_no_effect():
    one, _ = prepared(asked=[BUILDINGS, BUILDINGS, ROADS, None], wordings=1)
    with torch.no_grad():
        one.count.own.fill_(1.0)
    first, _, _ = one.questions.split(read(one, 'Are there buildings?', 'Are there roads?'))
    centre, _ = one._number(one.count, torch.zeros(2, 1), first)
    assert centre.tolist() == [2.0, 1.0]


def test_wordings_tell_objects_apart_but_not_sides():
    one = head()
    many = [
        'roads', 'buildings', 'small buildings', 'square buildings', 'small square buildings', 'churches',
        'buildings next to a road', 'buildings at the top of a road', 'buildings at the top of a building',
    ]  # fmt: skip
    first, second, _ = one.questions.split(read(one, *[f'Are there {name}?' for name in many]))
    numbers = one.questions.wordings(first)
    assert len(numbers.unique()) == len(many)
    assert numbers.min() > 0
    assert not one.questions.wordings(second).any()
    sides = [f'Are there buildings {side} of a road?' for side in ('at the top', 'on the left')]
    first, _, _ = one.questions.split(read(one, *sides))
    assert len(one.questions.wordings(first).unique()) == 1


def test_an_image_that_is_not_shown_gets_no_noise():
    one = drawn(prepared()[0]).train()
    text = read(one, 'Are there buildings?', 'Are there buildings?')
    assert torch.equal(*one.decide(torch.zeros(2, 1), text))
    assert not torch.equal(*one.decide(torch.ones(2, 1), text))


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
        head(counts=counts).prepare(features, None, None, [], numbers_of(features, BUILDINGS))


@pytest.mark.parametrize(
    'options',
    [{'wordings': 0}, {'counts': []}, {'looks': CHANNELS}, {'images': 0}, {'exact': 2}, {'noise': -1}],
)
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
