"""Which labels of a classification measure the area of which category."""

from collections.abc import Sequence

__all__ = ['LAND_COVER', 'labels_of', 'measurable']

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
