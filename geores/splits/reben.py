"""The official split of reBEN (BigEarthNet v2.0), from the names of patches alone.

Each Sentinel-2 tile is cut into three concentric squares: the outer ring trains, the middle one validates,
the inner square tests. Neighbouring tiles overlap in their outer rings only. No seed, no sampling.
Rule: migration V1_2 of the reBEN pipeline, `insert_new_tile_border_split`.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from geores.errors import DatasetError

__all__ = ['is_patch_id', 'reben_rings', 'reben_split']

_OFFICIAL = ('train', 'validation', 'test')
"""Names of the parts in the tables of the release, in the order of the rings."""

_PATTERN = r'^S2[AB]_MSIL2A_[0-9]{8}T[0-9]{6}_N9999_R[0-9]{3}_T[0-9A-Z]{5}_[0-9]{2}_[0-9]{2}$'
_TILE, _PATCH, _LAST = 109_800.0, 1200.0, 90


def reben_rings(columns: ArrayLike, rows: ArrayLike) -> NDArray[np.int8]:
    """Find the official part of patches by their position in a tile.

    Let s be the side of the tile and d the distance of the patch centre from its border. A patch trains if
    d < s (2 - √2) / 4, validates if d < s / 4, and tests otherwise. The areas are 1/2, 1/4 and 1/4.

    Args:
        columns: columns of the patches from west to east, 0 to 90.
        rows: rows of the patches from north to south, 0 to 90.

    Returns:
        Index of the part of each patch: 0 of train, 1 of val, 2 of test.
    """
    middles = np.stack([np.asarray(columns), np.asarray(rows)]) * _PATCH + _PATCH / 2
    inward = np.minimum(middles, _TILE - middles).min(axis=0)
    borders = np.array([_TILE * (2 - np.sqrt(2)) / 4, _TILE / 4])
    return np.asarray(np.searchsorted(borders, inward, side='right'), np.int8)


def reben_split(ids: Any) -> NDArray[np.object_]:  # noqa: ANN401 - anything that pyarrow takes as strings
    """Find the official part of reBEN patches.

    Args:
        ids: (N,) patch ids, such as S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57.

    Returns:
        (N,): 'train', 'validation' or 'test', as the official table says it.

    Raises:
        DatasetError: if one is no patch id; says which.
    """
    names = _strings(ids)
    fits = pc.fill_null(pc.match_substring_regex(names, _PATTERN), False)
    columns, rows = (
        pc.if_else(fits, pc.utf8_slice_codeunits(names, start, stop), '99')
        for start, stop in ((-5, -3), (-2, None))
    )
    places = [np.asarray(one.cast(pa.int8())) for one in (columns, rows)]
    bad = (places[0] > _LAST) | (places[1] > _LAST)
    if bad.any():
        raise DatasetError(
            f'{names[int(bad.argmax())].as_py()!r} is no reBEN patch id, such as '
            'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57: give the column of patch ids'
        )
    parts: NDArray[np.object_] = np.array(_OFFICIAL, object)[reben_rings(*places)]
    return parts


def is_patch_id(ids: Any) -> bool:  # noqa: ANN401
    """Whether all names have the form of a reBEN patch id.

    Args:
        ids: (N,).
    """
    names = _strings(ids)
    return len(names) > 0 and bool(
        pc.all(pc.fill_null(pc.match_substring_regex(names, _PATTERN), False)).as_py()
    )


def _strings(ids: Any) -> pa.Array:  # noqa: ANN401
    names = pa.array(ids, from_pandas=True) if not isinstance(ids, pa.Array | pa.ChunkedArray) else ids
    if isinstance(names, pa.ChunkedArray):
        names = names.combine_chunks()
    return names.cast(pa.large_string())
