"""The grid on which a model sees a scene.

It is chosen from the scene's headers, the ground sampling distances of the model, and what the user asks for:
a resolution, a box or the polygons of a vector file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from geores.errors import SceneError, UsageError
from geores.scenes import Scene

if TYPE_CHECKING:
    import geopandas as gpd

__all__ = ['SLACK', 'Target', 'coarser', 'coarser_by', 'reproject_near', 'target_grid']

SLACK = 0.05
"""How far a scene's pixel may lie outside a model's range before it is resampled, as a share."""

WIDEST = 12.0
"""Degrees of longitude up to which one UTM zone serves a scene, twice a zone's width."""
LARGEST = 60.0
"""Degrees along either axis up to which an equal-area projection about the middle serves a scene."""
UTM_SOUTH, UTM_NORTH = -80.0, 84.0
"""Latitudes between which there are UTM zones."""
COARSEST = 2.5
"""How many times coarser than a model's range a scene may be: coarser ones show other things."""

EDGE_STEPS = 256
"""Into how many steps a polygon's edge is cut, at the least, over the width of the place it is brought to."""


@dataclass(frozen=True)
class Target:
    """A grid, and what to tell about how it was chosen.

    Attributes:
        grid: CRS, transform and shape.
        gsd: pixel size in metres on the ground; None where the scene has no CRS.
        area: polygon outside which pixels are invalid, in the grid's CRS; None for the whole grid.
        notes: one sentence each.
        origin: row and column of the grid's first pixel on the grid of the whole scene.
    """

    grid: GeoBox
    gsd: float | None
    area: BaseGeometry | None = None
    notes: tuple[str, ...] = field(default=())
    origin: tuple[int, int] = (0, 0)


def target_grid(
    scene: Scene,
    gsd: tuple[float, float],
    *,
    resolution: float | None = None,
    bbox: Sequence[float] | None = None,
    bbox_crs: str | None = None,
    aoi: str | Path | None = None,
) -> Target:
    """Choose the grid on which a model sees a scene.

    The scene's own pixels where the model takes their size, else pixels of the nearest size that it
    takes; in the scene's CRS, or in one in metres where that is geographic (see `_metric_crs`).

    Args:
        scene: a scene with the bands that will be read.
        gsd: smallest and largest ground sampling distance of the model, metres.
        resolution: pixel size in metres on the ground, instead of the one chosen from ``gsd``.
        bbox: west, south, east, north; the grid is cut to it, whole pixels outward.
        bbox_crs: CRS of ``bbox``; the scene's where not given.
        aoi: vector file; the grid is cut to its bounds, and pixels outside its polygons are invalid.

    Raises:
        UsageError: if there is no resolution to take, pixels are far coarser than the model's, a source lies
            elsewhere, or nothing of the scene lies in the box or area.
    """
    bare = [raster.path for raster in scene.rasters if raster.geobox.crs is None]
    if 0 < len(bare) < len(scene.rasters):
        raise UsageError(f'{bare[0]} has no CRS, so it cannot be laid beside the rest of {scene.name}')
    native, notes = _upright(scene.geobox, scene.gsd)
    if scene.gsd is None:
        if resolution is not None:
            raise UsageError(
                f'{scene.name} has no CRS, so its pixel size in metres is unknown: drop --resolution'
            )
        grid, size = native, None
    else:
        if resolution is None and scene.gsd > gsd[1] * COARSEST * (1 + SLACK):
            raise UsageError(
                f'{scene.name}: pixels of {scene.gsd:.4g} m are {scene.gsd / gsd[1]:.3g} times coarser than '
                f'the {gsd[1]:g} m that the model takes at most, and show what it has not learnt: give finer '
                f'pixels, or force it with --resolution {gsd[1]:g} (resolution=)'
            )
        size = resolution or _clamped(scene.gsd, gsd)
        if size <= 0:
            raise UsageError(f'resolution must be above 0 metres, not {size}')
        if resolution is not None and size > max(native.shape) * scene.gsd:
            raise UsageError(
                f'a pixel of {size:g} m is larger than the whole of {scene.name}: give a smaller '
                '--resolution (resolution=)'
            )
        grid = _resized(native, size / scene.gsd)
        if not np.isclose(size, scene.gsd, rtol=SLACK):
            notes += (f'pixels of {scene.gsd:.4g} m are brought to {size:.4g} m',)
    whole = grid
    if bbox is not None:
        if bbox_crs is None and scene.crs is not None and scene.crs != grid.crs:
            bbox_crs = str(scene.crs)
        grid = _cropped(grid, _box(bbox, bbox_crs, grid), 'bbox')
    _check_overlap(scene, grid)
    area = None
    if aoi is not None:
        area = _area(aoi, grid)
        grid = _cropped(grid, area.bounds, f'area of interest {aoi}')
    col, row = ~whole.affine @ (grid.affine.c, grid.affine.f)
    return Target(grid, size, area, notes, (round(row), round(col)))


