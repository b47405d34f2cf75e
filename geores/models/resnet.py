"""All of timm's ResNets, with any number of bands."""

import functools
import inspect

import timm
from timm.models.resnet import ResNet

from geores.models._timm import create
from geores.models.registry import register

_RESNET_ARGUMENTS = frozenset(inspect.signature(ResNet).parameters) - {'block', 'layers'}

for _name in timm.list_models(module='resnet'):
    register(_name)(functools.partial(create, _name, _RESNET_ARGUMENTS))
