"""What is converted: patches from released folders, archives, or an LMDB."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geores.bigearthnet.opening import open_store
from geores.bigearthnet.patch_values import bands_of
from geores.bigearthnet.stores import TIFF_FOLDERS, PatchStore
from geores.errors import DatasetError, ReadError

__all__ = ['Fault', 'open_source', 'read_whole']

_COMPRESSED = ('.zst', '.gz', '.tgz', '.bz2', '.xz')


@dataclass(frozen=True, order=True)
class Fault:
    """A patch that is not as it should be.

    Attributes:
        patch: Its name.
        reason: What is wrong, with the file where there is one.
    """

    patch: str
    reason: str


def open_source(path: Path | str) -> PatchStore:
    """Open what patches are read from.

    Args:
        path: Released folders, an LMDB, a `.tar` of the release or a folder of such.

    Raises:
        DatasetError: If nothing of the kind is there, an archive is not to be trusted, or a part of the
            release is an archive beside unpacked parts, where it would be left out.
    """
    path = Path(path)
    archives = [path] if path.is_file() else sorted(path.glob('*.tar')) if path.is_dir() else []
    if path.is_file() and path.name.lower().endswith(_COMPRESSED):
        raise DatasetError(
            f'{path}: is compressed, so that no patch in it can be read by itself; decompress it first '
            '(as with `unzstd` or `gunzip`) and give the .tar'
        )
    try:
        store = open_store(path)
    except DatasetError as error:
        if not archives:
            raise _with_compressed(path, error) from None
    else:
        _check_unpacked(store)
        return store
    from geores.pipelines.converting.archives import TarStore

    return TarStore(path, archives)


def _check_unpacked(store: PatchStore) -> None:
    folders = TIFF_FOLDERS.values() if store.kind == 'tiff' else ()
    for name in folders:
        archive = store.path / f'{name}.tar'
        if archive.is_file() and not (store.path / name).is_dir():
            raise DatasetError(
                f'{archive}: lies beside unpacked folders, and would be left out: unpack it too, move it '
                'away, or give a folder with archives alone'
            )


def _with_compressed(path: Path, error: DatasetError) -> DatasetError:
    """The same error, and that compressed archives are there."""
    found = sorted(one.name for one in path.glob('*.tar.*') if one.name.endswith(_COMPRESSED))
    if not found:
        return error
    return DatasetError(f'{error}; decompress {", ".join(found)} first (as with `unzstd`)')


def read_whole(store: PatchStore, name: str) -> tuple[dict[str, NDArray[Any]], list[Fault]]:
    """All bands of a patch, or everything that is wrong with it.

    Args:
        store: Where it is.
        name: Of the patch.

    Returns:
        Pixels by band, empty where there are faults; and those.
    """
    bands = bands_of(name)
    try:
        return store.read(name, bands), []
    except (DatasetError, ReadError) as error:
        first = str(error)
    faults = []
    for band in bands:
        try:
            store.read(name, [band])
        except (DatasetError, ReadError) as error:
            faults.append(Fault(name, str(error)))
    # One value that cannot be read fails for every band alike.
    return {}, sorted(set(faults)) or [Fault(name, first)]
