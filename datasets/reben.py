"""BigEarthNet v2.0 (reBEN, Clasen et al. 2024): Sentinel-1 and Sentinel-2 patches with 19 classes.

Patches have any number of labels; with the reference maps, every pixel has one.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from geores.bigearthnet.labels import LabelOrder, labels_in
from geores.bigearthnet.metadata import (
    RELEASE,
    Interpolation,
    SplitName,
    check_partners,
    find_metadata,
    multi_hot_labels,
    official_statistics,
    read_metadata,
)
from geores.bigearthnet.opening import open_store
from geores.bigearthnet.stores import S1_BANDS
from geores.card_values import SplitParameters
from geores.datasets._module import ImageDataModule, NonGeoDataset, Sample
from geores.datasets._reben_files import SIDE, PatchImages, resolve_bands
from geores.errors import DatasetError, UsageError
from geores.metrics.confusion import IGNORED
from geores.splits import Split

if TYPE_CHECKING:
    import geopandas

__all__ = ['ReBEN', 'ReBENDataModule', 'ReBENMapsDataModule']

SOURCE = 'reBEN'


class ReBEN(NonGeoDataset):
    """Patches of BigEarthNet v2.0 (Clasen et al. 2024), from released folders or an LMDB at `root`.

    The released folders hold GeoTIFFs, and only those that are asked for have to exist; the LMDB is one of
    rico-hdl.

    A sample has `image` (C, 120, 120) float32: Sentinel-2 in L2A digital numbers, Sentinel-1 in dB;
    `label` (19,) float32 of 0 and 1, `bands`, `source` and `id` (the patch id). With `maps` also `mask`
    (120, 120) int64: places in `labels`, 255 where CORINE Land Cover gives no label. With
    `interpolation='native'` there is no `image`, but `image_s1` (float32), `image_10m`, `image_20m`
    and `image_60m` (uint16), which `geores.datasets.expand` brings to one grid later, on any device.

    Args:
        root: the folder.
        split: 'train', 'val' (or 'validation'), 'test', or 'all': the official parts.
        bands: 's1', 's2' (ten bands), 's2-full' (twelve), 'all' (VV, VH and the ten), 'all-full', or
            names in the order wanted.
        interpolation: how bands of 20 and 60 m are resampled to 10 m: 'nearest' as in the published models,
            'bilinear', or 'native' for not at all.
        maps: read the reference maps too.
        snow_and_clouds: take patches with seasonal snow, clouds or shadows too.
        label_order: 'lexicographic', that of all published models, or 'original', that of CORINE.
        metadata: `metadata.parquet` or its folder, if it is not at `root` or in the folder above.
        only_present: leave out patches that are not there, which otherwise is an error; for parts of the
            archive.

    Raises:
        DatasetError: if the root, the table, a column or a part of the archive is missing.
        BandError: if a band is unknown.
        UsageError: if a split, an order or an interpolation is unknown.
    """

    task: Literal['multi-label', 'single-label'] = 'multi-label'
    side = SIDE

    def __init__(
        self,
        root: str | Path,
        split: SplitName = 'train',
        bands: str | Sequence[str] = 'all',
        interpolation: Interpolation = 'nearest',
        maps: bool = False,
        snow_and_clouds: bool = False,
        label_order: LabelOrder = 'lexicographic',
        metadata: str | Path | None = None,
        only_present: bool = False,
    ) -> None:
        if interpolation not in get_args(Interpolation):
            known = ', '.join(get_args(Interpolation))
            raise UsageError(f'interpolation has to be one of {known}, not {interpolation!r}')
        self.bands = resolve_bands(bands)
        self.labels = labels_in(label_order)
        store = open_store(root)
        path = find_metadata(root, metadata)
        table = read_metadata(path, split, snow_and_clouds=snow_and_clouds)
        if set(self.bands) & set(S1_BANDS):
            check_partners(table, path)
        images = PatchImages(store, table, self.bands, interpolation, maps=maps)
        if only_present:
            table = table.take(images.present())
            images = PatchImages(store, table, self.bands, interpolation, maps=maps)
        images.check_first()
        self.images = images
        self.targets: NDArray[Any] = multi_hot_labels(table, label_order).astype(np.float32)
        self.splits: list[str] = table['split'].to_pylist()
        self.ids = self.images.ids
        self._maps = label_order if maps else None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        sample: Sample = self.images.sample(index)
        sample['label'] = torch.from_numpy(self.targets[index].copy())
        if self._maps is not None:
            sample['mask'] = torch.from_numpy(self.images.classes(index, self._maps))
        sample['bands'] = self.bands
        sample['source'] = SOURCE
        sample['id'] = self.ids[index]
        return sample

    def read_batch(
        self, indices: Sequence[int], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Read the images of several samples at once, which is faster than one by one.

        Args:
            indices: indices of N samples.
            out: (N, C, 120, 120) to write to again and again, contiguous: pages that the system has to
                hand out anew cost more than reading does.

        Returns:
            `out`, or a new array.

        Raises:
            UsageError: with `interpolation='native'`, whose bands are of several sizes.
        """
        return self.images.batch(indices, out)

    @property
    def sources(self) -> list[str]:
        """The name of the data set, for each sample."""
        return [SOURCE] * len(self)

    @cached_property
    def strata(self) -> list[str]:
        """Labels of each sample, joined to one text."""
        return ['|'.join(self.labels[place] for place in np.flatnonzero(row)) for row in self.targets]

    def footprints(self, crs: str = 'EPSG:4326') -> 'geopandas.GeoDataFrame':
        """Outlines of the samples, in order.

        Args:
            crs: CRS of the outlines; the patches lie in several UTM zones.
        """
        from geores.bigearthnet.patch_id import footprints

        return footprints(self.ids, crs)


