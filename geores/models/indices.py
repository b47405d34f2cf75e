"""Spectral indices beside the bands: a first convolution that also sees normalised differences.

(a - b) / (a + b) of two bands, as the NDVI (Rouse et al. 1974) or the NDWI (McFeeters 1996), stays the same
whatever the light is. A network that learns from few images finds it hard to divide.
"""

from collections.abc import Sequence

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from geores.errors import UsageError

DARK = 0.02
"""Least sum of two bands, as a share of a band's usual mean: below it there is nothing but noise."""


class NormalisedDifferences(nn.Module):
    """Puts normalised differences of pairs of bands behind the bands.

    Args:
        pairs: Places of the two bands of each.
        mean: That was taken from each band.
        std: By which each band was divided then.

    Raises:
        UsageError: A pair does not name two bands, or the statistics are not one a band.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, pairs: Sequence[Sequence[int]], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise UsageError(f'indices need mean and std of each band, not {len(mean)} and {len(std)}')
        for pair in pairs:
            if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= one < len(mean) for one in pair):
                raise UsageError(f'indices are pairs of places of {len(mean)} bands, not {list(pair)}')
        self.count = len(pairs)
        self.first = [one for one, _ in pairs]
        self.second = [other for _, other in pairs]
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.dark = DARK * sum(mean) / max(len(mean), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Bands and indices.

        Args:
            images: (N, C, H, W), normalised.

        Returns:
            (N, C + number of pairs, H, W), of the same type; indices doubled, so that they spread as
            normalised bands do.
        """
        values = images.float() * self.std + self.mean
        first, second = values[:, self.first], values[:, self.second]
        index = (first - second) / (first + second).clamp_min(self.dark)
        return torch.cat([images, 2 * index.clamp(-1, 1).to(images.dtype)], 1)


class _SeesIndices:
    spectra: NormalisedDifferences

    def forward(self, images: Tensor) -> Tensor:
        """The convolution of bands and indices, (N, C, H, W) of bands alone."""
        maps: Tensor = super().forward(self.spectra(images))  # type: ignore[misc]
        return maps


class IndexedConv2d(_SeesIndices, nn.Conv2d):
    """A convolution of bands and their indices; its tensors have the names of a plain one's."""


class IndexedConv2dSame(_SeesIndices, Conv2dSame):
    """The same with TensorFlow's padding."""


def with_indices(stem: nn.Conv2d, spectra: NormalisedDifferences) -> nn.Conv2d:
    """A first convolution that sees indices too, in place of one that has channels for them.

    Args:
        stem: Takes as many channels as there are bands and indices.
        spectra: The indices.
    """
    kind = IndexedConv2dSame if isinstance(stem, Conv2dSame) else IndexedConv2d
    indexed = kind(
        stem.in_channels,
        stem.out_channels,
        stem.kernel_size,  # type: ignore[arg-type]
        stride=stem.stride,  # type: ignore[arg-type]
        padding=stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )
    indexed.load_state_dict(stem.state_dict())
    indexed.spectra = spectra
    return indexed
