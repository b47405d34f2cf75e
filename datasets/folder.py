"""Folders of 8-bit images with one folder per scene class, and optionally a table of multi-labels.

This is the layout of UC Merced Land Use (Yang and Newsam 2010; multi-labels of Chaudhuri et al. 2018), of
AID (Xia et al. 2017; multi-labels of Hua et al. 2020) and of many other datasets.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from geores.datasets._module import (
    ImageDataModule,
    ImageStore,
    LabelledImages,
    NonGeoDataset,
    Sample,
    read_rgb,
)
from geores.errors import DatasetError
from geores.io.tables import read_rows, visible_files

_logger = logging.getLogger(__name__)

__all__ = ['SceneFolder', 'SceneFolderDataModule']

TABLE = 'multilabels.csv'
_SUFFIXES = frozenset({'.jpg', '.jpeg', '.png', '.tif', '.tiff'})


class _Item(NamedTuple):
    path: Path
    scene: str
    source: str


class SceneFolder(NonGeoDataset):
    """Scenes in one folder per class, from one or several sources.

    A sample has `image` (3, H, W) float32 0 to 255, `label`, `bands`, `source` (name of the root's
    folder) and `id` (source/scene/file name).

    Args:
        root: folder with one folder per class, directly or in `images/`; or several of these.
        mode: 'scene' gives the folder as `label`, int64; 'multi-label' gives (K,) float32 of the
            columns of `multilabels.csv` (`name`, `scene`, then one column of 0 and 1 a label),
            and leaves out images that are not in it (their number is `left_out`).
        size: height and width to bring images to; None leaves them.
        budget: maximum number of bytes of images to hold in memory.
        unlabelled: in 'multi-label' mode keep images that the table does not name; their `label` is -1
            throughout.

    Raises:
        DatasetError: if a root, table, column or image is missing.
    """

    bands: tuple[str, ...] = ('red', 'green', 'blue')

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        mode: Literal['scene', 'multi-label'] = 'scene',
        size: int | None = None,
        budget: int = 2**31,
        unlabelled: bool = False,
    ) -> None:
        roots = [Path(one) for one in ([root] if isinstance(root, (str, Path)) else root)]
        if mode not in {'scene', 'multi-label'}:
            raise DatasetError(f"mode has to be 'scene' or 'multi-label', not {mode!r}")
        self.task: Literal['multi-label', 'single-label'] = (
            'single-label' if mode == 'scene' else 'multi-label'
        )
        items = [item for one in roots for item in _items(one)]
        self.left_out = 0
        if mode == 'scene':
            self.labels = tuple(sorted({item.scene for item in items}))
            order = {label: index for index, label in enumerate(self.labels)}
            self.targets: NDArray[Any] = np.array([order[item.scene] for item in items])
        else:
            self.labels, rows = _multi_labels(roots)
            named = _named(items, rows)
            self.left_out = 0 if unlabelled else len(items) - len(named)
            items = items if unlabelled else named
            nothing = [-1.0] * len(self.labels)
            self.targets = np.array([rows.get(_key(item), nothing) for item in items], dtype=np.float32)
        self.items = items
        self.ids = [f'{item.source}/{item.scene}/{item.path.name}' for item in items]
        self.sources = [item.source for item in items]
        self.strata = [f'{item.source}/{item.scene}' for item in items]
        self.images = ImageStore([item.path for item in items], partial(read_rgb, size=size), budget)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        return {
            'image': torch.from_numpy(self.images[index].astype(np.float32)),
            'label': torch.from_numpy(np.asarray(self.targets[index])),
            'bands': self.bands,
            'source': self.sources[index],
            'id': self.ids[index],
        }


class SceneFolderDataModule(ImageDataModule):
    """Training and validation parts of a `SceneFolder`, stratified by scene and source.

    Args:
        root: as in `SceneFolder`.
        mode: as in `SceneFolder`.
        size: height and width to bring images to.
        batch_size: images per batch.
        val_share: share kept for validation; 0 trains on everything.
        seed: random seed of the split.
        num_workers: number of reader processes; 0 is best for images held in memory.
        budget: maximum number of bytes of images to hold in memory.
        folds: number of folds of cross-validation, instead of `val_share`.
        fold: number of the validation fold, from 1.
        unlabelled: as in `SceneFolder`; a teacher has to answer for them.
        split: table of ids and parts, such as `geores split` writes, instead of `val_share`.
    """

    def __init__(
        self,
        root: str | list[str],
        mode: Literal['scene', 'multi-label'] = 'scene',
        size: int = 128,
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
        self.root, self.mode, self.size = root, mode, size
        self.budget, self.unlabelled = budget, unlabelled

    @property
    def card_text(self) -> Mapping[str, Any]:
        """8-bit images of an unknown sensor."""
        return {'processing_level': '8-bit true colour', 'units': '8-bit', 'display_stretch': (2, 98)}

    def make_dataset(self) -> LabelledImages:
        """Index the files; no image is decoded yet."""
        dataset = SceneFolder(self.root, self.mode, self.size, self.budget, self.unlabelled)
        if dataset.task == 'multi-label':
            _check_positive(dataset, self.root)
        return dataset


def _items(root: Path) -> list[_Item]:
    if not root.is_dir():
        raise DatasetError(f'{root.absolute()}: no such folder; set root to where the images are')
    folder = root / 'images' if (root / 'images').is_dir() else root
    items = [
        _Item(path, path.parent.name, root.resolve().name)
        for path in visible_files(folder, '*/*')
        if path.suffix.lower() in _SUFFIXES
    ]
    if not items:
        raise DatasetError(f'{folder.absolute()}: no images in <class>/*.jpg, .png or .tif')
    shown = {item.path.parent for item in items}
    for other in visible_files(folder, '*'):
        if other.is_dir() and other not in shown:
            _logger.warning('%s: no images in it, so it is no class', other)
    return items


def _key(item: _Item) -> tuple[str, str, str]:
    return item.source, item.scene, item.path.stem


def _multi_labels(roots: Sequence[Path]) -> tuple[tuple[str, ...], dict[tuple[str, str, str], list[float]]]:
    labels: tuple[str, ...] = ()
    rows: dict[tuple[str, str, str], list[float]] = {}
    for root in roots:
        needed = ('name', 'scene')
        table = read_rows(root / TABLE, needed, 'no such table; multi-label mode needs it', needed)
        if not table or len(table[0]) < 3:
            raise DatasetError(f'{root / TABLE}: has no rows or no label columns')
        columns = tuple(name for name in table[0] if name not in {'name', 'scene'})
        labels = labels or columns
        if set(columns) != set(labels):
            odd = min(set(columns) ^ set(labels))
            raise DatasetError(f'{root / TABLE}: column {odd!r} is not in every table')
        for row in table:
            key = (root.resolve().name, row['scene'], Path(row['name']).stem)
            rows[key] = _values(row, labels, root / TABLE)
    return labels, rows


def _values(row: dict[str, str], labels: Sequence[str], path: Path) -> list[float]:
    for label in labels:
        if row[label] not in {'0', '1'}:
            raise DatasetError(f'{path}: {row["name"]}: {label} has to be 0 or 1, not {row[label]!r}')
    return [float(row[label]) for label in labels]


def _named(items: Sequence[_Item], rows: dict[tuple[str, str, str], list[float]]) -> list[_Item]:
    absent = rows.keys() - {_key(item) for item in items}
    if absent:
        raise DatasetError(f'no image for {"/".join(min(absent))}, which {TABLE} names')
    return [item for item in items if _key(item) in rows]


def _check_positive(dataset: SceneFolder, root: str | Sequence[str]) -> None:
    """Check that every label is positive in some image; others cannot be learnt."""
    for label, target in zip(dataset.labels, dataset.targets.T, strict=True):
        if not (target > 0).any():
            where = root if isinstance(root, str) else ', '.join(root)
            raise DatasetError(f'{where}: label {label!r} is never positive; drop its column')
