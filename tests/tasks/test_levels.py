import pytest
import torch

from geores.errors import UsageError
from geores.tasks.augment import Gain
from geores.tasks.levels import SentinelLevels, SurfaceLevels

BANDS = ['B02', 'B08', 'B12']
FIRST = torch.tensor([650.0, 110, 10]).view(1, 3, 1, 1)
SECOND = torch.tensor([810.0, 246, 228]).view(1, 3, 1, 1)
SLOPES = torch.tensor([0.66, 0.79, 0.83]).view(1, 3, 1, 1)


@pytest.fixture
def images():
    return torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 3000


def test_fixed_views_are_the_two_lines(images):
    views = SentinelLevels().fixed(images, BANDS)
    one, two = images * 0.93 + FIRST, images * SLOPES + SECOND
    expected = {
        'L1C by the first line': (one, one),
        'L1C by the second line': (two, two),
        'L2A, teacher by the first line': (images, one),
        'L2A, teacher by the second line': (images, two),
    }
    assert views.keys() == expected.keys()
    for name, (student, teacher) in expected.items():
        torch.testing.assert_close(views[name].student, student)
        torch.testing.assert_close(views[name].teacher, teacher)


@pytest.mark.parametrize(('top', 'kept'), [(0.0, 64), (1.0, 0)])
def test_the_student_sees_what_the_teacher_does_or_the_data_as_it_is(images, top, kept):
    student, teacher = SentinelLevels(top=top, shared=[Gain()])(images, BANDS)
    same = (student == images).flatten(1).all(1)
    assert int(same.sum()) == kept
    assert torch.equal(student[~same], teacher[~same])
    assert not torch.equal(teacher, images)


def test_lines_lie_about_the_two(images):
    torch.manual_seed(0)
    dark = torch.zeros_like(images)
    _, teacher = SentinelLevels(beyond=0.1, spread=0.6, slope=0, haze=0.2)(dark, BANDS)
    low, high = (FIRST - 0.1 * (SECOND - FIRST)), (SECOND + 0.1 * (SECOND - FIRST))
    most = 1.2 * (1 + 0.2 / 3)
    assert (teacher <= high * most + 1e-3).all()
    least = torch.minimum(low * 0.8 * (1 - 0.2 / 3), low * most)  # an offset below 0 grows downwards
    assert (teacher >= least - 1e-3).all()
    assert teacher[:, 0, 0, 0].std() > 20


def test_what_it_does_not_know_is_refused(images):
    with pytest.raises(UsageError, match='no line for band B09'):
        SentinelLevels()(images, ['B02', 'B08', 'B09'])
    with pytest.raises(UsageError, match='top is a share'):
        SentinelLevels(top=2)


def test_surface_levels_undo_what_lies_between_the_two_lines(images):
    torch.manual_seed(0)
    for place in (0.0, 0.5, 1.0):
        top = images * torch.lerp(torch.full_like(SLOPES, 0.93), SLOPES, place) + torch.lerp(
            FIRST, SECOND, place
        )
        surface = SurfaceLevels(share=1.0, beyond=0.0, slope=0.0, haze=0.0)(top, BANDS)
        bright = images[:, 1] > 1000
        assert ((surface[:, 1] - images[:, 1]).abs()[bright] < 0.35 * images[:, 1][bright]).all()
        assert (surface > 0).all()
        assert surface[:, 0].mean() < top[:, 0].mean()


@pytest.mark.parametrize(('share', 'changed'), [(0.0, 0), (1.0, 64)])
def test_surface_levels_change_a_share(images, share, changed):
    after = SurfaceLevels(share=share)(images + 1000, BANDS)
    assert int((after != images + 1000).flatten(1).any(1).sum()) == changed


def test_surface_levels_refuse(images):
    with pytest.raises(UsageError, match='SurfaceLevels has no line for band B09'):
        SurfaceLevels()(images, ['B02', 'B08', 'B09'])
    with pytest.raises(UsageError, match='share lies within'):
        SurfaceLevels(share=-1)
