import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from geores import models
from geores.errors import UsageError
from geores.models.features import FeatureMap, appearance, channels
from geores.models.latents import LatentHead

from ..vqa_fixtures import CHANNELS, maps, read

pytestmark = pytest.mark.usefixtures('one_thread')

CATEGORIES = ('road', 'building', 'water area')
ANSWERS, MEMBERS, RANK = 5, 3, 2


def head(**kwargs):
    torch.manual_seed(0)
    options = {'images': 20, 'members': MEMBERS, 'rank': RANK, 'width': 4} | kwargs
    one = LatentHead(CHANNELS, 4, 10, ANSWERS, CATEGORIES, **options).eval()
    with torch.no_grad():
        for part in one.parameters():
            part.normal_(std=0.5)
    return one


# --- what images show


@pytest.mark.parametrize('reach', [0.5, 1.3])
def test_factors_are_the_regression_of_a_gaussian_process(reach):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    one = head(reach=reach)
    one.prepare(maps())
    known = one.recall(torch.arange(12))
    centre, spread = known.flatten(2).detach().unbind(1)
    total = (centre.var(0, correction=0) + (spread**2).mean(0)).sqrt()

    def summary(x):
        x = x.flatten(2)
        return torch.cat([x.mean(2), x.amax(2), x.std(2)], 1)

    points, others = summary(maps()), summary(maps(4, seed=7))
    mean, scale = points.mean(0), (points.std(0) + 1e-3) * (3 * CHANNELS) ** 0.5
    reference = GaussianProcessRegressor(ConstantKernel(0.9) * RBF(reach), alpha=0.1, optimizer=None)
    reference.fit((points - mean) / scale, (centre - centre.mean(0)) / total)
    expected, deviation = reference.predict((others - mean) / scale, return_std=True)
    # The reference's deviation is that of the function; what features never show comes on top.
    left = np.sqrt(deviation[:, :1] ** 2 + 0.1)
    seen = one.look(maps(4, seed=7)).flatten(2)
    np.testing.assert_allclose(seen[:, 0], expected * total.numpy() + centre.mean(0).numpy(), atol=1e-4)
    np.testing.assert_allclose(seen[:, 1], left * total.numpy(), atol=1e-4)


def test_maps_of_one_cell_are_looked_at_too():
    one, features = head(looks=2), maps()[..., :1, :1]
    one.prepare(features)
    assert torch.isfinite(one.look(features)).all()


def test_turns_of_an_image_are_one_image():
    once, twice = head(), head()
    once.prepare(maps())
    twice.prepare(torch.cat([maps(), maps()]), None, torch.arange(12).repeat(2))
    torch.testing.assert_close(once.look(maps(3, seed=5)), twice.look(maps(3, seed=5)))


def test_an_image_unlike_all_others_is_like_images_on_the_whole():
    one = head()
    one.prepare(maps())
    far = one.look(maps(2) * 1e3)
    torch.testing.assert_close(far[0], far[1])
    centre = one.recall(torch.arange(12))[:, 0].mean(0)
    torch.testing.assert_close(far[0, 0], centre.detach())


def test_training_images_are_recalled_by_their_numbers():
    one = head()
    one.prepare(maps(3), None, torch.tensor([40, 7, 9]))
    first, second, none = one.recall(torch.tensor([7, 40, 8]))
    assert not torch.equal(first, second)
    assert not none.any()


def test_the_penalty_is_the_divergence_from_a_standard_normal():
    one = head()
    one.prepare(maps(), asked=[None] * 50)
    centre, spread = one.recall(torch.arange(12)).detach().unbind(1)
    expected = kl_divergence(Normal(centre, spread), Normal(0.0, 1.0)).sum() / MEMBERS / 50
    torch.testing.assert_close(one.penalty().detach(), expected)


def test_a_saved_head_sees_the_same():
    one, again = head(classes=3), head(classes=3)
    one.prepare(maps(), nn.Linear(CHANNELS, 3))
    again.load_state_dict(one.state_dict())
    assert torch.equal(one.look(maps(4)), again.look(maps(4)))


@pytest.mark.parametrize(
    ('features', 'classifier', 'classes', 'message'),
    [
        (maps(21), None, 0, '21 training images'),
        (maps(1), None, 0, '1 training images'),
        (maps(), None, 3, '3 labels'),
        (maps(), nn.Linear(CHANNELS, 4), 3, '3 labels'),
    ],
)
def test_images_that_teach_nothing_are_refused(features, classifier, classes, message):
    with pytest.raises(UsageError, match=message):
        head(classes=classes).prepare(features, classifier)


