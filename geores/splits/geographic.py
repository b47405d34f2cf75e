"""Split georeferenced rows by location: whole blocks, hexagons, clusters or regions go to one part."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError
from geores.splits.assignment import (
    LEFT_OUT,
    Partition,
    assign_groups,
    assign_rows,
    check_fractions,
    hash_order,
    split_id,
)
from geores.splits.blocks import clusters, hexagons, squares
from geores.splits.buffer import Lonlat, Positions, apply_buffer, drop_copies, lonlat
from geores.splits.stratified import check_ids, label_matrix

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

__all__ = ['Method', 'geographic_split', 'ground_groups', 'regions_of', 'row_names']

Method: TypeAlias = Literal['blocks', 'hexagons', 'clusters', 'regions', 'random']
Groups: TypeAlias = tuple[list[str], NDArray[np.int64]]
"""Names of the groups, and the index of each row's group, -1 for none."""
_NEEDS = {
    'blocks': 'block_size, metres of a block',
    'hexagons': 'block_size, metres between hexagons',
    'clusters': 'cluster_count, how many',
    'regions': 'regions: polygons, or a column with names',
}


def regions_of(places: Lonlat, polygons: 'GeoDataFrame', column: str | None = None) -> NDArray[np.object_]:
    """Find the region that each place lies in.

    Args:
        places: (N, 2) longitudes and latitudes.
        polygons: polygons with a CRS; a place inside several belongs to the first.
        column: column of region names; polygons of one name are one region. None: one per polygon.

    Returns:
        (N,) str, name of the region, '' outside all of them.

    Raises:
        DatasetError: if the polygons have no CRS or no such column, there are none, or no place is inside.
    """
    import geopandas as gpd

    if polygons.crs is None:
        raise DatasetError('the regions state no CRS: set it in the file')
    if column is not None and column not in polygons.columns:
        raise DatasetError(f'the regions have no column {column!r}; they have {", ".join(polygons.columns)}')
    shapes = polygons.geometry
    usable = (
        ~(shapes.isna() | shapes.is_empty) & shapes.geom_type.isin(['Polygon', 'MultiPolygon'])
    ).to_numpy()
    if not usable.any():
        raise DatasetError('the regions hold no polygons')
    points = gpd.GeoSeries(gpd.points_from_xy(*places.T), crs=4326).to_crs(polygons.crs)
    kept = np.flatnonzero(usable)
    rows, found = shapes.iloc[kept].sindex.query(points, predicate='intersects')
    names = [str(one) for one in (kept if column is None else polygons[column].iloc[kept])]
    regions = np.full(len(places), '', object)
    for row, one in sorted(zip(rows.tolist(), found.tolist(), strict=True), reverse=True):
        regions[row] = names[one]
    if not len(rows):
        raise DatasetError('no row lies in any of the regions: are they of the same place?')
    return regions


def geographic_split(
    positions: Positions,
    method: Method = 'blocks',
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    *,
    labels: Sequence[Any] | NDArray[Any] | None = None,
    buffer: float = 0.0,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    block_size: float | None = None,
    block_crs: object = None,
    cluster_count: int | None = None,
    regions: Sequence[Any] | None = None,
    together: Sequence[int] | None = None,
) -> Partition:
    """Split rows by location.

    The split depends only on positions, ids, labels and options, not on the machine or the order of the
    rows. Fractions refer to the rows before the buffer drops any.

    Args:
        positions: GeoDataFrame or GeoSeries with a CRS, or (N, 2) longitudes and latitudes.
        method: 'blocks' (square cells), 'hexagons', 'clusters' (k-means), 'regions', or 'random' (rows one
            by one, for comparison).
        fractions: fractions of (train, val, test) or of (train, test).
        labels: labels to balance between parts: one or a list of them per row, or (N, K) of 0 and 1.
        buffer: minimum distance in metres between the centres of rows in different parts; closer rows are
            dropped as in `apply_buffer`.
        seed: random seed.
        ids: unique ids of the rows; without them, rows are told apart by position and labels.
        block_size: side of a block, or distance between hexagon centres, in metres.
        block_crs: projected CRS of the block grid; see `squares`.
        cluster_count: number of clusters.
        regions: name of each row's region; rows without one ('' or None) are dropped.
        together: group of each row, such as of near duplicates: 'random' puts a group into one part; of
            blocks and the like, rows with a copy in another part are dropped as the buffer drops them.

    Returns:
        The split.

    Raises:
        DatasetError: if a position or an argument is invalid, there are fewer places than parts, or the
            buffer leaves a part empty.
    """
    wanted = check_fractions(fractions)
    places = lonlat(positions)
    matrix = _labels(labels, len(places))
    names = row_names(places, matrix, ids)
    groups = ground_groups(
        places,
        method,
        block_size=block_size,
        block_crs=block_crs,
        cluster_count=cluster_count,
        regions=regions,
        seed=seed,
    )
    if groups is None and together is not None:
        groups = _joined(together, names)
    codes = _assign(groups, matrix, names, wanted, seed)
    codes = apply_buffer(places, codes, buffer)
    if together is not None:
        codes = drop_copies(together, codes)
    used = {'blocks': block_size, 'hexagons': block_size, 'clusters': cluster_count}.get(method)
    told = '-'.join(f'{one:g}' for one in fractions)
    title = f'{method}{"" if used is None else f"-{used:g}"}-buffer{buffer:g}m-{told}-seed{seed}'
    parts = Partition(codes, np.full(len(places), LEFT_OUT) if groups is None else groups[1], '')
    return Partition(codes, parts.groups, split_id(title, names, parts.names.tolist()))


