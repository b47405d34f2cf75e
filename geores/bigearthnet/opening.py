"""Open the store in a folder, whichever its layout, and read and write checksums of patches."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geores.bigearthnet.lmdb_store import LMDB_FILE, LmdbStore
from geores.bigearthnet.patch_values import bands_of
from geores.bigearthnet.stores import TIFF_FOLDERS, Kind, PatchStore
from geores.bigearthnet.tiffs import TiffStore
from geores.errors import DatasetError, ReadError

__all__ = ['CHECKSUMS', 'checksum', 'find_kind', 'open_store', 'read_checksums', 'write_checksums']

CHECKSUMS = 'checksums.parquet'
"""Name of the table of checksums in a converted folder."""


def checksum(name: str, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Compute the CRC-32 of all pixels of a patch, the same in every layout.

    Pixels are taken as little-endian, and bands in the order of `bands_of`.

    Args:
        name: name of the patch.
        arrays: all bands of the patch at their native sizes and types.
    """
    total = 0
    for band in bands_of(name):
        pixels = arrays[band]
        total = zlib.crc32(pixels.astype(pixels.dtype.newbyteorder('<'), copy=False).tobytes(), total)
    return total


def write_checksums(path: Path, sums: Iterable[tuple[str, int]]) -> None:
    """Write the table of checksums: columns `name` and `crc32`.

    Args:
        path: file to write.
        sums: pairs of name and checksum.
    """
    pairs = list(sums)
    table = pa.table({
        'name': pa.array([name for name, _ in pairs], pa.string()),
        'crc32': pa.array([value for _, value in pairs], pa.uint32()),
    })  # fmt: skip
    pq.write_table(table, path, compression='zstd')


def read_checksums(path: Path) -> dict[str, int] | None:
    """Read checksums by name; None if there is no table.

    Args:
        path: path of the table.

    Raises:
        ReadError: if it is damaged.
    """
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, columns=['name', 'crc32'])
    except (pa.ArrowException, OSError) as error:
        raise ReadError(f'{path}: the checksums cannot be read: {" ".join(str(error).split())}') from error
    return dict(zip(table['name'].to_pylist(), table['crc32'].to_pylist(), strict=True))


def open_store(root: Path | str) -> PatchStore:
    """Open the store at `root`, whichever layout it has.

    Args:
        root: a folder with some of `TIFF_FOLDERS`, or an LMDB of rico-hdl.

    Raises:
        DatasetError: if nothing of the kind is there; says what was looked for and where.
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
    """Detect the layout of the store in a folder; None if there is none.

    Args:
        root: folder to check.
    """
    root = Path(root)
    if (root / LMDB_FILE).is_file():
        return 'lmdb'
    return 'tiff' if any((root / folder).is_dir() for folder in TIFF_FOLDERS.values()) else None
