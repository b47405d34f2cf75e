"""Batch normalisation folded into the convolutions before it, which spares a pass over every map."""

from collections import Counter

from timm.layers.norm_act import BatchNormAct2d
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
    for first, second in _pairs(network):
        conv, norm = network.get_submodule(first), network.get_submodule(second)
        # Exact types: a subclass may do more, as timm's convolutions that standardise their weights.
        if type(conv) is not nn.Conv2d or type(norm) not in (nn.BatchNorm2d, BatchNormAct2d):
            continue
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            network.set_submodule(first, fuse_conv_bn_eval(conv, norm))
            after = ('drop', 'act') if isinstance(norm, BatchNormAct2d) else ()
            network.set_submodule(second, nn.Sequential(*map(norm.get_submodule, after)))
    return network


class _Tracer(fx.Tracer):
    """Takes convolutions and normalisations as a whole, those of timm among them."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(module, name)


def _pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of modules, each called once, of which the second alone takes the output of the first."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # whatever a forward makes of stand-ins for tensors
        return []
    calls = [node for node in graph.nodes if node.op == 'call_module']
    times = Counter(node.target for node in calls)
    pairs = []
    for node in calls:
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source.op != 'call_module' or len(source.users) > 1:
            continue
        first, second = str(source.target), str(node.target)
        if times[first] == times[second] == 1:
            pairs.append((first, second))
    return pairs
