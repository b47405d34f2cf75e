"""Two views of one crop: what the teacher sees, and what the student does.

A teacher may know one level of processing alone. Sentinel-2's surface reflectance (L2A) can be brought
roughly to what the top of the atmosphere shows (L1C), so that such a teacher answers for both.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from geores.errors import UsageError
from geores.tasks.augment import Augmentation

__all__ = ['Line', 'SentinelLevels', 'SurfaceLevels', 'Views', 'ViewsOf']

Line = tuple[float, float]
"""Slope and offset from one band's L2A digital numbers to L1C ones."""

# Fitted between medians of classes of L1C and of L2A pictures of other places: rough, and of use together.
_LINES: dict[str, tuple[Line, Line]] = {
    'B02': ((0.93, 650), (0.66, 810)),
    'B03': ((0.93, 400), (0.64, 573)),
    'B04': ((0.93, 230), (0.67, 487)),
    'B05': ((0.93, 200), (0.76, 369)),
    'B06': ((0.93, 150), (0.78, 318)),
    'B07': ((0.93, 130), (0.82, 338)),
    'B08': ((0.93, 110), (0.79, 246)),
    # No class medians of it were had: between those of its neighbours in wavelength.
    'B8A': ((0.93, 100), (0.80, 260)),
    'B11': ((0.93, 20), (0.86, 353)),
    'B12': ((0.93, 10), (0.83, 228)),
}


class Views(NamedTuple):
    """One batch as two networks see it.

    Attributes:
        student: (N, C, H, W), what the network that learns sees.
        teacher: Of the same shape, what its teacher sees.
    """

    student: Tensor
    teacher: Tensor


class ViewsOf(nn.Module):
    """Base of the views."""

    def forward(self, images: Tensor, bands: Sequence[str]) -> Views:
        """Views to train on, drawn at random for each image.

        Args:
            images: (N, C, H, W), float32, in the data's units.
            bands: Names of the C bands.
        """
        raise NotImplementedError

    def fixed(self, images: Tensor, bands: Sequence[str]) -> Mapping[str, Views]:
        """Views to measure on, by name, without chance."""
        raise NotImplementedError


