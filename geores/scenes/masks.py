"""Masks that come with a scene: Sentinel-2's scene classification, or a raster named as a cloud mask."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from geores.scenes.scene import SceneMask

__all__ = ['CLOUD_MASK', 'SCL', 'find_mask', 'mask_kind']

SCL: Final = 'SCL'
"""Sentinel-2's scene classification (L2A): a class from 0 to 11 for each pixel."""

CLOUD_MASK: Final = 'cloud mask'
"""0 is clear, any other number is cloud."""

_WORDS: Final = re.compile(r'[^A-Za-z0-9]+')
_CLOUD_MASK: Final = re.compile(r'cloud[^a-z0-9]?mask', re.IGNORECASE)
_METRES: Final = re.compile(r'(\d+)m')


def mask_kind(stem: str) -> str | None:
    """Say what a name promises of a raster's numbers, or None where it is no mask's.

    Args:
        stem: stem of a file's name, or the name of a band.

    Example:
        >>> mask_kind('T33UUU_20230601T102021_SCL_20m'), mask_kind('cloud_mask'), mask_kind('B02')
        ('SCL', 'cloud mask', None)
    """
    words = {word.upper() for word in _WORDS.split(stem)}
    if 'SCL' in words:
        return SCL
    return CLOUD_MASK if 'CLM' in words or _CLOUD_MASK.search(stem) else None


def find_mask(files: Sequence[Path], prefix: str) -> SceneMask | None:
    """Find the mask among files beside those of the bands.

    Of several, the one that shares the bands' prefix is taken before others, a scene classification before
    a cloud mask, and the finest.

    Args:
        files: rasters of the folder, by their suffix.
        prefix: what precedes the band in the names of the bands' files; empty where they share none.
    """
    found = [(file, kind) for file in files if (kind := mask_kind(file.stem))]
    if not found:
        return None
    file, kind = min(found, key=lambda one: (_rank(one[0], one[1], prefix), one[0].name))
    return SceneMask(kind, str(file))


def _rank(file: Path, kind: str, prefix: str) -> tuple[bool, bool, int]:
    metres = [int(match[1]) for word in _WORDS.split(file.stem) if (match := _METRES.fullmatch(word))]
    return not file.stem.startswith(prefix), kind != SCL, metres[0] if metres else 0
