"""EfficientNet-Lite0 (Tan and Le 2019) for inference, without timm.

The bundles that ship are of this network, and importing timm, with torchvision and a thousand other networks,
takes longer than a small scene. Weights have timm's names and answers are those of timm's
`tf_efficientnet_lite0` to the bit. Networks to be trained are timm's (`geores.models.create`).
"""

import math

from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError

__all__ = ['LITE0', 'LiteNetwork', 'NormReLU6', 'SameConv2d']

LITE0 = 'tf_efficientnet_lite0'
"""Name of the architecture on cards."""

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride, expansion and channels of each stage."""

STEM, FEATURES = 32, 1280
"""Channels of the first map and of the last."""

EPSILON = 1e-3
"""Of batch normalisation, as in TensorFlow, where the network was first trained."""


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow does: what is odd goes right and below."""

    def margins(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows added above and below maps of a size, and columns added left and right of them."""
        tall, wide = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            for size, kernel, stride in zip((height, width), self.kernel_size, self.stride, strict=True)
        )
        return (tall // 2, tall - tall // 2), (wide // 2, wide - wide // 2)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve maps (N, C, H, W) to (N, D, ceil(H / stride), ceil(W / stride))."""
        rows, columns = self.margins(*images.shape[2:])
        padded = functional.pad(images, [*columns, *rows])
        return functional.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class NormReLU6(nn.BatchNorm2d):
    """Batch normalisation and the activation that follows it, under one name as in timm's checkpoints."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, EPSILON)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise and activate maps (N, C, H, W)."""
        activated: Tensor = self.act(super().forward(maps))
        return activated


class _Block(nn.Module):
    """An inverted residual block, which widens its maps unless `expansion` is 1."""

    def __init__(self, channels: int, kernel: int, stride: int, expansion: int, out: int) -> None:
        super().__init__()
        wide = channels * expansion
        layers: list[tuple[str, nn.Module]] = []
        if expansion > 1:
            layers += [('conv_pw', nn.Conv2d(channels, wide, 1, bias=False)), ('bn1', NormReLU6(wide))]
        names = ('conv_dw', 'bn2', 'conv_pwl', 'bn3') if layers else ('conv_dw', 'bn1', 'conv_pw', 'bn2')
        depthwise = _conv2d(wide, wide, kernel, stride, groups=wide)
        narrow = nn.Conv2d(wide, out, 1, bias=False)
        parts = (depthwise, NormReLU6(wide), narrow, nn.BatchNorm2d(out, EPSILON))
        for name, layer in (*layers, *zip(names, parts, strict=True)):
            self.add_module(name, layer)
        self.skips = stride == 1 and channels == out

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps of `out` channels."""
        found = maps
        for layer in self.children():
            found = layer(found)
        return found + maps if self.skips else found


class LiteNetwork(nn.Module):
    """EfficientNet-Lite0.

    Args:
        in_chans: number of bands.
        num_classes: number of labels; 0 gives pooled features.
        stem_stride: 2, or 1, which looks at small tiles twice as finely.
        drop_rate: of training; without effect here.
        drop_path_rate: likewise.

    Raises:
        UsageError: if `stem_stride` is another number.
    """

    def __init__(
        self,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        stem_stride: int = 2,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if stem_stride not in {1, 2}:
            raise UsageError(f'stem_stride has to be 1 or 2, not {stem_stride!r}')
        self.conv_stem = SameConv2d(in_chans, STEM, 3, stem_stride, bias=False)
        self.bn1 = NormReLU6(STEM)
        stages, channels = [], STEM
        for blocks, kernel, stride, expansion, out in STAGES:
            stage = []
            for block in range(blocks):
                stage.append(_Block(channels, kernel, stride if block == 0 else 1, expansion, out))
                channels = out
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(channels, FEATURES, 1, bias=False)
        self.bn2 = NormReLU6(FEATURES)
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.classifier = nn.Linear(FEATURES, num_classes) if num_classes else nn.Identity()
        self.num_features = FEATURES

    def get_classifier(self) -> nn.Module:
        """The layer that makes logits of pooled features."""
        return self.classifier

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute maps, (N, 1280, h, w)."""
        maps = self.blocks(self.bn1(self.conv_stem(images)))
        features: Tensor = self.bn2(self.conv_head(maps))
        return features

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool maps and compute logits, (N, K), or pooled features alone."""
        pooled: Tensor = self.global_pool(maps)
        if pre_logits:
            return pooled
        logits: Tensor = self.classifier(pooled)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, (N, K)."""
        return self.forward_head(self.forward_features(images))


def _conv2d(channels: int, out: int, kernel: int, stride: int, groups: int) -> nn.Conv2d:
    """A convolution with TensorFlow's padding, which is even where the stride is 1."""
    if stride == 1:
        return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return SameConv2d(channels, out, kernel, stride, groups=groups, bias=False)
