"""What this machine's processor can compute in: asked here alone, so that tests can set it.

`GEORES_BFLOAT16=0` in the environment makes geores compute as on a processor without bfloat16.
"""

import os

import torch

__all__ = ['BFLOAT16', 'has_bfloat16', 'packs_bfloat16']

BFLOAT16 = 'GEORES_BFLOAT16'
"""Environment variable; '0' turns bfloat16 on CPUs off."""


def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16 itself, so that it is faster than float32."""
    if os.environ.get(BFLOAT16) == '0':
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def packs_bfloat16() -> bool:
    """Whether oneDNN convolves in bfloat16 here, with weights in a layout of its own."""
    if os.environ.get(BFLOAT16) == '0' or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
