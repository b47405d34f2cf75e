"""Compute where patches lie from their ids, for many patches at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from geores.bigearthnet.patch_id import LAST, PATCH_SIDE, PatchId, parse_tile
from geores.errors import UsageError

if TYPE_CHECKING:
    import geopandas

__all__ = ['footprints', 'patch_table']

_PATTERN = r'^(S2[AB]_MSIL2A_[0-9]{8}T[0-9]{6}_N9999_R[0-9]{3}_T([0-9A-Z]{5}))_([0-9]{2})_([0-9]{2})$'
_LENGTH = 50


def patch_table(ids: Sequence[str] | pd.Series) -> pd.DataFrame:
    """Parse patch ids and compute the squares of the patches in UTM.

    Args:
        ids: patch ids.

    Returns:
        One row per id, in order: `patch_id`, `product`, `tile`, `column`, `row`, `epsg`, and `left`,
        `bottom`, `right`, `top` in m of that UTM zone.

    Raises:
        UsageError: if one is no patch id; says which.
    """
    names = pd.Series(ids, dtype='string').reset_index(drop=True)
    parts = names.str.extract(_PATTERN)
    wrong = parts[0].isna() | (names.str.len() != _LENGTH)
    if wrong.any():
        PatchId.parse(str(names[wrong].iloc[0]))  # says what is wrong
        raise UsageError(f'{names[wrong].iloc[0]!r} is no reBEN patch id')
    product, tile = parts[0].astype('category'), parts[1].astype('category')
    column, row = parts[2].astype('int64'), parts[3].astype('int64')
    beyond = (column > LAST) | (row > LAST)
    for name in [*(f'{one}_00_00' for one in product.cat.categories), *names[beyond].iloc[:1]]:
        PatchId.parse(str(name))
    corners = [parse_tile(name) for name in tile.cat.categories]
    codes = tile.cat.codes.to_numpy()
    left = np.array([corner.left for corner in corners], dtype='int64')[codes] + PATCH_SIDE * column
    top = np.array([corner.top for corner in corners], dtype='int64')[codes] - PATCH_SIDE * row
    return pd.DataFrame(
        {
            'patch_id': names,
            'product': product,
            'tile': tile,
            'column': column,
            'row': row,
            'epsg': np.array([corner.epsg for corner in corners], dtype='int64')[codes],
            'left': left.astype('float64'),
            'bottom': (top - PATCH_SIDE).astype('float64'),
            'right': (left + PATCH_SIDE).astype('float64'),
            'top': top.astype('float64'),
        }
    )


def footprints(ids: Sequence[str] | pd.Series, crs: str = 'EPSG:4326') -> 'geopandas.GeoDataFrame':
    """Compute the outlines of patches in one CRS.

    Args:
        ids: patch ids.
        crs: CRS of the outlines. Only the four corners of a patch are transformed.

    Returns:
        The columns of `patch_table` and `geometry`, in the order of the ids.

    Raises:
        UsageError: if one is no patch id; says which.
    """
    import geopandas
    import pyproj
    import shapely

    table = patch_table(ids)
    geometry = np.empty(len(table), dtype=object)
    for epsg in table['epsg'].unique():
        part = np.flatnonzero(table['epsg'] == epsg)
        left, bottom, right, top = (
            table[name].to_numpy()[part] for name in ('left', 'bottom', 'right', 'top')
        )
        x = np.stack([left, right, right, left, left], axis=1)
        y = np.stack([bottom, bottom, top, top, bottom], axis=1)
        x, y = pyproj.Transformer.from_crs(int(epsg), crs, always_xy=True).transform(x, y)
        geometry[part] = shapely.polygons(np.stack([x, y], axis=-1))
    return geopandas.GeoDataFrame(table, geometry=geometry, crs=crs)
