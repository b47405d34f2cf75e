"""The one place that imports torchgeo, whose module names move between releases."""

from torchgeo.datasets import NonGeoDataset

__all__ = ['NonGeoDataset']
