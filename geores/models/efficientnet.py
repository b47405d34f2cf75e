"""timm's EfficientNet-Lite, small networks that are quick on CPUs, with any number of bands.

Tan and Le 2019, in the variant without squeeze-and-excitation and with ReLU6. Those named `tf_` pad as
TensorFlow does, and take weights that were trained there.
"""

import functools
from typing import Any

import timm
from torch import nn

from geores.errors import UsageError
from geores.models._timm import create
from geores.models.registry import register

_LITE_ARGUMENTS = frozenset({'drop_rate', 'drop_path_rate'})


def _lite(name: str, *, stem_stride: int = 2, **kwargs: Any) -> nn.Module:  # noqa: ANN401
    """Build one; a `stem_stride` of 1 looks at small tiles twice as finely."""
    if stem_stride not in {1, 2}:
        raise UsageError(f'stem_stride has to be 1 or 2, not {stem_stride!r}')
    network = create(name, _LITE_ARGUMENTS, **kwargs)
    stem: Any = network.conv_stem
    stem.stride = (stem_stride, stem_stride)
    return network


for _name in timm.list_models('*efficientnet_lite*'):
    register(_name)(functools.partial(_lite, _name))