def test_a_head_that_saw_no_image_says_so():
    with pytest.raises(UsageError, match='prepare'):
        head().look(maps())


@pytest.mark.parametrize(
    'kwargs', [{'images': 0}, {'rank': 0}, {'members': 0}, {'reach': 0.0}, {'looks': CHANNELS}]
)
def test_sizes_that_are_none_are_refused(kwargs):
    with pytest.raises(UsageError):
        head(**kwargs)


# --- answers


def test_answers_are_a_distribution_and_images_change_them():
    one = head()
    one.prepare(maps())
    seen = one.look(maps(3, seed=5))
    shares = one.decide(seen, read(one, *['Is there a road?'] * 3)).exp()
    torch.testing.assert_close(shares.sum(1), torch.ones(3), atol=1e-5, rtol=0)
    assert not torch.allclose(shares[0], shares[1], atol=1e-3)


def test_a_model_that_sees_nothing_is_certain_of_its_factors():
    one = head()
    one.prepare(maps())
    text = read(one, 'Are there more roads than buildings?')
    unseen = one.decide(torch.zeros(1, 2, MEMBERS, RANK), text).exp()
    sides = one.questions.split(text)
    alone = [m.answer(torch.zeros(1, RANK), m.ask(*sides)).softmax(1) for m in one.members]
    torch.testing.assert_close(unseen, torch.stack(alone).mean(0))


def test_uncertain_factors_make_answers_less_certain():
    one = head()
    one.prepare(maps())
    text = read(one, *(f'How many {name}s are there?' for name in CATEGORIES))
    centre = 2 * torch.randn(3, 1, MEMBERS, RANK)
    sure, unsure = (torch.cat([centre, torch.full_like(centre, s)], dim=1) for s in (0.0, 2.0))
    entropy = [-(one.decide(seen, text).exp() * one.decide(seen, text)).sum() for seen in (sure, unsure)]
    assert entropy[0] < entropy[1]


def test_training_moves_the_factors_of_the_image_asked_about():
    one = head(members=1).train()
    one.prepare(maps())
    one.decide(one.recall(torch.tensor([4])), read(one, 'Is there a road?'))[0, 1].backward()
    moved = one.centre.grad.flatten(1).abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == [4]


def test_questions_read_in_validation_can_be_learnt_from():
    one = head(members=1).train()
    one.prepare(maps())
    with torch.inference_mode():
        read(one, 'Is there a road?')
    one.decide(one.recall(torch.tensor([4])), read(one, 'Is there a road?')).sum().backward()


# --- colour and texture


def test_cells_have_their_own_colour_and_spread():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    looks = appearance(images, 2, 2)
    assert looks.shape == (2, channels(3), 2, 2)
    cell = images[0, :, 4:, :4]
    torch.testing.assert_close(looks[0, :3, 1, 0], cell.mean((1, 2)))
    torch.testing.assert_close(looks[0, 3:6, 1, 0], cell.std((1, 2), correction=0))


def test_texture_is_told_by_its_scale():
    rows = torch.arange(64)
    fine, coarse = (((rows // size) % 2).float().expand(3, 64, 64)[None] for size in (2, 16))
    flat = appearance(torch.ones(1, 3, 64, 64), 1, 1)[0, 6:].flatten()
    fine, coarse = (appearance(image, 1, 1)[0, 6:].flatten() for image in (fine, coarse))
    assert len(set(flat.tolist())) == 1
    assert fine[0] > coarse[0] > flat[0]
    assert coarse[3] > fine[3]


def test_images_smaller_than_a_scale_have_no_texture_there():
    assert torch.isfinite(appearance(torch.rand(1, 3, 4, 4), 2, 2)).all()


def test_a_map_is_of_resized_images_and_their_looks():
    network = models.create('resnet10t', in_chans=3, num_classes=0)
    plain = FeatureMap(network, range(3), 3, grid=2).eval()
    changed = FeatureMap(network, range(3), 3, grid=2, scale=0.5, looks=True).eval()
    image = torch.randn(1, 3, 16, 16).repeat_interleave(8, 2).repeat_interleave(8, 3)
    with torch.inference_mode():
        small = nn.functional.interpolate(image, size=(64, 64), mode='bilinear', antialias=True)
        both = changed(image)
        torch.testing.assert_close(both[:, :-10], plain(small))
        torch.testing.assert_close(both[:, -10:], appearance(image, 2, 2))
    assert changed.shape(3, 128) == (512 + 10, 2)


@pytest.mark.parametrize('scale', [0, -1.0, float('nan'), float('inf')])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(UsageError, match='scale'):
        FeatureMap(models.create('resnet10t', in_chans=3, num_classes=0), range(3), 3, scale=scale)
