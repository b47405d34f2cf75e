"""How far a network that labels pixels looks."""

import torch
from torch import Tensor, nn

__all__ = ['context_of']


def context_of(network: nn.Module, bands: int, alignment: int, size: int) -> int | None:
    """The margin around a pixel on which its logits depend, measured.

    The gradient of one pixel's logits is 0 wherever its label does not depend on. Every place of a pixel
    within the alignment is asked.

    Args:
        network: Takes (1, bands, size, size); put in evaluation mode, and left in the mode it was in.
        bands: Number of bands.
        alignment: Of its windows, in pixels.
        size: Height and width to measure on, a multiple of the alignment.

    Returns:
        In pixels; None if it reaches the edge of such a window, and so may look farther.
    """
    mode = network.training
    network.eval()
    middle = size // 2 // alignment * alignment
    reach = 0
    generator = torch.Generator().manual_seed(0)
    try:
        for place in range(middle, middle + alignment):
            images = torch.randn(1, bands, size, size, generator=generator).requires_grad_()
            with torch.enable_grad():
                logits: Tensor = network(images)
                (gradient,) = torch.autograd.grad(logits[0, :, place, place].sum(), images)
            touched = gradient[0].abs().amax(0) > 0
            for line in (touched.any(0), touched.any(1)):
                places = line.nonzero().flatten()
                if not len(places):
                    continue
                if places[0] == 0 or places[-1] == size - 1:
                    return None
                reach = max(reach, place - int(places[0]), int(places[-1]) - place)
    finally:
        network.train(mode)
    return reach
