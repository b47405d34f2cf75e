"""Networks run by torch itself, at the best precision that the device supports."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from geores.runtime.base import DTYPES, Precision
from geores.runtime.rewriting import fold_batch_norms, pack_convolutions, quicken_mish

__all__ = ['EagerRuntime']


class EagerRuntime:
    """A copy of a network, laid out for inference; the network itself is not changed.

    Channels-last throughout, and weights in the type that they compute in.

    Args:
        network: a network in evaluation mode, on the device where it shall run.
        precision: precision of the forward pass, under autocast.
        device: device on which it runs.
        compile: let torch compile the network (slow to start, pays on large scenes).
    """

    name = 'torch'

    def __init__(
        self, network: nn.Module, precision: Precision, device: torch.device, *, compile: bool = False
    ) -> None:
        self.precision = precision
        self._device = device
        plain_cpu = device.type == 'cpu' and not compile
        prepared = _prepared(network, DTYPES[precision], tuned=plain_cpu)
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


def _prepared(network: nn.Module, dtype: torch.dtype, *, tuned: bool) -> nn.Module:
    """Make a copy for inference: channels-last, and convolutions and matrices in the type they compute in.

    Autocast alone would cast all weights anew for every batch, to the same bits. Batch normalisation is
    folded into the convolutions, but for float16, which has less range than float32 and could lose small
    weights.
    """
    # The weights are made anew below: copying them first would only cost time and memory.
    network = deepcopy(network, {id(weights): weights for *_, weights in _weights(network)})
    if dtype != torch.float16:
        fold_batch_norms(network)
    if tuned:  # for a CPU; torch.compile fuses by itself
        quicken_mish(network)
        if dtype == torch.bfloat16:
            pack_convolutions(network)
    for module, name, weights in _weights(network):
        layout = torch.channels_last if weights.ndim == 4 else torch.contiguous_format
        moved = weights.to(dtype, memory_format=layout)
        setattr(module, name, nn.Parameter(moved, requires_grad=False))
    return network


def _weights(network: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """List weights and biases of convolutions and matrices, each with its module and its name there."""
    return [
        (module, name, weights)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        for name, weights in module.named_parameters(recurse=False)
    ]
