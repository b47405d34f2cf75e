"""Batch normalisation folded into the convolutions before it, which spares a pass over every map."""

from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geores.runtime.tracing import follow

__all__ = ['fold_batch_norms']


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold what a convolution's batch normalisation does in evaluation mode into its weights.

    Equal up to rounding. Pairs that cannot be told from the network's graph stay as they are, and so
    does a whole network that cannot be traced.

    Args:
        network: in evaluation mode; its modules are replaced in place, its tensors are left alone.

    Returns:
        The network itself.
    """
    for first, second in follow(network, nn.Conv2d, (nn.BatchNorm2d,)):
        conv, norm = network.get_submodule(first), network.get_submodule(second)
        # Exact types: a subclass may do more, as timm's convolutions that standardise their weights.
        if type(conv) is not nn.Conv2d or type(norm) not in (nn.BatchNorm2d, BatchNormAct2d):
            continue
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            network.set_submodule(first, fuse_conv_bn_eval(conv, norm))
            after = ('drop', 'act') if isinstance(norm, BatchNormAct2d) else ()
            network.set_submodule(second, nn.Sequential(*map(norm.get_submodule, after)))
    return network
