"""Networks that label pixels.

`EncoderDecoder` is one of timm's ResNets with a decoder of segmentation_models_pytorch. `DynamicWorldNetwork`
is the small fully convolutional network of Brown et al. 2022, "Dynamic World, Near real-time global 10 m land
use land cover mapping", Scientific Data 9:251, figure 2. It is written from that description and the released
model, in which the norms after convolutions are folded into them, so that there are none here.

`measure_context` finds how far around a pixel such a network looks.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError, import_extra
from geores.models.registry import import_timm, register

__all__ = ['DynamicWorldNetwork', 'EncoderDecoder', 'measure_context']

_DECODERS = {'unet': 'Unet', 'fpn': 'FPN', 'deeplabv3plus': 'DeepLabV3Plus'}
# A card is data from elsewhere: other names and arguments could make timm read a file or the network.
_ARGUMENTS = frozenset(
    {'encoder_depth', 'decoder_channels', 'decoder_pyramid_channels', 'decoder_segmentation_channels'}
)

WIDTHS = (64, 96, 144, 48)
"""Channels of `DynamicWorldNetwork`: stem, first block, the two other blocks, and the side branch."""


class EncoderDecoder(nn.Module):
    """A decoder over the maps of a ResNet, with logits of the input's height and width.

    Args:
        decoder: 'unet', 'fpn' or 'deeplabv3plus'.
        encoder_name: a ResNet of timm, such as 'resnet18'.
        in_chans: number of bands.
        num_classes: number of labels.
        **kwargs: what shapes it further: `encoder_depth`, and of the decoder `decoder_channels`,
            `decoder_pyramid_channels` or `decoder_segmentation_channels`.

    Raises:
        UsageError: if segmentation_models_pytorch is not installed, the encoder is no ResNet of timm, or an
            argument is not one that passes.
    """

    def __init__(
        self,
        decoder: str,
        encoder_name: str = 'resnet18',
        in_chans: int = 3,
        num_classes: int = 1000,
        **kwargs: object,
    ) -> None:
        super().__init__()
        if encoder_name not in import_timm().list_models(module='resnet'):
            raise UsageError(f'{decoder}: encoder_name {encoder_name!r} is no ResNet of timm')
        unknown = sorted(kwargs.keys() - _ARGUMENTS)
        if unknown:
            raise UsageError(f'architecture {decoder!r} takes no argument {unknown[0]!r}')
        module = 'segmentation_models_pytorch'
        smp = import_extra(module, f'architecture {decoder!r} needs {module}')
        self.network = getattr(smp, _DECODERS[decoder])(
            encoder_name=f'tu-{encoder_name}',
            encoder_weights=None,
            in_channels=in_chans,
            classes=num_classes,
            **kwargs,
        )
        self.alignment = int(self.network.encoder.output_stride)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits of pixels.

        Args:
            images: (N, C, H, W), normalised; their last row and column are repeated up to multiples of
                `alignment`.

        Returns:
            (N, K, H, W).
        """
        height, width = images.shape[2:]
        down, right = (-side % self.alignment for side in (height, width))
        if down or right:
            images = functional.pad(images, (0, right, 0, down), mode='replicate')
        logits: Tensor = self.network(images)
        return logits[:, :, :height, :width]


for _name in _DECODERS:
    register(_name)(partial(EncoderDecoder, _name))