def ground_groups(
    places: Lonlat,
    method: Method,
    *,
    block_size: float | None = None,
    block_crs: object = None,
    cluster_count: int | None = None,
    regions: Sequence[Any] | None = None,
    seed: int = 0,
) -> Groups | None:
    """Group the rows that must stay in one part.

    Args:
        places: (N, 2) longitudes and latitudes.
        method: as in `geographic_split`.
        block_size: as there.
        block_crs: as there.
        cluster_count: as there.
        regions: as there.
        seed: random seed of the clusters.

    Returns:
        Names of the groups and each row's place among them; None where rows go one by one.

    Raises:
        DatasetError: if the method is unknown or lacks its argument.
    """
    needed = {'blocks': block_size, 'hexagons': block_size, 'clusters': cluster_count, 'regions': regions}
    if method not in get_args(Method):
        raise DatasetError(f'method has to be one of {", ".join(get_args(Method))}, not {method!r}')
    if method == 'random':
        return None
    if needed[method] is None:
        raise DatasetError(f'method {method!r} needs {_NEEDS[method]}')
    if regions is not None and method == 'regions':
        return _regions(regions, len(places))
    if method == 'clusters':
        cells = clusters(places, cluster_count or 0, seed)
    else:
        cells = (squares if method == 'blocks' else hexagons)(places, block_size or 0.0, block_crs)
    known, owners = np.unique(cells, axis=0, return_inverse=True)
    return [str(cell) for cell in known.tolist()], owners.ravel().astype(np.int64)


def _joined(together: Sequence[int], names: list[str]) -> Groups:
    """Groups of rows in the form of groups of ground; each takes the name of its first row."""
    titles: dict[int, str] = {}
    for name, group in sorted(zip(names, together, strict=True)):
        titles.setdefault(group, name)
    order = sorted(titles, key=titles.__getitem__)
    place = {group: index for index, group in enumerate(order)}
    return [titles[group] for group in order], np.array([place[group] for group in together], np.int64)


def _regions(regions: Sequence[Any], count: int) -> Groups:
    if len(regions) != count:
        raise DatasetError(f'{len(regions)} regions are given for {count} rows')
    texts = np.array(['' if one is None or one != one else str(one) for one in regions], object)
    known = sorted(set(texts) - {''})
    place = {name: index for index, name in enumerate(known)} | {'': LEFT_OUT}
    return known, np.array([place[text] for text in texts], np.int64)


def _labels(labels: Sequence[Any] | NDArray[Any] | None, count: int) -> NDArray[np.bool_]:
    if labels is None:
        return np.zeros((count, 0), bool)
    if len(labels) != count:
        raise DatasetError(f'{len(labels)} labels are given for {count} positions')
    return label_matrix(labels).values


def row_names(places: Lonlat, matrix: NDArray[np.bool_], ids: Sequence[str] | None) -> list[str]:
    """Make unique names of rows that do not depend on their order.

    Args:
        places: (N, 2) longitudes and latitudes.
        matrix: (N, K) labels.
        ids: ids of the rows, if they have any.

    Raises:
        DatasetError: if ids are too few, or two are the same.
    """
    if ids is not None:
        if len(ids) != len(places):
            raise DatasetError(f'{len(ids)} ids are given for {len(places)} positions')
        check_ids(ids)
        return [str(one) for one in ids]
    packed = np.packbits(matrix, axis=1) if matrix.shape[1] else np.zeros((len(places), 0), np.uint8)
    seen: dict[str, int] = {}
    names = []
    for (lon, lat), bits in zip(places.tolist(), packed, strict=True):
        name = f'{lon:.7f} {lat:.7f} {bits.tobytes().hex()}'
        seen[name] = seen.get(name, 0) + 1
        names.append(f'{name} {seen[name]}')  # rows with equal content are interchangeable
    return names


def _assign(
    groups: Groups | None,
    matrix: NDArray[np.bool_],
    names: list[str],
    fractions: NDArray[np.float64],
    seed: int,
) -> NDArray[np.int8]:
    if groups is None:
        if len(names) < (fractions > 0).sum():
            raise DatasetError(f'{len(names)} rows are too few for {(fractions > 0).sum()} parts')
        return assign_rows(hash_order(names, seed), matrix, fractions)
    known, owners = groups
    inside = owners >= 0
    counts = np.zeros((len(known), 1 + matrix.shape[1]), np.int64)
    np.add.at(counts[:, 0], owners[inside], 1)
    for label in range(matrix.shape[1]):
        counts[:, 1 + label] = np.bincount(owners[inside], matrix[inside, label], minlength=len(known))
    codes = np.full(len(owners), LEFT_OUT, np.int8)
    codes[inside] = assign_groups(known, counts, fractions, seed)[owners[inside]]
    return codes
