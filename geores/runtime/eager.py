"""Networks run by torch itself, at the best precision that the device supports, rewritten to run faster.

Layers that follow each other are told from the graph of the forward pass (`consecutive_layers`). Batch
normalisation is folded into the convolution before it, which spares a pass over every map; convolutions get
packed weights and apply their activation themselves, by oneDNN; mish is computed in pieces that
stay in cache. Answers are the same up to rounding. Weights are rounded to bfloat16 so that filters keep sums.
"""

import sys
from collections import Counter
from copy import deepcopy
from typing import Any, TypeGuard, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from geores.models.lite import NormReLU6, SameConv2d
from geores.runtime.base import (
    DTYPES,
    Precision,
    layer_weights,
    packs_bfloat16,
    packs_float32,
    round_keeping_sums,
)

__all__ = [
    'CachedMish',
    'EagerRuntime',
    'consecutive_layers',
    'fold_batch_norms',
    'keep_runtime',
    'pack_convolutions',
    'quicken_mish',
]

ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ('relu', []),
    nn.ReLU6: ('hardtanh', [0.0, 6.0]),
}
"""What a convolution can do to its output before it writes it, with oneDNN's name and constants for it."""

NOTHING: tuple[str, list[float]] = ('none', [])
"""The same for a convolution that does nothing to its output."""

PIECE = 2**15
"""Numbers at a time: their float32 copies stay in a core's second cache."""

HIGHEST = 20.0
"""Beyond it mish(x) is x in float32, and the square of its exponential would grow without need."""


class _Tracer(fx.Tracer):
    """Takes layers as a whole, those of timm and our own among them."""

    def __init__(self, *layers: type[nn.Module]) -> None:
        super().__init__()
        self._layers = (nn.Conv2d, nn.BatchNorm2d, *layers)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, self._layers) or super().is_leaf_module(module, name)


def consecutive_layers(
    network: nn.Module, first: type[nn.Module], second: tuple[type[nn.Module], ...]
) -> list[tuple[str, str]]:
    """Find pairs of layers, each called once, of which the second alone takes the output of the first.

    Args:
        network: a network in evaluation mode. Where its graph cannot be traced, no pairs are found.
        first: kind of the layer that comes first, subclasses included.
        second: kinds of the layer that follows, subclasses included.
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
    """Find the node whose output this one takes, if no other takes it."""
    source = node.args[0] if node.args else None
    return source if isinstance(source, fx.Node) and len(source.users) == 1 else None


def fold_batch_norms(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Fold what a convolution's batch normalisation does in evaluation mode into its weights.

    Equal up to rounding. Pairs that cannot be told from the network's graph stay as they are, and so
    does a whole network that cannot be traced, and in float16 a convolution whose weights it would not hold.

    Args:
        network: a network in evaluation mode; its modules are replaced in place, its tensors are left alone.
        dtype: type that the folded weights will be kept in.

    Returns:
        The network itself.
    """
    activating = _activating_norms()
    for first, second in consecutive_layers(network, nn.Conv2d, (nn.BatchNorm2d,)):
        conv, norm = network.get_submodule(first), network.get_submodule(second)
        # Exact types: a subclass may do more, as timm's convolutions that standardise their weights.
        if type(conv) not in (nn.Conv2d, SameConv2d) or type(norm) not in (nn.BatchNorm2d, *activating):
            continue
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            folded = fuse_conv_bn_eval(cast(nn.Conv2d, conv), norm)
            if dtype == torch.float16 and not _holds_in_float16(folded):
                continue
            network.set_submodule(first, folded)
            after = [part for name, part in norm.named_children() if name in {'drop', 'act'}]
            network.set_submodule(second, nn.Sequential(*after))
    return network


def _holds_in_float16(conv: nn.Conv2d) -> bool:
    """Whether float16 holds the weights of a convolution.

    None may be too large, and what the smallest ones lose has to be less than what the largest one is rounded
    by: that one is a normal number of the type then, 0.00006 or more. Channels that are nearly dead may be
    rounded to nothing.
    """
    limits, tensors = torch.finfo(torch.float16), (conv.weight, conv.bias)
    largest = [0.0 if tensor is None else float(tensor.detach().abs().max()) for tensor in tensors]
    return max(largest) <= limits.max and largest[0] >= limits.smallest_normal


