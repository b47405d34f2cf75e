"""The picture of a result: the image beside its map, with legend, shares and scale."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geores.classification.shown import Shown

__all__ = ['map_figure', 'write_map']


def map_figure(result: 'Shown') -> 'Figure':
    raise NotImplementedError


def write_map(result: 'Shown', path: Path) -> None:
    path.write_bytes(b'')
