"""What stands under every model: something that maps normalised images to logits."""

from typing import Literal, Protocol

import torch
from torch import Tensor

__all__ = ['DTYPES', 'Precision', 'Runtime']

Precision = Literal['fp32', 'bf16', 'fp16']

DTYPES: dict[Precision, torch.dtype] = {
    'fp32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}


class Runtime(Protocol):
    """A network ready to run; safe to call from many threads.

    Attributes:
        name: such as 'torch' or 'onnxruntime', as notes and records say it.
        precision: in which it computes.
    """

    name: str
    precision: Precision

    def __call__(self, images: Tensor) -> Tensor:
        """Logits of normalised images.

        Args:
            images: (N, C, H, W), float32, on the model's device; may be overwritten.

        Returns:
            (N, K), or (N, K, H, W) of a network that labels pixels, of any float type.
        """