def _activating_norms() -> tuple[type[nn.Module], ...]:
    """Norms that activate too: ours, and timm's where it is imported, as it is where a network is timm's."""
    timm = sys.modules.get('timm.layers.norm_act')
    return (NormReLU6,) if timm is None else (NormReLU6, timm.BatchNormAct2d)


def pack_convolutions(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Let convolutions compute by oneDNN with packed weights, and activate what they compute themselves.

    Weights are brought into oneDNN's own layout once instead of for every batch, and maps are not read and
    written again to activate them. Biases stay float32. What is called is what `torch.compile` calls for
    frozen networks. Does nothing where oneDNN cannot compute in the type, or is not there.

    Args:
        network: a network for inference on a CPU; its convolutions and activations are replaced in place.
        dtype: that it computes in; nothing is packed in float16.

    Returns:
        The network itself.
    """
    able = packs_float32() if dtype == torch.float32 else packs_bfloat16()
    if not able or dtype == torch.float16:
        return network
    for name, module in list(network.named_modules()):
        if _is_plain(module):
            network.set_submodule(name, _PackedConv2d(module, dtype))
    for first, second in consecutive_layers(network, _PackedConv2d, tuple(ACTIVATIONS)):
        conv, activation = network.get_submodule(first), network.get_submodule(second)
        if isinstance(conv, _PackedConv2d) and type(activation) in ACTIVATIONS:
            conv.activation = ACTIVATIONS[type(activation)]
            network.set_submodule(second, nn.Identity())
    return network


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a convolution and nothing more, as hooks and timm's padding by itself are."""
    return (
        type(module) in (nn.Conv2d, SameConv2d)
        and module.padding_mode == 'zeros'
        and isinstance(module.padding, tuple)
        and not (module._forward_hooks or module._forward_pre_hooks)
    )


class _PackedConv2d(nn.Module):
    """A convolution of channels-last maps with packed weights, activated.

    oneDNN's operator pads both sides alike. Where one side wants a row or a column more, filters get one of
    zeros on the other side: that is as good, and spares a padded copy of the maps.

    Attributes:
        weight: the convolution's weights, for networks that look at them.
        bias: the convolution's biases.
        activation: one of `ACTIVATIONS`, or `NOTHING`.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.activation = NOTHING
        self._dtype = dtype
        self._margins = conv.margins if isinstance(conv, SameConv2d) else None
        self._padding = conv.padding
        self._options = (conv.stride, conv.dilation, conv.groups)
        self._packed: dict[tuple[int, int], Tensor] = {}
        if self._margins is None:
            self._pack(0, 0)

    def _pack(self, above: int, left: int) -> None:
        """Pack the weights with so many rows and columns of zeros."""
        weights = functional.pad(self.weight.detach(), (left, 0, above, 0)).to(self._dtype).to_mkldnn()
        pack = torch._C._nn.mkldnn_reorder_conv2d_weight
        self._packed[above, left] = pack(weights, self._padding, *self._options)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Convolve and activate (N, C, H, W)."""
        padding, zeros = self._padding, (0, 0)
        if self._margins is not None:
            rows, columns = self._margins(*images.shape[2:])
            padding, zeros = (rows[1], columns[1]), (rows[1] - rows[0], columns[1] - columns[0])
            if zeros not in self._packed:
                self._pack(*zeros)
        convolve = torch.ops.mkldnn._convolution_pointwise
        weights, options = self._packed[zeros], (padding, *self._options, *self.activation)
        return convolve(images.to(self._dtype), weights, self.bias, *options, '')  # type: ignore[no-any-return]


class CachedMish(nn.Module):
    """Mish (Misra 2019), x tanh(ln(1 + e^x)), as x n / (n + 2) with n = e^x (e^x + 2).

    One exponential and a few products per number instead of an exponential, a logarithm and a tangent, on
    pieces that stay in cache. Equal to torch's up to rounding in float32; bfloat16 is computed in float32 and
    rounded once.

    Args:
        inplace: write over the input, which spares fresh memory for every map.
    """

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, maps: Tensor) -> Tensor:
        """Mish of maps, in their own layout and type."""
        answer = maps if self.inplace else maps.clone()
        for piece in _flat(answer).split(PIECE):
            values = piece.float()
            powers = values.clamp(max=HIGHEST).exp_()
            powers.mul_(powers + 2)
            share = powers.div_(powers + 2)
            piece.copy_(share.mul_(values))
        return answer


