"""timm's EfficientNet-Lite, small networks that are quick on CPUs, with any number of bands.

Tan and Le 2019, in the variant without squeeze-and-excitation and with ReLU6. Those named `tf_` pad as
TensorFlow does, and take weights that were trained there.
"""

import functools
from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

from geores.errors import UsageError
from geores.models._timm import create
from geores.models.indices import NormalisedDifferences, with_indices
from geores.models.registry import register

_ARGUMENTS = frozenset({'drop_rate', 'drop_path_rate'})


def _lite(
    name: str,
    *,
    in_chans: int = 3,
    stem_stride: int = 2,
    indices: Mapping[str, Any] | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> nn.Module:
    """Build one.

    Args:
        name: timm's name.
        in_chans: Number of bands.
        stem_stride: 1 looks at small tiles twice as finely.
        indices: Arguments of `NormalisedDifferences`, which the network sees beside the bands.
        **kwargs: Further arguments.

    Raises:
        UsageError: An argument is out of range.
    """
    if stem_stride not in {1, 2}:
        raise UsageError(f'stem_stride has to be 1 or 2, not {stem_stride!r}')
    spectra = None if indices is None else NormalisedDifferences(**indices)
    if spectra is not None and len(spectra.mean) != in_chans:
        raise UsageError(f'indices have statistics of {len(spectra.mean)} bands, and there are {in_chans}')
    network = create(name, _ARGUMENTS, in_chans=in_chans + (spectra.count if spectra else 0), **kwargs)
    stem: Any = network.conv_stem
    stem.stride = (stem_stride, stem_stride)
    if spectra is not None:
        network.conv_stem = with_indices(stem, spectra)
    return network


for _name in timm.list_models('*efficientnet_lite*'):
    register(_name)(functools.partial(_lite, _name))
