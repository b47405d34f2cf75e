"""The one place that imports torchgeo, whose module names move between releases."""

from torchgeo.datasets import RESISC45 as TorchgeoRESISC45  # noqa: N811
from torchgeo.datasets import NonGeoDataset

__all__ = ['NonGeoDataset', 'TorchgeoRESISC45']
