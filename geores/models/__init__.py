"""Networks by name: plain modules that a bundle's card alone can rebuild."""

from geores.models import amounts, latents, segmentation, vqa  # noqa: F401 - registers them
from geores.models.registry import architectures, create, register, without_memory

__all__ = ['architectures', 'create', 'register', 'without_memory']
