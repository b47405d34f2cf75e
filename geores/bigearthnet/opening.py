"""Finds which store of reBEN's pixels stands in a folder."""

from pathlib import Path

from geores.bigearthnet.lmdb_store import LMDB_FILE, LmdbStore
from geores.bigearthnet.stores import TIFF_FOLDERS, Kind, PatchStore
from geores.bigearthnet.tiffs import TiffStore
from geores.errors import DatasetError

__all__ = ['find_kind', 'open_store']


def open_store(root: Path | str) -> PatchStore:
    """The store that stands at `root`, whichever of the layouts it is.

    Args:
        root: A folder with some of `TIFF_FOLDERS`, or an LMDB of rico-hdl.

    Raises:
        DatasetError: If nothing of the kind is there; says what was looked for and where.
    """
    root = Path(root)
    kind = find_kind(root)
    if kind == 'lmdb':
        return LmdbStore(root)
    if kind == 'tiff':
        return TiffStore(root)
    raise DatasetError(
        f'{root}: no reBEN patches here; looked for the folders {", ".join(TIFF_FOLDERS.values())}, '
        f'for {LMDB_FILE} (LMDB)' + ('' if root.is_dir() else '; the folder itself does not exist')
    )


def find_kind(root: Path | str) -> Kind | None:
    """Which layout of reBEN stands in a folder; None if there is none.

    Args:
        root: The folder.
    """
    root = Path(root)
    if (root / LMDB_FILE).is_file():
        return 'lmdb'
    return 'tiff' if any((root / folder).is_dir() for folder in TIFF_FOLDERS.values()) else None
