"""Reference maps: from codes of CORINE Land Cover to classes, and to the labels of a patch."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.bigearthnet.nomenclature import CLC, UNLABELLED, LabelOrder, labels_in
from geores.errors import UsageError

__all__ = ['IGNORED', 'MOST_UNLABELLED', 'MapLabels', 'classes_of_map', 'labels_of_map']

IGNORED = 255
"""Class of pixels whose code has no label."""
MOST_UNLABELLED = 0.25
"""A patch is kept if less than this share of its pixels has no label."""

_UNKNOWN = 254


@dataclass(frozen=True)
class MapLabels:
    """What a reference map says of its patch.

    Attributes:
        labels: In lexicographic order; one pixel is enough.
        unlabelled: Share of pixels whose code has no label.
    """

    labels: tuple[str, ...]
    unlabelled: float

    @property
    def is_kept(self) -> bool:
        """Whether enough of the patch is labelled for it to be in BigEarthNet."""
        return self.unlabelled < MOST_UNLABELLED


def classes_of_map(codes: NDArray[Any], order: LabelOrder = 'lexicographic') -> NDArray[np.int64]:
    """Classes of a map's pixels.

    Args:
        codes: (H, W) of CORINE Land Cover codes, as a reference map holds them.
        order: Of the labels that classes are places in.

    Returns:
        (H, W): places in the labels, `IGNORED` where a code has no label.

    Raises:
        UsageError: The codes are not whole numbers, or one is unknown; says which.
    """
    if codes.dtype.kind not in 'iu':
        raise UsageError(f'codes of a map are whole numbers, not {codes.dtype}')
    table = _table(order)
    known = (codes >= 0) & (codes < len(table))
    classes = table[np.where(known, codes, 0)]
    if (classes == _UNKNOWN).any():
        code = codes[classes == _UNKNOWN].flat[0]
        raise UsageError(f'{code} is no code of CORINE Land Cover')
    return classes.astype(np.int64)


def labels_of_map(codes: NDArray[Any]) -> MapLabels:
    """Labels of a patch, from the pixels of its reference map.

    Every class of which there is one pixel is a label (BigEarthNet v2.0, pipeline, migration V1_2:
    labels are of the rasterised map, not of the polygons).

    Args:
        codes: (H, W) of CORINE Land Cover codes.

    Raises:
        UsageError: The map is empty, or a code is unknown.
    """
    if not codes.size:
        raise UsageError('the map has no pixels')
    classes = classes_of_map(codes)
    names = labels_in('lexicographic')
    found = np.unique(classes)
    return MapLabels(
        tuple(names[index] for index in found if index != IGNORED), float((classes == IGNORED).mean())
    )


@lru_cache(maxsize=2)
def _table(order: LabelOrder) -> NDArray[np.uint8]:
    """Class of each code from 0 to 999."""
    places = {name: place for place, name in enumerate(labels_in(order))}
    table = np.full(UNLABELLED + 1, _UNKNOWN, np.uint8)
    for code, (_, label) in CLC.items():
        table[code] = IGNORED if label is None else places[label]
    table[UNLABELLED] = IGNORED
    return table
