"""Which labels of a classification measure the area of which category."""

from collections.abc import Sequence

__all__ = ['LAND_COVER', 'SHARES', 'labels_of', 'measurable', 'share_of']

LAND_COVER: dict[str, tuple[str, ...]] = {
    'water area': ('SeaLake', 'River'),
    'water': ('SeaLake', 'River'),
    'lake': ('SeaLake',),
    'sea': ('SeaLake',),
    'river': ('River',),
    'forest': ('Forest',),
    'wood': ('Forest',),
    'tree': ('Forest',),
    'residential area': ('Residential',),
    'industrial area': ('Industrial',),
    'commercial area': ('Industrial',),
    'farmland': ('AnnualCrop', 'PermanentCrop'),
    'field': ('AnnualCrop', 'PermanentCrop'),
    'vineyard': ('PermanentCrop',),
    'orchard': ('PermanentCrop',),
    'grass area': ('HerbaceousVegetation', 'Pasture'),
    'grass': ('HerbaceousVegetation', 'Pasture'),
    'meadow': ('Pasture',),
    'pasture': ('Pasture',),
}
"""Categories of questions, and the labels of EuroSAT (Helber et al. 2019) whose area is theirs.

A label stands for the kind that prevails in a tile. Highways are left out: a tile that one crosses is not
covered by it; so are parks, gardens and buildings, which no label tells apart.
"""

SHARES = {'River': 0.25}
"""Part of a tile that what its label names covers, where it is not all: a river crosses its tile.

Measured on the 47 labelled patches of rivers that the bundle `sentinel2` was trained on, by NDWI above 0
(McFeeters 1996): 0.245 on average, 0.0 to 0.71 from the 5th to the 95th percentile. Patches of seas and lakes
have 0.97.
"""


def share_of(label: str) -> float:
    """Part of a tile that what its label names covers, 0 to 1."""
    return SHARES.get(label, 1.0)


def labels_of(category: str, labels: Sequence[str]) -> tuple[str, ...]:
    """The labels that measure a category; none where one of them is missing.

    Args:
        category: As in `LAND_COVER`.
        labels: Of the classification.
    """
    wanted = LAND_COVER.get(category, ())
    return wanted if set(wanted) <= set(labels) else ()


def measurable(labels: Sequence[str]) -> tuple[str, ...]:
    """Categories whose area a classification with these labels measures."""
    return tuple(category for category in LAND_COVER if labels_of(category, labels))
