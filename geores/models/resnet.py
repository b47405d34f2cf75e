"""All of timm's ResNets, with any number of bands."""

import functools
import inspect
from typing import Any

import timm
from timm.models.resnet import ResNet
from torch import nn

from geores.errors import UsageError
from geores.models.registry import register

# A card is data from elsewhere: timm's own switches (`checkpoint_path`, `pretrained_cfg` ...) could
# make it read a pickle or the network, so only what shapes the network passes.
_ARGUMENTS = frozenset(inspect.signature(ResNet).parameters) - {'block', 'layers'}


def _resnet(
    name: str,
    *,
    in_chans: int = 3,
    num_classes: int = 1000,
    pretrained: bool = False,
    **kwargs: Any,  # noqa: ANN401
) -> nn.Module:
    unknown = sorted(kwargs.keys() - _ARGUMENTS)
    if unknown:
        raise UsageError(f'architecture {name!r} takes no argument {unknown[0]!r}')
    network = timm.create_model(
        name, pretrained=pretrained, in_chans=in_chans, num_classes=num_classes, **kwargs
    )
    if not isinstance(network, nn.Module):
        raise UsageError(f'architecture {name!r} gave no module')
    return network


for _name in timm.list_models(module='resnet'):
    register(_name)(functools.partial(_resnet, _name))