class ReBENDataModule(ImageDataModule):
    """The official parts of `ReBEN`, with the official statistics.

    Args:
        root: as in `ReBEN`.
        bands: as in `ReBEN`.
        interpolation: as in `ReBEN`; not 'native', for tasks take one image.
        batch_size: patches per batch and device.
        num_workers: number of reader processes per device.
        train_split: the part to train on.
        val_split: the part to validate on.
        test_split: the part to test on.
        snow_and_clouds: as in `ReBEN`.
        label_order: as in `ReBEN`.
        metadata: as in `ReBEN`.
        only_present: as in `ReBEN`.
        seed: random seed of the order of training patches.
    """

    size = SIDE

    def __init__(
        self,
        root: str,
        bands: str | list[str] = 'all',
        interpolation: Literal['nearest', 'bilinear'] = 'nearest',
        batch_size: int = 64,
        num_workers: int = 0,
        train_split: SplitName = 'train',
        val_split: SplitName = 'val',
        test_split: SplitName = 'test',
        snow_and_clouds: bool = False,
        label_order: LabelOrder = 'lexicographic',
        metadata: str | None = None,
        only_present: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed=seed, num_workers=num_workers)
        self.parts = {'train': train_split, 'val': val_split, 'test': test_split}
        self._options: dict[str, Any] = {
            'root': root,
            'bands': bands,
            'interpolation': interpolation,
            'snow_and_clouds': snow_and_clouds,
            'label_order': label_order,
            'metadata': metadata,
            'only_present': only_present,
        }

    fixed_labels = True
    parts_by_image = False

    @property
    def card_text(self) -> Mapping[str, Any]:
        """Defaults from the release, by the sensors of the bands."""
        radar = [band in S1_BANDS for band in self.bands]
        kind = 'radar' if all(radar) else 'both' if any(radar) else 'optical'
        sensor, level, units = {
            'radar': ('Sentinel-1 C-SAR', 'GRD IW, terrain corrected, dB', 'dB'),
            'optical': ('Sentinel-2 MSI', 'L2A', 'reflectance*10000'),
            'both': ('Sentinel-1 C-SAR and Sentinel-2 MSI', 'GRD IW in dB, and L2A', 'reflectance*10000, dB'),
        }[kind]
        return {
            'sensor': sensor,
            'processing_level': level,
            'units': units,
            'gsd': (10, 10),
            'resampling': self._options['interpolation'],
            'training_data': (RELEASE,),
        }

    def make_dataset(self) -> ReBEN:
        """All patches, of all parts."""
        return ReBEN(split='all', **self._options)

    @cached_property
    def split(self) -> Split:
        """Indices of training and validation patches."""
        train, val = (self._positions(part) for part in ('train', 'val'))
        snow = '-snow-and-clouds' if self._options['snow_and_clouds'] else ''
        parts = self.parts['train'], self.parts['val']
        method = SplitParameters(method='official', parts=parts)
        return Split(train, val, f'reben-official-{parts[0]}-{parts[1]}{snow}', method=method)

    @cached_property
    def statistics(self) -> tuple[list[float], list[float]]:
        """The official mean and standard deviation of each band."""
        return official_statistics(self.bands, self._options['interpolation'])

    def test_dataloader(self) -> DataLoader[Sample]:
        """Test batches."""
        return self._loader(self._positions('test'), self.batch_size, shuffle=False)

    def _positions(self, part: str) -> list[int]:
        name = {'val': 'validation'}.get(self.parts[part], self.parts[part])
        splits: list[str] = self.dataset.splits  # type: ignore[attr-defined]
        found = [index for index, one in enumerate(splits) if name in {'all', one}]
        if not found:
            raise DatasetError(f'no patch is of split {name!r}, which {part}_split asks for')
        return found


class ReBENMapsDataModule(ReBENDataModule):
    """The official parts of `ReBEN` with the 19 classes of every pixel; arguments as in `ReBENDataModule`.

    Pixels whose CORINE code has no label are 255 and do not count.
    """

    def make_dataset(self) -> ReBEN:
        """All patches, of all parts, with their maps."""
        return ReBEN(split='all', maps=True, **self._options)

    @property
    def task(self) -> Literal['segmentation']:
        """Kind of labels: segmentation."""
        return 'segmentation'

    @cached_property
    def class_counts(self) -> torch.Tensor:
        """Number of pixels per class in the training patches, (K,)."""
        counts = torch.zeros(len(self.labels), dtype=torch.int64)
        for index in self.split.train:
            mask = self.dataset[index]['mask']
            counts += torch.bincount(mask[mask != IGNORED], minlength=len(self.labels))
        return counts
