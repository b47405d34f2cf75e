"""Networks by name: plain modules that a bundle's card alone can rebuild."""

from geores.models import dynamic_world as dynamic_world
from geores.models import efficientnet as efficientnet
from geores.models import factors as factors
from geores.models import latents as latents
from geores.models import published as published
from geores.models import resnet as resnet
from geores.models import segmentation as segmentation
from geores.models import vqa as vqa
from geores.models.registry import architectures, create, register

__all__ = ['architectures', 'create', 'register']
