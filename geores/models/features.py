"""What a question head sees of an image: the feature map of an encoder, and colour and texture.

Colour and texture of an image's cells are what a network trained to tell objects may have unlearnt.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError

__all__ = ['FeatureMap', 'appearance', 'balanced_scale', 'channels', 'points_of_images']


_SCALES = (1, 2, 4, 8)  # pixels that an edge is looked for across
_FLAT = 0.004  # gradient of a cell without any texture, in standard deviations of the images


class FeatureMap(nn.Module):
    """The map of features that a network sees, before it is pooled.

    Args:
        network: a network of timm, or any with `forward_features`.
        places: where each of the image's bands goes among the network's; other bands stay 0, which for
            normalised input is their mean.
        in_chans: number of the network's bands.
        grid: height and width to which maps are brought by averaging; None leaves them.
        scale: factor by which images are resized before the network sees them, such as 0.5 where it was
            trained on pixels twice as large.
        looks: append channels of colour and texture (`appearance`), of the images at full size.

    Raises:
        UsageError: if the network gives no feature maps, or the scale is not above 0.
    """

    def __init__(
        self,
        network: nn.Module,
        places: Sequence[int],
        in_chans: int,
        grid: int | None = None,
        scale: float = 1.0,
        looks: bool = False,
    ) -> None:
        super().__init__()
        if not hasattr(network, 'forward_features'):
            raise UsageError(f'{type(network).__name__} gives no feature maps: it has no forward_features')
        self.network: Any = network
        self.places = list(places)
        self.in_chans = in_chans
        self.grid = grid
        if not 0 < scale < math.inf:
            raise UsageError(f'scale has to be above 0, not {scale}')
        self.scale = scale
        self.looks = looks

    def forward(self, images: Tensor) -> Tensor:
        """Look at images.

        Args:
            images: (N, C, H, W), normalised.

        Returns:
            (N, D, h, w).

        Raises:
            UsageError: if what the network gives is no map.
        """
        features: Tensor = self.network.forward_features(self._spread(self._resized(images)))
        if features.ndim != 4:
            raise UsageError(f'the network gives features of shape {tuple(features.shape)}, not maps')
        if self.grid is not None and features.shape[-2:] != (self.grid, self.grid):
            features = functional.adaptive_avg_pool2d(features, self.grid)
        if not self.looks:
            return features
        rows, columns = features.shape[-2:]
        return torch.cat([features, appearance(images, rows, columns).to(features.dtype)], dim=1)

    def _resized(self, images: Tensor) -> Tensor:
        if self.scale == 1:
            return images
        size = [max(1, round(side * self.scale)) for side in images.shape[-2:]]
        return functional.interpolate(images, size=size, mode='bilinear', antialias=True)

    def _spread(self, images: Tensor) -> Tensor:
        if self.places == list(range(self.in_chans)):
            return images
        spread = images.new_zeros(images.shape[0], self.in_chans, *images.shape[-2:])
        spread[:, self.places] = images
        return spread

    @torch.no_grad()
    def shape(self, bands: int, size: int) -> tuple[int, int]:
        """Channels, and height and width, of the maps of square images.

        Args:
            bands: number of bands of the images.
            size: their height and width.

        Raises:
            UsageError: if the network does not take such images, or the maps are not square.
        """
        weights = next(self.parameters())
        training = self.training
        try:
            maps = self.eval()(torch.zeros(1, bands, size, size, device=weights.device, dtype=weights.dtype))
        except (RuntimeError, ValueError) as error:
            reason = ' '.join(str(error).split())
            raise UsageError(f'the encoder takes no images of {size} x {size} pixels: {reason}') from error
        finally:
            self.train(training)
        if maps.shape[2] != maps.shape[3]:
            raise UsageError(
                f'the encoder gives maps of {maps.shape[2]} x {maps.shape[3]}, which are not square'
            )
        return maps.shape[1], maps.shape[2]


def channels(bands: int) -> int:
    """Number of channels of `appearance`.

    Args:
        bands: number of bands of the images.
    """
    return 2 * bands + len(_SCALES)


def appearance(images: Tensor, rows: int, columns: int) -> Tensor:
    """Compute mean and standard deviation of each band, and the log of the mean gradient at four scales.

    Args:
        images: (N, C, H, W), normalised.
        rows: rows of cells.
        columns: columns of cells.

    Returns:
        (N, 2 C + 4, rows, columns).
    """
    cells = (rows, columns)
    images = images.float()
    mean = functional.adaptive_avg_pool2d(images, cells)
    square = functional.adaptive_avg_pool2d(images**2, cells)
    maps = [mean, (square - mean**2).clamp_min(0).sqrt()]
    grey = images.mean(1, keepdim=True)
    for scale in _SCALES:
        if min(grey.shape[-2:]) <= scale:
            maps.append(torch.full_like(mean[:, :1], _FLAT).log())
            continue
        coarse = functional.avg_pool2d(grey, scale)
        corner = coarse[..., :-1, :-1]
        slope = torch.hypot(coarse[..., :-1, 1:] - corner, coarse[..., 1:, :-1] - corner)
        maps.append((functional.adaptive_avg_pool2d(slope, cells) + _FLAT).log())
    return torch.cat(maps, dim=1)


def points_of_images(summary: Tensor, numbers: Tensor | None, least: int, most: int) -> tuple[Tensor, Tensor]:
    """Average what maps of one image give: its number (I,), and its point (I, D).

    Args:
        summary: of each map, (N, D).
        numbers: (N,), which image each map is of; None takes them as of one each.
        least: fewest images.
        most: most of them.

    Raises:
        UsageError: if there are fewer, or more.
    """
    numbers = torch.arange(len(summary)) if numbers is None else numbers
    known, places = numbers.unique(return_inverse=True)
    if not least <= len(known) <= most:
        raise UsageError(f'{len(known)} training images, and images allows {least} to {most}')
    return known, torch.stack([summary[places == place].mean(0) for place in range(len(known))])


def balanced_scale(points: Tensor, last: int) -> Tensor:
    """Scale (D,) by which two groups of features weigh alike, however many each has.

    Args:
        points: (I, D).
        last: how many at the end are a group of their own; all are one group where it is 0.
    """
    groups = [points.shape[1] - last] + [last] * (last > 0)
    sizes = torch.cat([torch.full((size,), (size * len(groups)) ** 0.5) for size in groups])
    return (points.std(0) + 1e-3) * sizes
