"""Images with labels of any of the layouts that geores reads, as ids, labels and files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geores.errors import DatasetError

__all__ = ['LabelledSet', 'read_labelled']

_ID_COLUMNS = ('id', 'patch_id', 'name', 'file')


@dataclass(frozen=True)
class LabelledSet:
    """Images and their labels.

    Attributes:
        ids: Of each image.
        labels: Names of each image's labels.
        paths: File of each image; None where only a table was given.
        single: Whether an image has one label, of what it mostly shows.
    """

    ids: Sequence[str]
    labels: Sequence[tuple[str, ...]]
    paths: Sequence[Path] | None
    single: bool

    @property
    def names(self) -> set[str]:
        """Every label that is given."""
        return {name for labels in self.labels for name in labels}


def read_labelled(data: Path) -> LabelledSet:
    """Find out the layout of a dataset and read its labels.

    Args:
        data: A folder with `multilabels.csv` (`geores.datasets.SceneFolder`), one with `labels.csv`
            (`geores.datasets.GeoTIFFPatches`), one with a folder a class; or a table without images:
            Parquet with a column of ids (`id`, `patch_id`, `name` or `file`) and one of lists, `labels`.

    Raises:
        DatasetError: It is none of these, or a part is missing.
    """
    if data.is_file():
        return _table(data)
    if not data.is_dir():
        raise DatasetError(f'{data}: no such folder or table')
    return _patches(data) if (data / 'labels.csv').is_file() else _scenes(data)


def _scenes(data: Path) -> LabelledSet:
    from geores.datasets import SceneFolder

    several = (data / 'multilabels.csv').is_file()
    found = SceneFolder(data, 'multi-label' if several else 'scene')
    labels = [
        tuple(name for name, value in zip(found.labels, target, strict=True) if value)
        if several
        else (found.labels[int(target)],)
        for target in found.targets
    ]
    return LabelledSet(found.ids, labels, [item.path for item in found.items], not several)


def _patches(data: Path) -> LabelledSet:
    from geores.datasets import GeoTIFFPatches

    found = GeoTIFFPatches(data)
    paths = [data / 'images' / one.partition('/')[2] for one in found.ids]
    return LabelledSet(found.ids, [(found.labels[int(target)],) for target in found.targets], paths, True)


def _table(data: Path) -> LabelledSet:
    import pandas as pd

    try:
        table = pd.read_parquet(data)
    except (OSError, ValueError) as error:
        raise DatasetError(f'{data}: not a Parquet table: {error}') from error
    column = next((name for name in _ID_COLUMNS if name in table), None)
    if column is None or 'labels' not in table:
        raise DatasetError(f'{data}: needs a column labels and one of {", ".join(_ID_COLUMNS)}')
    if not all(hasattr(one, '__iter__') and not isinstance(one, str) for one in table['labels']):
        raise DatasetError(f'{data}: the column labels has to hold lists of names')
    labels = [tuple(str(name) for name in one) for one in table['labels']]
    return LabelledSet([str(one) for one in table[column]], labels, None, False)
