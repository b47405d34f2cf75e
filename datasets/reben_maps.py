"""BigEarthNet v2.0 (reBEN) with its reference maps: a label for every pixel."""

from functools import cached_property
from typing import Literal

import torch

from geores.datasets.reben import ReBEN, ReBENDataModule
from geores.metrics.pixels import IGNORED

__all__ = ['ReBENMapsDataModule']


class ReBENMapsDataModule(ReBENDataModule):
    """The official parts of `ReBEN` with the 19 classes of every pixel; arguments as in `ReBENDataModule`.

    Pixels whose CORINE code has no label are 255 and do not count.
    """

    def make_dataset(self) -> ReBEN:
        """All patches, of all parts, with their maps."""
        return ReBEN(split='all', maps=True, **self._options)

    @property
    def task(self) -> Literal['segmentation']:
        """That pixels have labels."""
        return 'segmentation'

    @cached_property
    def class_counts(self) -> torch.Tensor:
        """Pixels of each class in the training patches, (K,)."""
        counts = torch.zeros(len(self.labels), dtype=torch.int64)
        for index in self.split.train:
            mask = self.dataset[index]['mask']
            counts += torch.bincount(mask[mask != IGNORED], minlength=len(self.labels))
        return counts
