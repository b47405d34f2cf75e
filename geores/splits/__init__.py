"""Split samples into training, validation and test parts: by id, by class or by location."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geores.splits.assignment import DROPPED, PARTS, Partition
from geores.splits.blocks import block_split, clusters, hexagons, squares
from geores.splits.buffer import apply_buffer, keep_apart, near_duplicates
from geores.splits.files import SplitFile, read_split, reben_rings, reben_split
from geores.splits.geographic import Method, geographic_split, regions_of
from geores.splits.stratified import LabelMatrix, Split, label_matrix, stratified_split

if TYPE_CHECKING:
    from geores.splits.splitters import GeographicKFold, LeaveOneRegionOut, group_folds

__all__ = [
    'DROPPED',
    'PARTS',
    'GeographicKFold',
    'LabelMatrix',
    'LeaveOneRegionOut',
    'Method',
    'Partition',
    'Split',
    'SplitFile',
    'apply_buffer',
    'block_split',
    'clusters',
    'geographic_split',
    'group_folds',
    'hexagons',
    'keep_apart',
    'label_matrix',
    'near_duplicates',
    'read_split',
    'reben_rings',
    'reben_split',
    'regions_of',
    'squares',
    'stratified_split',
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    """Find what scikit-learn stands under on first use: other splits do not need it."""
    if name in {'GeographicKFold', 'LeaveOneRegionOut', 'group_folds'}:
        return getattr(import_module('geores.splits.splitters'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
