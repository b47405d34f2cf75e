"""Folders of GeoTIFF patches with a table of labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from geores.datasets._geotiff import PatchStore, band_names, open_geotiff
from geores.datasets._module import ImageDataModule, LabelledImages, NonGeoDataset, Sample
from geores.errors import DatasetError
from geores.io.tables import read_rows

__all__ = ['GeoTIFFPatches', 'GeoTIFFPatchesDataModule']

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
        self.images = PatchStore(paths, self.bands, size, fill, budget, in_order=bands is not None)

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
