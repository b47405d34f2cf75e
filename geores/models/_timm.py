"""Networks of timm, built by what shapes them and nothing else."""

from collections.abc import Set
from typing import Any

import timm
from torch import nn

from geores.errors import UsageError


def create(
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
        arguments: Names of further arguments that pass.
        in_chans: Number of bands.
        num_classes: Number of labels; 0 gives pooled features.
        pretrained: Take timm's weights, from the network.
        **kwargs: Further arguments.

    Raises:
        UsageError: An argument is not one that passes.
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
