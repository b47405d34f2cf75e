"""Layers that follow each other in a network, told from the graph of its forward pass."""

from collections import Counter

from torch import fx, nn

__all__ = ['follow']


class _Tracer(fx.Tracer):
    """Takes layers as a whole, those of timm and our own among them."""

    def __init__(self, *layers: type[nn.Module]) -> None:
        super().__init__()
        self._layers = (nn.Conv2d, nn.BatchNorm2d, *layers)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, self._layers) or super().is_leaf_module(module, name)


def follow(
    network: nn.Module, first: type[nn.Module], second: tuple[type[nn.Module], ...]
) -> list[tuple[str, str]]:
    """Names of layers, each called once, of which the second alone takes the output of the first.

    Args:
        network: in evaluation mode. Where its graph cannot be told before images are there, nothing follows.
        first: kind of the one, subclasses included.
        second: kinds of the other, likewise.
    """
    try:
        graph = _Tracer(first, *second).trace(network)
    except Exception:  # whatever a forward makes of stand-ins for tensors
        return []
    times = Counter(node.target for node in graph.nodes)
    # What else is done with a layer's weights does not show where they are replaced.
    bare = {str(node.target).rpartition('.')[0] for node in graph.nodes if node.op == 'get_attr'}

    def calls(node: fx.Node, *kinds: type[nn.Module]) -> bool:
        if node.op != 'call_module' or times[node.target] > 1 or str(node.target) in bare:
            return False
        return isinstance(network.get_submodule(str(node.target)), kinds)

    pairs = []
    for node in graph.nodes:
        if calls(node, *second):
            source = _only_for(node)
            while source is not None and calls(source, nn.Identity, nn.Dropout):
                source = _only_for(source)
            if source is not None and calls(source, first):
                pairs.append((str(source.target), str(node.target)))
    return pairs


def _only_for(node: fx.Node) -> fx.Node | None:
    """The node whose output this one takes, if no other takes it."""
    source = node.args[0] if node.args else None
    return source if isinstance(source, fx.Node) and len(source.users) == 1 else None
