"""Convolutions as oneDNN computes them best, for bfloat16 on CPUs."""

from typing import TypeGuard

import torch
from torch import Tensor, nn

from geores.runtime.processor import packs_bfloat16
from geores.runtime.tracing import follow

__all__ = ['pack_convolutions']

ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ('relu', []),
    nn.ReLU6: ('hardtanh', [0.0, 6.0]),
}
"""What a convolution can do to its output before it writes it, with oneDNN's name and constants for it."""

NOTHING: tuple[str, list[float]] = ('none', [])


def pack_convolutions(network: nn.Module) -> nn.Module:
    """Let convolutions compute in bfloat16, with packed weights, and activate what they compute themselves.

    Weights are brought into oneDNN's own layout once instead of for every batch, and maps are not read and
    written again to activate them. Biases stay float32. What is called is what `torch.compile` calls for
    frozen networks. Does nothing where oneDNN cannot compute in bfloat16, or is not there.

    Args:
        network: for inference on a CPU; its convolutions and activations are replaced in place.

    Returns:
        The network itself.
    """
    if not packs_bfloat16():
        return network
    for name, module in list(network.named_modules()):
        if _is_plain(module):
            network.set_submodule(name, _PackedConv2d(module))
    for first, second in follow(network, _PackedConv2d, tuple(ACTIVATIONS)):
        conv, activation = network.get_submodule(first), network.get_submodule(second)
        if isinstance(conv, _PackedConv2d) and type(activation) in ACTIVATIONS:
            conv.activation = ACTIVATIONS[type(activation)]
            network.set_submodule(second, nn.Identity())
    return network


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a convolution and nothing more, as hooks and timm's padding by itself are."""
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == 'zeros'
        and isinstance(module.padding, tuple)
        and not (module._forward_hooks or module._forward_pre_hooks)
    )


class _PackedConv2d(nn.Module):
    """A convolution of channels-last maps with packed weights, activated.

    Attributes:
        weight: As before, for networks that look at it.
        bias: Likewise.
        activation: One of `ACTIVATIONS`, or `NOTHING`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.activation = NOTHING
        self._options = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self._packed = torch._C._nn.mkldnn_reorder_conv2d_weight(
            conv.weight.detach().to(torch.bfloat16).to_mkldnn(),
            *self._options,  # type: ignore[arg-type]
        )

    def forward(self, images: Tensor) -> Tensor:
        """The convolution of (N, C, H, W)."""
        convolve = torch.ops.mkldnn._convolution_pointwise
        images = images.to(torch.bfloat16)
        return convolve(images, self._packed, self.bias, *self._options, *self.activation, '')  # type: ignore[no-any-return]
