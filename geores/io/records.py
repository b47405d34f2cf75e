"""The record of runs in a folder: one JSON file with one entry per scene, to which every run adds."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geores.errors import OutputError
from geores.io.locks import lock_beside
from geores.io.whole_files import failing, write_whole

__all__ = ['check_record', 'read_record', 'update_record']


def check_record(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError`, before any work is done, where a file that is no record would be lost."""
    if not overwrite and read_record(path) is None:
        raise OutputError(f'{path} is no record of geores: give --overwrite to replace it, or another --out')


@contextmanager
def update_record(path: Path) -> Iterator[dict[str, Any]]:
    """Entries by scene, to add to while no other process does; written at the end of the block.

    Raises:
        WriteError: if writing failed, as on a full disk; the file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with failing(path.parent), lock_beside(path):
        scenes = read_record(path) or {}
        yield scenes
        text = json.dumps({'geores_version': version('geores'), 'scenes': scenes}, indent=1)
        write_whole(path, f'{text}\n')


def read_record(path: Path) -> dict[str, Any] | None:
    """Entries by scene; none where there is no file, and None where it is no record."""
    try:
        scenes = json.loads(path.read_text())['scenes']
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = isinstance(scenes, dict) and all(isinstance(entry, dict) for entry in scenes.values())
    return scenes if known else None