def _check_overlap(scene: Scene, grid: GeoBox) -> None:
    """Refuse sources that lie elsewhere: not one pixel of the grid would be valid."""
    extent, crs = grid.extent, grid.crs
    if crs is None:
        return
    for raster in scene.rasters:
        other = raster.geobox.extent
        if other.crs != crs:
            other = other.to_crs(crs, resolution=_length(other) / 64, check_and_fix=True)
        if not extent.intersects(other) or not (extent & other).area > 0:
            raise UsageError(
                f'{raster.path} does not overlap {scene.finest.raster.path}: '
                'all sources have to be of one place'
            )


def _length(outline: Geometry) -> float:
    box = outline.boundingbox
    return float(max(box.span_x, box.span_y))


def _clamped(native: float, gsd: tuple[float, float]) -> float:
    low, high = gsd
    if low * (1 - SLACK) <= native <= high * (1 + SLACK):
        return native
    return min(max(native, low), high)


def _upright(native: GeoBox, gsd: float | None) -> tuple[GeoBox, tuple[str, ...]]:
    """Turn a grid north up, and bring a geographic one to metres."""
    if native.crs is not None and native.crs.geographic:
        native = _within_earth(native)
        crs, name = _metric_crs(native)
        # odc-geo takes a number here too, though its annotation does not say so.
        upright = native.to_crs(crs, resolution=gsd or 'auto')  # type: ignore[arg-type]
        return upright, (f'geographic coordinates are brought to {name or upright.crs}',)
    transform = native.affine
    if transform.b == transform.d == 0 and transform.a > 0 > transform.e:
        return _square(native)
    if native.crs is None and transform.b == transform.d == 0:
        return native, ()  # plain images count rows downwards
    box = native.extent.boundingbox
    step = float(np.sqrt(abs(transform.determinant)))
    shape = (_whole(box.span_y / step), _whole(box.span_x / step))
    north_up = Affine(step, 0, box.left, 0, -step, box.top)
    return GeoBox(shape, north_up, native.crs), ('the scene is rotated or flipped: turned north up',)


def _within_earth(native: GeoBox) -> GeoBox:
    """Shift longitudes so that their middle lies in -180 to 180; some count from 0 to 360."""
    box = native.extent.boundingbox
    pixel = abs(native.affine.e)  # cells about the poles reach beyond them
    if box.bottom < -90 - pixel or box.top > 90 + pixel:
        raise UsageError(f'latitudes from {box.bottom:.6g} to {box.top:.6g} are none: mend the scene')
    turns = np.floor(((box.left + box.right) / 2 + 180) / 360)
    return GeoBox(native.shape, Affine.translation(-360 * turns, 0) @ native.affine, native.crs)


