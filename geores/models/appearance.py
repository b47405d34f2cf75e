"""Colour and texture of an image's cells: what a network trained to tell objects may have unlearnt."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ['appearance', 'channels']

_SCALES = (1, 2, 4, 8)  # pixels that an edge is looked for across
_FLAT = 0.004  # gradient of a cell without any texture, in standard deviations of the images


def channels(bands: int) -> int:
    """How many channels `appearance` has.

    Args:
        bands: Of the images.
    """
    return 2 * bands + len(_SCALES)


def appearance(images: Tensor, rows: int, columns: int) -> Tensor:
    """Mean and standard deviation of each band, and the logarithm of the mean gradient at four scales.

    Args:
        images: (N, C, H, W), normalised.
        rows: Of cells.
        columns: Of cells.

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
