"""Files that appear complete and together, or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from rasterio.errors import RasterioError

from geores.errors import GeoresError, OutputError, WriteError

__all__ = ['check_free', 'check_writable', 'failing', 'whole_files']


def check_writable(path: Path, folder: Path | None = None) -> None:
    """Raise `OutputError` where something could not be written, before any work is done.

    Args:
        path: the path to write.
        folder: the folder that has to take it, or the nearest above it that exists; None for the path itself,
            which is a folder then.
    """
    folder = (path if folder is None else folder).absolute()
    while not os.path.exists(folder):  # unlike Path.exists, answers where it may not look
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f'{path} cannot be written: {folder} is no folder that you may write to')


def check_free(paths: list[Path], *, overwrite: bool) -> None:
    """Raise `OutputError` where files could not be written, before any work is done."""
    for path in paths:
        check_writable(path, path.parent)
        if path.is_dir():
            raise OutputError(f'{path} is a folder: name a file')
        if path.exists() and not overwrite:
            raise OutputError(f'{path} exists: give --overwrite to replace it, or another --out')


@contextmanager
def whole_files(paths: list[Path]) -> Iterator[list[Path]]:
    """Give names to write under; when all is well the files take their own names, else they are removed.

    Folders that are not there are made, and do not stay empty. Names are taken one after the other: the
    last of several is the file that the others belong to, and stands only where all of this run do.

    Raises:
        WriteError: if writing failed, as on a full disk.
    """
    partial = [path.with_name(f'.{path.stem}.partial{path.suffix}') for path in paths]
    made = {path.parent for path in paths if not path.parent.exists()}
    with failing(paths[0].parent):
        try:
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            for path in partial:
                with path.open('rb') as file:
                    os.fsync(file.fileno())
            if len(paths) > 1:
                paths[-1].unlink(missing_ok=True)  # or a kill would leave an old one beside new others
            for path, final in zip(partial, paths, strict=True):
                path.replace(final)
        finally:
            for path in partial:
                for suffix in ('', '-journal', '-wal'):
                    path.with_name(f'{path.name}{suffix}').unlink(missing_ok=True)
            for folder in made:
                with suppress(OSError):  # it holds what was written
                    folder.rmdir()


@contextmanager
def failing(folder: Path) -> Iterator[None]:
    """Turn errors of the file system, of GDAL and of OGR into a `WriteError`.

    Args:
        folder: the folder that is written to.
    """
    try:
        yield
    except GeoresError:
        raise
    except (OSError, RasterioError, DataSourceError, DataLayerError, FeatureError) as error:
        disk = shutil.disk_usage(folder) if folder.exists() else None
        full = ' (the disk is full)' if disk is not None and disk.free < 2**20 <= disk.total else ''
        raise WriteError(f'cannot write to {folder}: {" ".join(str(error).split())}{full}') from error