def _flat(maps: Tensor) -> Tensor:
    """View the numbers of maps in the order in which memory holds them, as a view."""
    if maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last):
        return maps.permute(0, 2, 3, 1).view(-1)
    return maps.view(-1)


def quicken_mish(network: nn.Module) -> nn.Module:
    """Replace torch's mish in a network for inference on a CPU.

    What a convolution writes for its activation alone is written over; other maps are left as they are.

    Args:
        network: a network whose activations are replaced in place.

    Returns:
        The network itself.
    """
    if not any(type(module) is nn.Mish for module in network.modules()):  # a graph takes time
        return network
    alone = {second for _, second in consecutive_layers(network, nn.Conv2d, (nn.Mish,))}
    for name, module in list(network.named_modules()):
        if type(module) is nn.Mish:
            network.set_submodule(name, CachedMish(inplace=name in alone))
    return network


class EagerRuntime:
    """A copy of a network, laid out for inference; the network itself is not changed.

    Channels-last throughout, and weights in the type that they compute in.

    Args:
        network: a network in evaluation mode, on the device where it shall run.
        precision: precision of the forward pass, under autocast.
        device: device on which it runs.
        compile: let torch compile the network (slow to start, pays on large scenes).

    Attributes:
        network: the copy.
    """

    name = 'torch'

    def __init__(
        self, network: nn.Module, precision: Precision, device: torch.device, *, compile: bool = False
    ) -> None:
        self.precision = precision
        self._device = device
        plain_cpu = device.type == 'cpu' and not compile
        prepared = _prepared(network, DTYPES[precision], tuned=plain_cpu)
        self.network = prepared
        self._forward = torch.compile(prepared) if compile else prepared

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits of normalised images, as `geores.runtime.base.Runtime` says."""
        dtype = DTYPES[self.precision]
        # Narrowed before it is turned: half the bytes to move.
        images = images.to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, dtype, enabled=dtype != torch.float32):
            logits: Tensor = self._forward(images)
        return logits


def keep_runtime(
    network: nn.Module, precision: Precision, device: torch.device, kind: type[EagerRuntime] = EagerRuntime
) -> EagerRuntime:
    """Lay a network out once for all scenes, as long as it lives and its weights stay as they are.

    So that neither the time nor the memory of a copy on the device is spent for each scene again.

    Args:
        network: a network in evaluation mode, on the device.
        precision: precision of the forward pass.
        device: device on which it runs.
        kind: of the runtime.
    """
    tensors = (*network.parameters(), *network.buffers())
    if any(tensor.is_inference() for tensor in tensors):  # which do not tell whether they were changed
        return kind(network, precision, device)
    # A tensor that is put in the place of another is another object; one that is written over counts it.
    state = tuple((id(tensor), tensor._version) for tensor in tensors)
    kept, key = _KEPT.setdefault(network, {}), (kind, precision, device)
    if key not in kept or kept[key][0] != state:
        kept[key] = (state, kind(network, precision, device))
    return kept[key][1]


_KEPT: WeakKeyDictionary[nn.Module, dict[Any, tuple[tuple[tuple[int, int], ...], EagerRuntime]]]
_KEPT = WeakKeyDictionary()


def _prepared(network: nn.Module, dtype: torch.dtype, *, tuned: bool) -> nn.Module:
    """Make a copy for inference: channels-last, and convolutions and matrices in the type they compute in.

    Autocast alone would cast all weights anew for every batch, to the same bits. Batch normalisation is
    folded into the convolutions, in float16 where that holds the folded weights.
    """
    # The weights are made anew below: copying them first would only cost time and memory.
    network = deepcopy(network, {id(weights): weights for *_, weights in layer_weights(network)})
    fold_batch_norms(network, dtype)
    if dtype == torch.bfloat16:
        round_keeping_sums(network)
    if tuned:  # for a CPU; torch.compile fuses by itself
        quicken_mish(network)
        if dtype != torch.float16:  # which is for other devices
            pack_convolutions(network, dtype)
    for module, name, weights in layer_weights(network):
        layout = torch.channels_last if weights.ndim == 4 else torch.contiguous_format
        moved = weights.to(dtype, memory_format=layout)
        setattr(module, name, nn.Parameter(moved, requires_grad=False))
    return network
