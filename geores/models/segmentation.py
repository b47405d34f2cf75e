"""Networks that label pixels: timm's ResNets with a decoder of segmentation_models_pytorch."""

from functools import partial

import timm
from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError
from geores.models.registry import register

__all__ = ['EncoderDecoder']

_DECODERS = {'unet': 'Unet', 'fpn': 'FPN', 'deeplabv3plus': 'DeepLabV3Plus'}
# A card is data from elsewhere: other names and arguments could make timm read a file or the network.
_ENCODERS = frozenset(timm.list_models(module='resnet'))
_ARGUMENTS = frozenset(
    {'encoder_depth', 'decoder_channels', 'decoder_pyramid_channels', 'decoder_segmentation_channels'}
)


class EncoderDecoder(nn.Module):
    """A decoder over the maps of a ResNet, with logits of the input's height and width.

    Args:
        decoder: 'unet', 'fpn' or 'deeplabv3plus'.
        encoder_name: A ResNet of timm, such as 'resnet18'.
        in_chans: Number of bands.
        num_classes: Number of labels.
        **kwargs: What shapes it further: `encoder_depth`, and of the decoder `decoder_channels`,
            `decoder_pyramid_channels` or `decoder_segmentation_channels`.

    Raises:
        UsageError: segmentation_models_pytorch is not installed, the encoder is no ResNet of timm, or an
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
        if encoder_name not in _ENCODERS:
            raise UsageError(f'{decoder}: encoder_name {encoder_name!r} is no ResNet of timm')
        unknown = sorted(kwargs.keys() - _ARGUMENTS)
        if unknown:
            raise UsageError(f'architecture {decoder!r} takes no argument {unknown[0]!r}')
        try:
            import segmentation_models_pytorch as smp
        except ImportError as error:
            raise UsageError(
                f'architecture {decoder!r} needs segmentation_models_pytorch: '
                'pip install "geores[segmentation]"'
            ) from error
        self.network = getattr(smp, _DECODERS[decoder])(
            encoder_name=f'tu-{encoder_name}',
            encoder_weights=None,
            in_channels=in_chans,
            classes=num_classes,
            **kwargs,
        )
        self.alignment = int(self.network.encoder.output_stride)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of pixels.

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
