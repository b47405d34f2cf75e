import pytest
import torch
from torch import nn

from geores.errors import UsageError
from geores.models import create
from geores.models.latents import FactorHead

from ..vqa_fixtures import CHANNELS, maps, read

pytestmark = pytest.mark.usefixtures('one_thread')

CATEGORIES = ('road', 'building', 'water area')
ASKED = (
    'Is there a road?',
    'How many small square buildings are there?',
    'What is the area covered by water areas?',
    'Is it a rural or an urban area?',
    'Are there more roads than buildings?',
    'Is there a road next to a building?',
)
COMPONENTS, ANSWERS = 2, 5


def head(classes=0, **kwargs):
    torch.manual_seed(0)
    options = {'components': COMPONENTS, 'members': 3, 'width': 4} | kwargs
    return FactorHead(CHANNELS, 4, 10, ANSWERS, CATEGORIES, classes=classes, **options).eval()


def stirred(one):
    """With no weight left at 0, as after training."""
    torch.manual_seed(3)
    with torch.no_grad():
        for part in one.members.parameters():
            part.normal_(std=0.5)
    return one


def answers(one, question, count=1):
    return one.decide(torch.zeros(count, COMPONENTS), read(one, question).expand(count, -1)).exp()


# --- images


@pytest.mark.parametrize('classes', [0, 3])
def test_components_of_the_training_images_are_centred_and_of_length_one(classes):
    one, features = head(classes), maps()
    one.prepare(features, nn.Linear(CHANNELS, classes) if classes else None)
    seen = one.look(features)
    assert seen.shape == (12, COMPONENTS)
    torch.testing.assert_close(seen.mean(0), torch.zeros(COMPONENTS), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std(0), torch.ones(COMPONENTS), atol=1e-4, rtol=0)


def test_components_span_those_of_the_standardised_means():
    from sklearn.decomposition import PCA

    one, features = head(), maps(40)
    one.prepare(features)
    pooled = features.mean((2, 3))
    scaled = (pooled - pooled.mean(0)) / (pooled.std(0) + 1e-3)
    expected = torch.from_numpy(PCA(COMPONENTS, whiten=True).fit_transform(scaled.numpy()))
    torch.testing.assert_close(one.look(features).abs(), expected.abs(), atol=1e-3, rtol=1e-3)


def test_other_images_are_measured_by_the_training_images():
    one = head()
    one.prepare(maps())
    other = maps(3, seed=9)
    torch.testing.assert_close(one.look(other)[:1], one.look(other[:1]))


def test_a_saved_head_knows_its_components():
    one = head()
    one.prepare(maps())
    again = head()
    again.load_state_dict(one.state_dict())
    assert torch.equal(one.look(maps(4)), again.look(maps(4)))


@pytest.mark.parametrize(
    ('features', 'classifier', 'classes', 'message'),
    [
        (maps(COMPONENTS), None, 0, '2 images are too few'),
        (maps(1).expand(12, -1, -1, -1), None, 0, 'too much alike'),
        (torch.zeros(12, CHANNELS, 4, 4), None, 0, 'too much alike'),
        (maps(), None, 3, '3 labels'),
        (maps(), nn.Linear(CHANNELS, 4), 3, '3 labels'),
        (maps(), nn.Linear(CHANNELS + 1, 3), 3, '3 labels'),
    ],
)
def test_images_that_teach_nothing_are_refused(features, classifier, classes, message):
    with pytest.raises(UsageError, match=message):
        head(classes).prepare(features, classifier)


@pytest.mark.parametrize('kwargs', [{'components': 7}, {'components': 0}, {'rank': 0}, {'members': 0}])
def test_sizes_that_are_none_are_refused(kwargs):
    with pytest.raises(UsageError, match='components'):
        head(**kwargs)


def test_a_head_needs_categories():
    with pytest.raises(UsageError, match='categories'):
        FactorHead(CHANNELS, 4, 10, ANSWERS, [])


# --- questions


def test_each_part_of_a_question_is_said_apart():
    one = head()
    rows, parts = read(one, *ASKED), one.questions.parts
    assert rows.shape == (len(ASKED), 2 * parts + 9)
    assert len(torch.unique(rows, dim=0)) == len(ASKED)
    assert rows[:, -9:-4].argmax(1).tolist() == [1, 2, 4, 0, 3, 1]  # kinds
    assert torch.equal(rows[0, parts : 2 * parts], torch.zeros(parts))  # one side alone
    assert rows[3, : 2 * parts].sum() == 0  # of no objects


def test_wordings_of_one_question_are_one():
    one = head()
    first, second = read(one, 'Is there a road?', 'is a  road present in the image')
    assert torch.equal(first, second)


def test_unknown_categories_are_one_more_and_no_known_one():
    one = head()
    rows = read(
        one, 'Is there a pier?', 'Is there a vineyard?', *(f'Is there a {name}?' for name in CATEGORIES)
    )
    assert torch.equal(rows[0], rows[1])
    assert not any(torch.equal(rows[0], row) for row in rows[2:])


def test_what_does_not_parse_is_answered_too():
    one = stirred(head())
    assert read(one, 'What colour is the sky?').sum() == 0
    torch.testing.assert_close(answers(one, 'What colour is the sky?').sum(), torch.tensor(1.0))


def test_the_order_of_a_comparisons_sides_matters():
    one = stirred(head())
    first, second = (
        answers(one, f'Are there more {a}s than {b}s?') for a, b in (CATEGORIES[:2], CATEGORIES[1::-1])
    )
    assert not torch.allclose(first, second, atol=1e-4)


def test_a_comparison_says_which_and_whether_both_sides_are_of_one_category():
    one = head()
    rows = read(
        one,
        'Are there less roads than buildings?',
        'Are there more roads than buildings?',
        'Is the number of roads equal to the number of buildings?',
        'Are there more small buildings than large buildings?',
    )
    assert rows[:, -4:].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]]


# --- answers


def test_the_members_mean_is_a_distribution():
    one = stirred(head())
    one.prepare(maps())
    text = read(one, *ASKED)
    seen = one.look(maps(len(ASKED), seed=5))
    mean = one.decide(seen, text).exp()
    torch.testing.assert_close(mean.sum(1), torch.ones(len(ASKED)), atol=1e-5, rtol=0)
    sides = one.questions.split(text)
    alone = torch.stack([member(seen, *sides).softmax(1) for member in one.members])
    torch.testing.assert_close(mean, alone.mean(0), atol=1e-6, rtol=1e-4)


def test_images_change_answers_and_unseen_ones_are_all_the_same():
    one = stirred(head())
    one.prepare(maps())
    text = read(one, *['Is there a road?'] * 3)
    seen = one.look(maps(3, seed=5))
    assert not torch.allclose(*one.decide(seen, text)[:2], atol=1e-3)
    unseen = one.decide(torch.zeros_like(seen), text)
    torch.testing.assert_close(unseen[:2], unseen[1:])


def test_in_training_each_question_teaches_one_member():
    one = stirred(head(members=2)).train()
    one.prepare(maps())
    torch.manual_seed(0)
    one.decide(one.look(maps(1)), read(one, 'Is there a road?')).sum().backward()
    taught = [
        any(part.grad is not None and part.grad.any() for part in one.parameters()) for one in one.members
    ]
    assert sorted(taught) == [False, True]


def test_the_registry_makes_it():
    made = create(
        'vqa-factors', features=4, grid=2, vocabulary=9, num_classes=3, categories=['road'], components=2
    )
    assert isinstance(made, FactorHead)
    assert made.takes_forms