class SentinelLevels(ViewsOf):
    """Sentinel-2 L2A as it is and brought to L1C levels; the teacher always sees L1C.

    For each image a line from L2A to L1C is drawn between two known ones and around them: the atmosphere
    of its day. The student sees either the same, or the L2A numbers.

    Args:
        top: share of images of which the student sees the L1C version. Their lines lie anywhere between the
            known ones, and by `beyond` outside: the teacher answers for what the student sees.
        beyond: by how much of the distance between the two known lines those may lie outside them.
        centre: where the lines of the other images lie on average, from the first known line (0) to the
            second (1): what the student takes L2A for.
        spread: by how much of that distance they may lie to either side.
        slope: Largest relative change of all slopes; of one band's alone three quarters of it.
        haze: Largest relative change of all offsets; of one band's alone a third of it.
        shared: Augmentations of the L1C version where both see it: whatever they make of it, the teacher
            answers for the same.
    """

    def __init__(
        self,
        top: float = 0.4,
        beyond: float = 0.15,
        centre: float = 0.5,
        spread: float = 0.65,
        slope: float = 0.04,
        haze: float = 0.15,
        shared: list[Augmentation] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= top <= 1 or min(beyond, spread, slope, haze) < 0 or max(slope, haze) >= 1:
            raise UsageError(
                'top is a share; beyond, spread, slope and haze are at least 0, slope and haze below 1'
            )
        self.top, self.beyond, self.centre, self.spread = top, beyond, centre, spread
        self.slope, self.haze = slope, haze
        self.shared = nn.ModuleList(shared or [])

    def forward(self, images: Tensor, bands: Sequence[str]) -> Views:  # noqa: D102
        slopes, offsets = _lines(images, bands, type(self).__name__)
        both = torch.rand(len(images), 1, 1, 1, device=images.device) < self.top
        place = torch.where(
            both, _spread(images, 0.5 + self.beyond) + 0.5, _spread(images, self.spread) + self.centre
        )
        slope = torch.lerp(slopes[0], slopes[1], place)
        slope = slope * (1 + _spread(images, self.slope))
        slope = slope * (1 + _spread(images, 0.75 * self.slope, len(bands)))
        offset = torch.lerp(offsets[0], offsets[1], place)
        offset = offset * (1 + _spread(images, self.haze)) * (1 + _spread(images, self.haze / 3, len(bands)))
        top = images * slope + offset
        varied = top
        for augmentation in self.shared:
            varied = augmentation(varied, bands)
        return Views(torch.where(both, varied, images), torch.where(both, varied, top))

    def fixed(self, images: Tensor, bands: Sequence[str]) -> Mapping[str, Views]:  # noqa: D102
        slopes, offsets = _lines(images, bands, type(self).__name__)
        first, second = (images * slope + offset for slope, offset in zip(slopes, offsets, strict=True))
        return {
            'L1C by the first line': Views(first, first),
            'L1C by the second line': Views(second, second),
            'L2A, teacher by the first line': Views(images, first),
            'L2A, teacher by the second line': Views(images, second),
        }


class SurfaceLevels(Augmentation):
    """Sentinel-2 L1C brought roughly to L2A, for some of the images: labels of either level serve both.

    For each image a line from L2A to L1C is drawn between the two known ones and around them, and read
    backwards. Dark ground of images that are clearer than the line stays above 0.

    Args:
        share: share of images that are changed; the others stay L1C.
        beyond: by how much of the distance between the two known lines the drawn ones may lie outside them.
        slope: largest relative change of all slopes, and of each band's alone half of it.
        haze: largest relative change of all offsets, and of each band's alone a third of it.
    """

    def __init__(
        self, share: float = 0.5, beyond: float = 0.15, slope: float = 0.05, haze: float = 0.15
    ) -> None:
        super().__init__()
        if not 0 <= share <= 1 or min(beyond, slope, haze) < 0 or max(slope, haze) >= 1:
            raise UsageError(
                'share lies within 0 and 1; beyond, slope and haze are at least 0, the last two below 1'
            )
        self.share, self.beyond, self.slope, self.haze = share, beyond, slope, haze

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        slopes, offsets = _lines(images, bands, type(self).__name__)
        place = _spread(images, 0.5 + self.beyond) + 0.5
        slope = torch.lerp(slopes[0], slopes[1], place)
        slope = slope * (1 + _spread(images, self.slope)) * (1 + _spread(images, self.slope / 2, len(bands)))
        offset = torch.lerp(offsets[0], offsets[1], place)
        offset = offset * (1 + _spread(images, self.haze)) * (1 + _spread(images, self.haze / 3, len(bands)))
        surface = (images - offset) / slope
        # Where more haze was drawn than the image has, its dark ground stays dark instead of negative.
        surface = surface.maximum(0.05 * images.clamp(max=2000))
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.share
        return torch.where(chosen, surface, images)


def _lines(images: Tensor, bands: Sequence[str], who: str) -> tuple[Tensor, Tensor]:
    """Slopes and offsets, (2, C, 1, 1) each."""
    missing = [band for band in bands if band not in _LINES]
    if missing:
        raise UsageError(f'{who} has no line for band {missing[0]}: it knows {", ".join(_LINES)}')
    lines = torch.tensor([_LINES[band] for band in bands], device=images.device)
    return lines[:, :, 0].T[..., None, None], lines[:, :, 1].T[..., None, None]


def _spread(images: Tensor, most: float, channels: int = 1) -> Tensor:
    """Numbers drawn evenly from -most to most, (N, channels, 1, 1)."""
    return torch.empty(len(images), channels, 1, 1, device=images.device).uniform_(-most, most)
