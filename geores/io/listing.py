"""List the files of folders without what operating systems, editors and notebooks leave there."""

from pathlib import Path

__all__ = ['is_hidden', 'visible_files']

_LEFT_BEHIND = frozenset(
    {'thumbs.db', 'desktop.ini', '__macosx', '@eadir', '$recycle.bin', 'system volume information', 'icon\r'}
)
"""Names in lower case, of files and folders, that no person gives to data."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is nothing to read.

    Such are names that begin with a dot (`.ipynb_checkpoints`, `._image.jpg` and `.DS_Store` of macOS) or
    `~$` (files that an office program holds open), and what Windows, macOS and network storage add
    (`Thumbs.db`, `__MACOSX`).

    Args:
        name: name without its folder.
    """
    return name.startswith(('.', '~$')) or name.lower() in _LEFT_BEHIND


def visible_files(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder that match a pattern, sorted; neither they nor folders on the way to them are hidden.

    Args:
        folder: folder, which may be hidden itself.
        pattern: pattern of `Path.glob`, such as '*/*'.
    """
    found = folder.glob(pattern)
    return sorted(path for path in found if not any(map(is_hidden, path.relative_to(folder).parts)))
