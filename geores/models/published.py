"""Networks of timm that published models of BigEarthNet v2 use beside ResNets.

Tokens of a transformer or a mixer are counted from its input's size, so that these take `img_size`.
"""

import functools

import timm

from geores.models._timm import create
from geores.models.registry import register

_DROPS = frozenset({'drop_rate', 'drop_path_rate'})
_SIZED = _DROPS | {'img_size'}

_PUBLISHED_ARGUMENTS = {
    'convmixer_768_32': frozenset({'drop_rate'}),
    'convnextv2_base': _DROPS,
    'mixer_b16_224': _SIZED,
    'mobilenetv4_hybrid_medium': _DROPS,
    'mobilevit_s': _DROPS,
    'rdnet_base': _DROPS,
    'vit_base_patch8_224': _SIZED,
}

SIZED = frozenset(name for name, arguments in _PUBLISHED_ARGUMENTS.items() if 'img_size' in arguments)
"""Those that are built for one size of input."""

for _name, _arguments in _PUBLISHED_ARGUMENTS.items():
    if timm.is_model(_name):  # older versions lack some
        register(_name)(functools.partial(create, _name, _arguments))
