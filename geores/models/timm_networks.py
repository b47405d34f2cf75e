"""Networks of timm, built by what shapes them and nothing else, with any number of bands.

All ResNets; the EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation and with ReLU6), small
networks that are quick on CPUs, of which those named `tf_` pad as TensorFlow does and take weights that were
trained there; and what published models of BigEarthNet v2 use beside ResNets. Transformers and mixers count
tokens from the size of their input, so that they take `img_size`.
"""

import functools
import inspect
from collections.abc import Set
from typing import Any

import timm
from timm.models.resnet import ResNet
from torch import nn

from geores.errors import UsageError
from geores.models.registry import register

_RESNET_ARGUMENTS = frozenset(inspect.signature(ResNet).parameters) - {'block', 'layers'}

_DROPS = frozenset({'drop_rate', 'drop_path_rate'})
_SIZED = _DROPS | {'img_size'}

_PUBLISHED_ARGUMENTS = {
    'convmixer_768_32': frozenset({'drop_rate'}),
    'convnextv2_base': _DROPS,
    'mixer_b16_224': _SIZED,
    'mobilenetv4_hybrid_medium': _DROPS,
    'mobilevit_s': _DROPS,
    'rdnet_base': _DROPS,
    'vit_base_patch8_224': _SIZED,
}

SIZED = frozenset(name for name, arguments in _PUBLISHED_ARGUMENTS.items() if 'img_size' in arguments)
"""Networks that are built for one size of input."""


def create_timm(
    name: str,
    arguments: Set[str],
    *,
    in_chans: int = 3,
    num_classes: int = 1000,
    pretrained: bool = False,
    **kwargs: Any,  # noqa: ANN401
) -> nn.Module:
    """Build a network of timm.

    A card is data from elsewhere: timm's own switches (`checkpoint_path`, `pretrained_cfg` ...) could
    make it read a pickle or the network, so only what shapes the network passes.

    Args:
        name: timm's name.
        arguments: names of further arguments that pass.
        in_chans: number of bands.
        num_classes: number of labels; 0 gives pooled features.
        pretrained: take timm's weights, from the network.
        **kwargs: further arguments.

    Raises:
        UsageError: if an argument is not one that passes.
    """
    unknown = sorted(kwargs.keys() - arguments)
    if unknown:
        raise UsageError(f'architecture {name!r} takes no argument {unknown[0]!r}')
    network = timm.create_model(
        name, pretrained=pretrained, in_chans=in_chans, num_classes=num_classes, **kwargs
    )
    if not isinstance(network, nn.Module):
        raise UsageError(f'architecture {name!r} gave no module')
    return network


for _name in timm.list_models(module='resnet'):
    register(_name)(functools.partial(create_timm, _name, _RESNET_ARGUMENTS))


def _lite(name: str, *, stem_stride: int = 2, **kwargs: Any) -> nn.Module:  # noqa: ANN401
    """Build one; a `stem_stride` of 1 looks at small tiles twice as finely."""
    if stem_stride not in {1, 2}:
        raise UsageError(f'stem_stride has to be 1 or 2, not {stem_stride!r}')
    network = create_timm(name, _DROPS, **kwargs)
    stem: Any = network.conv_stem
    stem.stride = (stem_stride, stem_stride)
    return network


for _name in timm.list_models('*efficientnet_lite*'):
    register(_name)(functools.partial(_lite, _name))


for _name, _arguments in _PUBLISHED_ARGUMENTS.items():
    if timm.is_model(_name):  # older versions lack some
        register(_name)(functools.partial(create_timm, _name, _arguments))
