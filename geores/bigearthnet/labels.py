"""The 19 classes of BigEarthNet v2.0, and their relation to the codes of CORINE Land Cover."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from geores.errors import UsageError

__all__ = [
    'CLC',
    'IGNORED',
    'LABELS',
    'LABELS_ORIGINAL',
    'MOST_UNLABELLED',
    'UNLABELLED',
    'LabelOrder',
    'MapLabels',
    'class_of',
    'classes_of_map',
    'labels_in',
    'labels_of_map',
]

LabelOrder = Literal['lexicographic', 'original']

UNLABELLED: Final = 999
"""Code of map pixels that CORINE Land Cover does not cover."""

LABELS_ORIGINAL: Final = (
    'Urban fabric',
    'Industrial or commercial units',
    'Arable land',
    'Permanent crops',
    'Pastures',
    'Complex cultivation patterns',
    'Land principally occupied by agriculture, with significant areas of natural vegetation',
    'Agro-forestry areas',
    'Broad-leaved forest',
    'Coniferous forest',
    'Mixed forest',
    'Natural grassland and sparsely vegetated areas',
    'Moors, heathland and sclerophyllous vegetation',
    'Transitional woodland, shrub',
    'Beaches, dunes, sands',
    'Inland wetlands',
    'Coastal wetlands',
    'Inland waters',
    'Marine waters',
)
"""The 19 labels in the order of CORINE Land Cover, as in torchgeo."""

LABELS: Final = tuple(sorted(LABELS_ORIGINAL))
"""The 19 labels in lexicographic order, that of the logits of all published reBEN models."""

_URBAN, _INDUSTRY, _ARABLE, _CROPS, _PASTURES, _COMPLEX, _MOSAIC, _AGROFORESTRY = LABELS_ORIGINAL[:8]
_BROAD, _CONIFEROUS, _MIXED, _GRASS, _MOORS, _TRANSITIONAL, _BEACHES = LABELS_ORIGINAL[8:15]
_INLAND_WET, _COASTAL_WET, _INLAND, _MARINE = LABELS_ORIGINAL[15:]

CLC: Final[dict[int, tuple[str, str | None]]] = {
    111: ('Continuous urban fabric', _URBAN),
    112: ('Discontinuous urban fabric', _URBAN),
    121: ('Industrial or commercial units', _INDUSTRY),
    122: ('Road and rail networks and associated land', None),
    123: ('Port areas', None),
    124: ('Airports', None),
    131: ('Mineral extraction sites', None),
    132: ('Dump sites', None),
    133: ('Construction sites', None),
    141: ('Green urban areas', None),
    142: ('Sport and leisure facilities', None),
    211: ('Non-irrigated arable land', _ARABLE),
    212: ('Permanently irrigated land', _ARABLE),
    213: ('Rice fields', _ARABLE),
    221: ('Vineyards', _CROPS),
    222: ('Fruit trees and berry plantations', _CROPS),
    223: ('Olive groves', _CROPS),
    231: ('Pastures', _PASTURES),
    241: ('Annual crops associated with permanent crops', _CROPS),
    242: ('Complex cultivation patterns', _COMPLEX),
    243: ('Land principally occupied by agriculture, with significant areas of natural vegetation', _MOSAIC),
    244: ('Agro-forestry areas', _AGROFORESTRY),
    311: ('Broad-leaved forest', _BROAD),
    312: ('Coniferous forest', _CONIFEROUS),
    313: ('Mixed forest', _MIXED),
    321: ('Natural grassland', _GRASS),
    322: ('Moors and heathland', _MOORS),
    323: ('Sclerophyllous vegetation', _MOORS),
    324: ('Transitional woodland/shrub', _TRANSITIONAL),
    331: ('Beaches, dunes, sands', _BEACHES),
    332: ('Bare rock', None),
    333: ('Sparsely vegetated areas', _GRASS),
    334: ('Burnt areas', None),
    335: ('Glaciers and perpetual snow', None),
    411: ('Inland marshes', _INLAND_WET),
    412: ('Peatbogs', _INLAND_WET),
    421: ('Salt marshes', _COASTAL_WET),
    422: ('Salines', _COASTAL_WET),
    423: ('Intertidal flats', None),
    511: ('Water courses', _INLAND),
    512: ('Water bodies', _INLAND),
    521: ('Coastal lagoons', _MARINE),
    522: ('Estuaries', _MARINE),
    523: ('Sea and ocean', _MARINE),
}
"""Name and label of each of the 44 CORINE Land Cover classes by code; None for classes without a label."""

IGNORED = 255
"""Class of pixels without a label."""
MOST_UNLABELLED = 0.25
"""A patch is kept if the share of its unlabelled pixels is below this."""
_UNKNOWN = 254


def labels_in(order: LabelOrder) -> tuple[str, ...]:
    """Get the 19 labels in an order.

    Args:
        order: 'lexicographic', or 'original' (that of CORINE Land Cover).

    Raises:
        UsageError: if there is no such order.
    """
    if order not in get_args(LabelOrder):
        raise UsageError(f'label_order has to be one of {", ".join(get_args(LabelOrder))}, not {order!r}')
    return LABELS if order == 'lexicographic' else LABELS_ORIGINAL


def class_of(code: int) -> str | None:
    """Get the label of a code of a reference map; None if it has none.

    Raises:
        UsageError: if there is no such code.
    """
    if code == UNLABELLED:
        return None
    if code not in CLC:
        raise UsageError(f'{code} is no code of CORINE Land Cover')
    return CLC[code][1]


@dataclass(frozen=True)
class MapLabels:
    """Labels of a patch, from its reference map.

    Attributes:
        labels: labels with at least one pixel, in lexicographic order.
        unlabelled: share of pixels without a label.
    """

    labels: tuple[str, ...]
    unlabelled: float

    @property
    def is_kept(self) -> bool:
        """Whether enough of the patch is labelled for it to be in BigEarthNet."""
        return self.unlabelled < MOST_UNLABELLED


def classes_of_map(codes: NDArray[Any], order: LabelOrder = 'lexicographic') -> NDArray[np.int64]:
    """Convert the codes of a reference map to classes.

    Args:
        codes: (H, W) CORINE Land Cover codes of a reference map.
        order: order of the labels; classes are indices into it.

    Returns:
        (H, W), indices of labels, and `IGNORED` for codes without a label.

    Raises:
        UsageError: if the codes are not whole numbers, or one is unknown; says which.
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
    """Derive the labels of a patch from its reference map.

    Every class with at least one pixel is a label: labels follow the rasterised map, not the polygons
    (Clasen et al. 2024; migration V1_2 of the reBEN pipeline).

    Args:
        codes: (H, W) CORINE Land Cover codes.

    Raises:
        UsageError: if the map is empty, or a code is unknown.
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
    """Lookup table of classes for codes 0 to 999."""
    places = {name: place for place, name in enumerate(labels_in(order))}
    table = np.full(UNLABELLED + 1, _UNKNOWN, np.uint8)
    for code, (_, label) in CLC.items():
        table[code] = IGNORED if label is None else places[label]
    table[UNLABELLED] = IGNORED
    return table