def _metric_crs(native: GeoBox) -> tuple[str, str | None]:
    """Choose the CRS in metres for a geographic grid, and what to call it where that is not its code.

    A UTM zone; beyond 84 degrees north and 80 south universal polar stereographic; Lambert's equal-area
    projection where a zone is too narrow.

    Raises:
        UsageError: if the grid is too large for any of these.
    """
    box = native.extent.boundingbox
    latitude, longitude = (box.bottom + box.top) / 2, (box.left + box.right) / 2
    pole = 1 if latitude > UTM_NORTH else -1 if latitude < UTM_SOUTH else 0
    if pole and min(abs(box.bottom), abs(box.top)) > 90 - LARGEST / 2:
        return ('EPSG:5041', None) if pole > 0 else ('EPSG:5042', None)
    if max(box.span_x, box.span_y) > LARGEST:
        raise UsageError(
            f'the scene spans {box.span_x:.0f} x {box.span_y:.0f} degrees, too many for one projection: '
            'cut a part out of it, or reproject it first, as with `gdalwarp -t_srs EPSG:6933` (equal area)'
        )
    if box.span_x <= WIDEST:
        return 'utm', None
    place = f'+lat_0={latitude:.6g} +lon_0={longitude:.6g}'
    return (
        f'+proj=laea {place} +datum=WGS84 +units=m +type=crs',
        f'an equal-area projection about {latitude:.4g}, {longitude:.4g} (too wide for a UTM zone)',
    )


def _square(native: GeoBox) -> tuple[GeoBox, tuple[str, ...]]:
    """Make pixels square, of the same area, where those of a scene with a CRS are not."""
    transform = native.affine
    width, height = transform.a, -transform.e
    if native.crs is None or np.isclose(width, height, rtol=SLACK):
        return native, ()
    side = float(np.sqrt(width * height))
    shape = (_whole(native.shape.y * height / side), _whole(native.shape.x * width / side))
    square = GeoBox(shape, Affine(side, 0, transform.c, 0, -side, transform.f), native.crs)
    return square, (f'pixels of {width:.4g} x {height:.4g} are brought to squares of {side:.4g}',)


def _resized(grid: GeoBox, factor: float) -> GeoBox:
    # A UTM zone's metres differ a little from those on the ground: whole steps keep grids aligned.
    steps = factor if factor > 1 else 1 / factor
    if abs(steps / round(steps) - 1) < SLACK / 10:
        factor = round(steps) if factor > 1 else 1 / round(steps)
    if factor == 1:
        return grid
    shape = [_whole(size / factor) for size in grid.shape.yx]
    return GeoBox((shape[0], shape[1]), grid.affine @ Affine.scale(factor), grid.crs)


def _whole(size: float) -> int:
    return max(1, _ceil(size))


def _box(bbox: Sequence[float], crs: str | None, grid: GeoBox) -> tuple[float, ...]:
    box = tuple(float(edge) for edge in bbox)
    if len(box) != 4 or not box[0] < box[2] or not box[1] < box[3]:
        raise UsageError(f'bbox must be west, south, east, north, not {", ".join(map(str, bbox))}')
    if crs is None:
        return box
    if grid.crs is None:
        raise UsageError('the scene has no CRS: give bbox in its pixels, without bbox-crs')
    try:
        moved = Transformer.from_crs(crs, str(grid.crs), always_xy=True).transform_bounds(*box)
    except (CRSError, ProjError) as error:
        raise UsageError(f'bbox-crs {crs!r} is not usable: {error}'.split('\n')[0]) from error
    return tuple(float(edge) for edge in moved)


