"""Folders of GeoTIFF patches: with a table of labels, or with class maps beside them for segmentation."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from geores.datasets._geotiff import FilledPatches, band_names, open_geotiff
from geores.datasets._module import ImageDataModule, LabelledImages, NonGeoDataset, Sample
from geores.errors import DatasetError
from geores.io.tables import read_rows, visible_files
from geores.metrics.confusion import IGNORED

__all__ = ['GeoTIFFPairs', 'GeoTIFFPairsDataModule', 'GeoTIFFPatches', 'GeoTIFFPatchesDataModule']

TABLE = 'labels.csv'
UNLABELLED = -1


class GeoTIFFPatches(NonGeoDataset):
    """Patches in `images/*.tif` and their labels in `labels.csv` (columns `file` and `label`).

    Bands are named by their descriptions in the files.

    A sample has `image` (C, H, W) float32 in the files' units, `label` int64, `bands`, `source`
    (name of the root's folder) and `id` (source/file name).

    Args:
        root: the folder, or several, which are put one behind the other.
        bands: names of the bands, in channel order; None takes those of the first file. Where files describe
            no band, the names of all bands in the order of the files.
        size: height and width to bring patches to; None leaves them.
        unlabelled: keep patches whose label is empty; theirs is -1. Otherwise they are only counted
            (`left_out`).
        budget: maximum number of bytes of images to hold in memory.
        fill: value of invalid pixels (declared nodata, masked, NaN) in each band; None mirrors the valid
            ones, as inference does.

    Raises:
        DatasetError: if the root, the table, a column, a file or a band is missing.
    """

    task: Literal['multi-label', 'single-label'] = 'single-label'

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        bands: Sequence[str] | None = None,
        size: int | None = None,
        unlabelled: bool = False,
        budget: int = 2**31,
        fill: Sequence[float] | None = None,
    ) -> None:
        roots = [Path(one) for one in ([root] if isinstance(root, str | Path) else root)]
        tables = [_read_table(one) for one in roots]
        kept = [
            (place, name, label)
            for place, rows in zip(roots, tables, strict=True)
            for name, label in rows.items()
            if label or unlabelled
        ]
        self.left_out = sum(map(len, tables)) - len(kept)
        self.labels = tuple(sorted({label for _, _, label in kept if label}))
        if not self.labels:
            raise DatasetError(f'{roots[0] / TABLE}: no label is ever given')
        paths = [place / 'images' / name for place, name, _ in kept]
        for path in paths:
            if not path.is_file():
                raise DatasetError(f'{path}: no such image, and {TABLE} names it')
        self.bands = band_names(paths[0]) if bands is None else tuple(bands)
        order = {label: index for index, label in enumerate(self.labels)}
        self.targets: NDArray[Any] = np.array(
            [order.get(label, UNLABELLED) for _, _, label in kept], dtype=np.int64
        )
        self.sources = [place.resolve().name for place, _, _ in kept]
        self.ids = [f'{source}/{name}' for source, (_, name, _) in zip(self.sources, kept, strict=True)]
        if len(set(self.ids)) < len(self.ids):
            raise DatasetError('two of the roots have the same name and file: rename one of the folders')
        self.strata = [label for _, _, label in kept]
        self.images = FilledPatches(paths, self.bands, size, fill, budget, in_order=bands is not None)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return {
            'image': torch.from_numpy(self.images[index].astype(np.float32)),
            'label': torch.tensor(self.targets[index]),
            'bands': self.bands,
            'source': self.sources[index],
            'id': self.ids[index],
        }


class GeoTIFFPatchesDataModule(ImageDataModule):
    """Training and validation parts of the labelled `GeoTIFFPatches`, stratified by label.

    Args:
        root: as in `GeoTIFFPatches`.
        bands: as in `GeoTIFFPatches`.
        size: height and width to bring patches to.
        batch_size: patches per batch.
        val_share: share kept for validation; 0 trains on everything.
        seed: random seed of the split.
        num_workers: number of reader processes; 0 is best for patches held in memory.
        budget: maximum number of bytes of patches to hold in memory.
        folds: number of folds of cross-validation, instead of `val_share`.
        fold: number of the validation fold, from 1.
        unlabelled: train on patches without a label too, which a teacher has to answer for.
        split: table of ids and parts, such as `geores split` writes, instead of `val_share`.
    """

    def __init__(
        self,
        root: str | list[str],
        bands: list[str] | None = None,
        size: int = 64,
        batch_size: int = 64,
        val_share: float = 0.2,
        seed: int = 0,
        num_workers: int = 0,
        budget: int = 2**31,
        folds: int | None = None,
        fold: int = 1,
        unlabelled: bool = False,
        split: str | None = None,
    ) -> None:
        super().__init__(batch_size, val_share, seed, num_workers, folds, fold, split)
        self.root = root
        self.size = size
        self.budget = budget
        self.unlabelled = unlabelled
        self._wanted = bands

    @property
    def card_text(self) -> Mapping[str, Any]:
        """Pixel size, if the first patch has a projected CRS."""
        with open_geotiff(self.dataset.images.paths[0]) as source:
            metric = source.crs is not None and source.crs.is_projected
            factor = source.crs.linear_units_factor[1] if metric else 1.0
            gsd = max(source.res) * factor * source.shape[0] / self.size
        return {'gsd': (gsd, gsd)} if metric else {}

    def make_dataset(self) -> LabelledImages:
        """Index the files; no patch is decoded yet."""
        return GeoTIFFPatches(self.root, self._wanted, self.size, self.unlabelled, self.budget)


def _read_table(root: Path) -> dict[str, str]:
    if not root.is_dir():
        raise DatasetError(f'{root.absolute()}: no such folder; set root to where the patches are')
    path = root / TABLE
    rows: dict[str, str] = {}
    for row in read_rows(path, ('file', 'label'), 'no such table of labels', ('file',)):
        rows[row['file'].strip()] = (row['label'] or '').strip()
    return rows


_logger = logging.getLogger(__name__)

IMAGES, MASKS = 'images', 'masks'


class GeoTIFFPairs(NonGeoDataset):
    """Images in `images/*.tif` and their class maps in `masks/`, under the same names.

    Without a folder `images`, the images lie in the root itself. Bands are named by their descriptions in the
    files. A class map holds i for its i-th label, and 0, 255 or its nodata value for unknown pixels. Its
    labels are the category names of its band from value 1 on, as `geores classify` writes them; if `labels`
    are given, these names are looked up among them. Pixels where the image is nodata are unknown.

    A sample has `image` (C, H, W) float32 in the files' units, `mask` (H, W) int64 indices of `labels`
    (255: unknown), `bands`, `source` (name of the root's folder) and `id` (source/file name).

    Args:
        root: the folder.
        bands: names of the bands, in channel order; None takes those of the first file. Where files describe
            no band, the names of all bands in the order of the files.
        labels: names of the classes, in their order; None takes those that the class maps name.
        unlabelled: keep images without a class map too: all their pixels are 255.
        budget: maximum number of bytes of images to hold in memory.

    Raises:
        DatasetError: if the root, an image or a class map is missing, or a class map has no names.
    """

    task: Literal['segmentation'] = 'segmentation'

    def __init__(
        self,
        root: str | Path,
        bands: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        unlabelled: bool = False,
        budget: int = 2**31,
    ) -> None:
        root = Path(root)
        folder = root / IMAGES if (root / IMAGES).is_dir() else root
        paths = visible_files(folder, '*.tif') if folder.is_dir() else []
        if not paths:
            raise DatasetError(f'{folder.absolute()}: no image *.tif; set root to where {IMAGES}/ is')
        self._masks = [root / MASKS / path.name for path in paths]
        self._has = [path.is_file() for path in self._masks]
        if not unlabelled:
            for mask, has in zip(self._masks, self._has, strict=True):
                if not has:
                    raise DatasetError(
                        f'{mask}: no such class map; set unlabelled to train by a teacher alone'
                    )
        self.bands = band_names(paths[0]) if bands is None else tuple(bands)
        self.labels = tuple(labels) if labels is not None else self._names()
        source = root.resolve().name
        self.ids = [f'{source}/{path.name}' for path in paths]
        self.sources = [source] * len(paths)
        self.strata = [source] * len(paths)
        # Only pixels have classes, so the split treats all images as labelled alike.
        self.targets: NDArray[Any] = np.zeros(len(paths), np.int64)
        self.images = FilledPatches(paths, self.bands, None, 'mean', budget, in_order=bands is not None)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        pixels = self.images[index]
        return {
            'image': torch.from_numpy(pixels.astype(np.float32)),
            'mask': torch.from_numpy(self.mask(index, pixels.shape[1:])),
            'bands': self.bands,
            'source': self.sources[index],
            'id': self.ids[index],
        }

    def mask(self, index: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Read the classes of an image's pixels.

        Returns:
            (H, W): places in the labels, 255 where nothing is known or the image is nodata.

        Raises:
            DatasetError: if the class map cannot be read, is of another shape, or holds a class without a
                name.
        """
        if not self._has[index]:
            return np.full(shape, IGNORED, np.int64)
        path = self._masks[index]
        with open_geotiff(path) as source:
            if source.shape != tuple(shape):
                raise DatasetError(f'{path}: of {source.shape} pixels, and its image has {tuple(shape)}')
            try:
                values, nodata = source.read(1), source.nodata
            except RasterioError as error:
                raise DatasetError(f'{path}: the class map cannot be read: {error}') from error
        table = self._places(path)
        known = np.isin(values, list(table))
        strange = ~known & ~np.isin(values, [0, IGNORED, *([] if nodata is None else [nodata])])
        if strange.any():
            raise DatasetError(f'{path}: value {values[strange].flat[0]} is no class that it names')
        classes = np.full(values.shape, IGNORED, np.int64)
        for value, place in table.items():
            classes[values == value] = place
        valid = self.images.valid(index)
        if valid is not None:
            classes[~valid] = IGNORED
        return classes

    def _places(self, path: Path) -> Mapping[int, int]:
        """Map the values of a class map to indices of labels."""
        names = _categories(path)
        if not names:  # the order of the labels counts
            return {place + 1: place for place in range(len(self.labels))}
        unknown = [name for name in names.values() if name not in self.labels]
        if unknown:
            raise DatasetError(f'{path}: names class {unknown[0]!r}; labels are {", ".join(self.labels)}')
        return {value: self.labels.index(name) for value, name in names.items()}

    def _names(self) -> tuple[str, ...]:
        labels: dict[str, None] = {}
        for path, has in zip(self._masks, self._has, strict=True):
            if has:
                found = _categories(path)
                if not found:
                    raise DatasetError(f'{path}: its classes have no category names; set labels')
                labels |= dict.fromkeys(found.values())
        if not labels:
            raise DatasetError(f'{self._masks[0].parent}: no class map names a class; set labels')
        return tuple(labels)


def _categories(path: Path) -> dict[int, str]:
    """Names of a class map's values from 1 on, as GDAL keeps them beside it."""
    from geores.map_accuracy.class_names import category_names

    return {value: name for value, name in category_names(str(path)).items() if 0 < value != IGNORED and name}


class GeoTIFFPairsDataModule(ImageDataModule):
    """Training and validation parts of `GeoTIFFPairs`.

    Args:
        root: as in `GeoTIFFPairs`.
        bands: as in `GeoTIFFPairs`.
        labels: as in `GeoTIFFPairs`.
        unlabelled: as in `GeoTIFFPairs`.
        input_size: height and width that the exported card names; None takes those of the first image.
        batch_size: images per batch.
        val_share: share kept for validation; 0 trains on everything.
        seed: random seed of the split.
        num_workers: number of reader processes; 0 is best for images held in memory.
        budget: maximum number of bytes of images to hold in memory.
        folds: number of folds of cross-validation, instead of `val_share`.
        fold: number of the validation fold, from 1.
        split: table of ids and parts, such as `geores split` writes, instead of `val_share`.
    """

    def __init__(
        self,
        root: str,
        bands: list[str] | None = None,
        labels: list[str] | None = None,
        unlabelled: bool = False,
        input_size: int | None = None,
        batch_size: int = 16,
        val_share: float = 0.2,
        seed: int = 0,
        num_workers: int = 0,
        budget: int = 2**31,
        folds: int | None = None,
        fold: int = 1,
        split: str | None = None,
    ) -> None:
        super().__init__(batch_size, val_share, seed, num_workers, folds, fold, split)
        self.root = root
        self._input_size = input_size
        self._options: dict[str, Any] = {
            'bands': bands,
            'labels': labels,
            'unlabelled': unlabelled,
            'budget': budget,
        }

    def make_dataset(self) -> LabelledImages:
        """Index the files; no image is decoded yet."""
        return GeoTIFFPairs(self.root, **self._options)

    def check_labels(self) -> None:
        """Check that there are two classes, and training pixels of each that was not named by `labels`.

        A class of `labels` without training pixels is said in a log message: a nomenclature may hold more
        than a place shows.

        Raises:
            DatasetError: if there is one class alone, or one that the class maps name has no training pixel.
        """
        super().check_labels()
        if self._options['unlabelled']:
            return  # a teacher answers
        counts = self.class_counts
        missing = [label for label, count in zip(self.labels, counts, strict=True) if not count]
        if not missing:
            return
        if self._options['labels'] is None or (counts > 0).sum() < 2:
            raise DatasetError(
                f'no training pixel of {", ".join(missing)} by split {self.split.id}: a model cannot learn '
                'it; take another split, add images, or name the classes by `labels`'
            )
        _logger.warning('no training pixel of %s by split %s', ', '.join(missing), self.split.id)

    @property
    def size(self) -> int:
        """Height and width of the model input on the card."""
        return self._input_size or int(self.dataset.images[0].shape[-1])

    @cached_property
    def class_counts(self) -> torch.Tensor:
        """Number of pixels per class in the training images, (K,)."""
        counts = torch.zeros(len(self.labels), dtype=torch.int64)
        for index in self.split.train:
            mask = self.dataset[index]['mask']
            counts += torch.bincount(mask[mask != IGNORED], minlength=len(self.labels))
        return counts
