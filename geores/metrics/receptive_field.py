"""The context of a network that labels pixels: how far around a pixel it looks."""

import torch
from torch import Tensor, nn

__all__ = ['measure_context']


def measure_context(network: nn.Module, bands: int, alignment: int, size: int) -> int | None:
    """Measure the margin around a pixel that its logits depend on.

    The gradient of a pixel's logits is 0 at all pixels that they do not depend on. It is taken at every
    offset of a pixel within the alignment, since pooling makes the margin differ between offsets.

    Args:
        network: that takes (1, bands, size, size); measured in evaluation mode, and left in its own mode.
        bands: number of bands.
        alignment: of the network's windows, in pixels.
        size: height and width to measure on, a multiple of the alignment.

    Returns:
        The margin in pixels; None where it reaches the edge of the window, so that it may be larger.
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