@register('dynamic_world')
class DynamicWorldNetwork(nn.Module):
    """Logits of every pixel, from a stem at full and three residual blocks at half resolution.

    Height and width of its input have to be even. It takes logarithms of reflectance, normalised per band
    (`ModelCard.log_scale`), and brings them to 0 to 1 itself.

    Args:
        in_chans: number of bands.
        num_classes: number of labels.
        widths: channels of the stem, of the first block, of the other blocks, and of the side branch.

    Raises:
        UsageError: if there are not four widths above 0.
    """

    alignment = 2

    def __init__(self, in_chans: int = 9, num_classes: int = 9, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        if len(widths) != len(WIDTHS) or min(widths) < 1:
            raise UsageError(f'widths has to be four numbers above 0, not {list(widths)}')
        stem, first, second, side = widths
        # Tensors are in the order of the released model's, so that its weights can be taken by order.
        self.stem = nn.Conv2d(in_chans, stem, 3, padding=1)
        self.halve = _Halve(stem)
        self.first = _Block(stem, first)
        self.second = _Block(first, second)
        self.side = nn.Sequential(*_pointwise(stem, side), *_depthwise(side))
        self.third = _Block(second + side, second)
        self.head = nn.Conv2d(second, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits of pixels.

        Args:
            images: (N, C, H, W), normalised; H and W even.

        Returns:
            (N, K, H, W).
        """
        images = torch.sigmoid(5 * images - 1)
        halved = self.halve(functional.mish(self.stem(images)))
        deep = self.second(self.first(halved))
        features = self.third(torch.cat([deep, self.side(halved)], dim=1))
        features = functional.interpolate(features, scale_factor=2, mode='bilinear', align_corners=False)
        logits: Tensor = self.head(functional.normalize(features, dim=1, eps=1e-6))
        return logits


class _Halve(nn.Module):
    """Every second pixel of a map smoothed by the binomial filter of four, its edges repeated."""

    weight: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = (0.125, 0.375, 0.375, 0.125)
        # Not by torch, which on the meta device would import its compiler for it, for seconds.
        kernel = torch.tensor([[[[one * other for other in line] for one in line]]] * channels)
        self.register_buffer('weight', kernel, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        padded = functional.pad(maps, (1, 1, 1, 1), mode='replicate')
        return functional.conv2d(padded, self.weight.to(maps.dtype), stride=2, groups=len(self.weight))


class _Block(nn.Module):
    """Three separable convolutions of three by three, with a pointwise way around them."""

    def __init__(self, in_chans: int, channels: int) -> None:
        super().__init__()
        self.skip = nn.Sequential(*_pointwise(in_chans, channels))
        self.body = nn.Sequential(
            *_pointwise(in_chans, channels),
            *_depthwise(channels),
            *_pointwise(channels, channels),
            *_depthwise(channels),
            *_pointwise(channels, channels),
            *_depthwise(channels),
        )

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.body(maps) + self.skip(maps)
        return out


def _pointwise(in_chans: int, channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_chans, channels, 1), nn.Mish()


def _depthwise(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Mish()


def measure_context(network: nn.Module, bands: int, alignment: int, size: int) -> int | None:
    """Measure the margin around a pixel that its logits depend on.

    The gradient of a pixel's logits is 0 at all pixels that they do not depend on. It is taken at every
    offset of a pixel within the alignment, since pooling makes the margin differ between offsets.

    Args:
        network: that takes (1, bands, size, size); measured in evaluation mode, and left in its own mode.
        bands: number of bands.
        alignment: of the network's windows, in pixels.
        size: height and width to measure on, a multiple of the alignment.

    Returns:
        The margin in pixels; None where it reaches the edge of the window, so that it may be larger.
    """
    mode = network.training
    network.eval()
    middle = size // 2 // alignment * alignment
    reach = 0
    generator = torch.Generator().manual_seed(0)
    try:
        for place in range(middle, middle + alignment):
            images = torch.randn(1, bands, size, size, generator=generator).requires_grad_()
            with torch.enable_grad():
                logits: Tensor = network(images)
                (gradient,) = torch.autograd.grad(logits[0, :, place, place].sum(), images)
            touched = gradient[0].abs().amax(0) > 0
            for line in (touched.any(0), touched.any(1)):
                places = line.nonzero().flatten()
                if not len(places):
                    continue
                if places[0] == 0 or places[-1] == size - 1:
                    return None
                reach = max(reach, place - int(places[0]), int(places[-1]) - place)
    finally:
        network.train(mode)
    return reach