def _area(path: str | Path, grid: GeoBox) -> BaseGeometry:
    """Read the union of a file's polygons, in the grid's CRS."""
    import geopandas as gpd  # which takes tenths of a second, and few runs have an area

    from geores.scenes.vectors import read_vector

    try:
        frame = read_vector(path)
    except SceneError as error:
        raise UsageError(f'area of interest {path} cannot be read: {error}') from error
    polygons = getattr(frame, 'geometry', gpd.GeoSeries())
    polygons = polygons[polygons.geom_type.isin(['Polygon', 'MultiPolygon']) & ~polygons.is_empty]
    if polygons.empty:
        raise UsageError(f'area of interest {path} holds no polygons')
    polygons = polygons.make_valid()
    if polygons.crs is None and grid.crs is not None:
        raise UsageError(f'area of interest {path} states no CRS, so it cannot be placed: set it in the file')
    if grid.crs is not None:
        polygons = reproject_near(polygons, grid.crs.proj, grid.extent.boundingbox.bbox)
        if polygons.empty:
            bounds = _bounds(grid)
            raise UsageError(f'area of interest {path} does not overlap the scene, whose bounds are {bounds}')
    area: BaseGeometry = polygons.union_all()
    return area


def _cropped(grid: GeoBox, box: Sequence[float], what: str) -> GeoBox:
    """Cut the part out of a grid that holds a box, in whole pixels."""
    left, bottom, right, top = box
    corners = np.array([~grid.affine @ corner for corner in ((left, top), (right, bottom))])
    if not np.isfinite(corners).all():
        raise UsageError(f'{what} cannot be placed on the scene, whose bounds are {_bounds(grid)}')
    (col0, row0), (col1, row1) = np.clip(corners, -1, max(grid.shape.yx) + 1)
    rows = slice(max(0, _floor(min(row0, row1))), min(grid.shape.y, _ceil(max(row0, row1))))
    cols = slice(max(0, _floor(min(col0, col1))), min(grid.shape.x, _ceil(max(col0, col1))))
    if rows.start >= rows.stop or cols.start >= cols.stop:
        raise UsageError(f'{what} does not overlap the scene, whose bounds are {_bounds(grid)}')
    return grid[rows, cols]


def _ceil(value: float) -> int:
    return int(np.ceil(value - 1e-6))


def _floor(value: float) -> int:
    return int(np.floor(value + 1e-6))


def _bounds(grid: GeoBox) -> str:
    box = grid.extent.boundingbox
    return f'{box.left:.6g}, {box.bottom:.6g}, {box.right:.6g}, {box.top:.6g} ({grid.crs})'


def coarser(grid: GeoBox, side: int) -> GeoBox:
    """Make a coarser grid over all of another, of at most ``side`` pixels along each axis."""
    return coarser_by(grid, -(-max(grid.shape.yx) // side))


def coarser_by(grid: GeoBox, step: int) -> GeoBox:
    """Make a grid of pixels ``step`` times as large as another's, which covers it whole.

    Args:
        grid: the grid to cover.
        step: at least 1.
    """
    rows, cols = (-(-size // step) for size in grid.shape.yx)
    return GeoBox((rows, cols), grid.affine @ Affine.scale(step), grid.crs)


def reproject_near(
    geometries: 'gpd.GeoSeries', crs: CRS, bounds: tuple[float, float, float, float]
) -> 'gpd.GeoSeries':
    """Reproject the geometries that lie near a place to its CRS, valid there too.

    Edges get vertices first, for what is straight in one CRS bends in another; and what lies further from the
    place than its own size is cut off, for it may be nowhere in the other CRS.

    Args:
        geometries: valid, with a CRS; their index stays theirs.
        crs: CRS of the place.
        bounds: bounds of the place, in its CRS: left, bottom, right, top.
    """
    if CRS(geometries.crs) == crs:
        return geometries
    back = Transformer.from_crs(crs, geometries.crs, always_xy=True)
    west, south, east, north = back.transform_bounds(*bounds)
    span = max(east - west, north - south)
    if np.isfinite(span) and west < east:  # no pole and no antimeridian in it
        geometries = geometries.clip_by_rect(west - span, south - span, east + span, north + span)
        geometries = geometries[~geometries.is_empty].segmentize(span / EDGE_STEPS)
    return geometries.to_crs(crs).make_valid()
