"""The 19 classes of BigEarthNet, and which CORINE Land Cover classes they are made of."""

from typing import Final, Literal, get_args

from geores.errors import UsageError

__all__ = ['CLC', 'LABELS', 'LABELS_ORIGINAL', 'UNLABELLED', 'LabelOrder', 'class_of', 'labels_in']

LabelOrder = Literal['lexicographic', 'original']

UNLABELLED: Final = 999
"""Code of a map's pixels that CORINE Land Cover does not cover."""

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
"""In the order of CORINE Land Cover, as torchgeo has them."""

LABELS: Final = tuple(sorted(LABELS_ORIGINAL))
"""In lexicographic order, that of the logits of all published reBEN models."""

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
    243: (
        'Land principally occupied by agriculture, with significant areas of natural vegetation',
        _MOSAIC,
    ),
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
"""Code of each of the 44 classes of CORINE Land Cover -> its name and its label, None where dropped."""


def labels_in(order: LabelOrder) -> tuple[str, ...]:
    """The 19 labels in an order.

    Args:
        order: 'lexicographic', or 'original' (that of CORINE Land Cover).

    Raises:
        UsageError: There is no such order.
    """
    if order not in get_args(LabelOrder):
        raise UsageError(f'label_order has to be one of {", ".join(get_args(LabelOrder))}, not {order!r}')
    return LABELS if order == 'lexicographic' else LABELS_ORIGINAL


def class_of(code: int) -> str | None:
    """The label of a code of a reference map, None where it has none.

    Args:
        code: Of CORINE Land Cover, or `UNLABELLED`.

    Raises:
        UsageError: There is no such code.
    """
    if code == UNLABELLED:
        return None
    if code not in CLC:
        raise UsageError(f'{code} is no code of CORINE Land Cover')
    return CLC[code][1]
