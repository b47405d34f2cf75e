"""Read labelled polygons or points from a vector file, repair them, and reproject them."""

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypeAlias

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from geores.errors import DatasetError
from geores.inference.target import reproject_near
from geores.io.tables import read_vector, vector_layers

__all__ = ['LabelledFeatures', 'Labels', 'read_labelled_features']

Labels: TypeAlias = str | Path | gpd.GeoDataFrame
"""A vector file, or the GeoDataFrame read from one."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Geometries with one class each.

    Attributes:
        name: name of the file, for messages.
        kind: 'polygon' or 'point'; every geometry is single.
        geometries: (N,).
        classes: (N,), names.
        crs: CRS of the geometries.
        notes: notes for the user on repairs and omissions, one sentence each.
    """

    name: str
    kind: Literal['polygon', 'point']
    geometries: NDArray[np.object_]
    classes: NDArray[np.object_]
    crs: CRS
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def to_crs(self, crs: object) -> Self:
        """Reproject the features; those without finite coordinates there are left out.

        Args:
            crs: anything that pyproj understands.
        """
        wanted = CRS.from_user_input(crs)
        if wanted == self.crs:
            return self
        return self._moved(gpd.GeoSeries(self.geometries, crs=self.crs).to_crs(wanted).make_valid())

    def about(self, crs: CRS, area: BaseGeometry) -> Self:
        """Select the features that intersect an area, in its CRS.

        Args:
            crs: CRS of the area.
            area: a polygon.
        """
        near = reproject_near(gpd.GeoSeries(self.geometries, crs=self.crs), crs, area.bounds)
        return self._moved(near[near.intersects(area)])

    def _moved(self, geometries: gpd.GeoSeries) -> Self:
        """Replace the geometries; features without finite coordinates are left out.

        Args:
            geometries: new geometries of some of the features, indexed by position.
        """
        geometries = geometries[np.isfinite(geometries.bounds).all(axis=1)]
        return replace(
            self,
            geometries=np.asarray(geometries.array, object),
            classes=self.classes[geometries.index],
            crs=CRS(geometries.crs),
        )


def read_labelled_features(labels: Labels, column: str, layer: str | None = None) -> LabelledFeatures:
    """Read polygons or points and their classes.

    Invalid polygons are repaired by `shapely.make_valid`, and features without geometry or class are left
    out; notes say so. Numeric classes become text.

    Args:
        labels: vector file, or its features.
        column: name of the class column.
        layer: layer to read, for a file with several.

    Raises:
        DatasetError: if the file cannot be read, the layer, the column or the CRS is missing, or there are
            neither polygons nor points, or both.
    """
    frame, name = _load(labels, layer)
    if column not in frame.columns or column == frame.geometry.name:
        raise DatasetError(f'{name}: has no column {column!r}{_hint(column, _columns(frame))}')
    if frame.crs is None:
        raise DatasetError(f'{name}: states no CRS, so it cannot be laid over a scene: set it in the file')
    classes = np.array([_text(value) for value in frame[column]], object)
    geometries = shapely.force_2d(np.asarray(frame.geometry.array, object))
    unlabelled = classes == ''
    empty = ~unlabelled & (shapely.is_missing(geometries) | shapely.is_empty(geometries))
    kept = ~unlabelled & ~empty
    geometries, classes = geometries[kept], classes[kept]
    invalid = ~shapely.is_valid(geometries)
    geometries[invalid] = shapely.make_valid(geometries[invalid])
    kind, geometries, classes = _single(name, geometries, classes)
    notes = [
        f'{name}: {count} {what}'
        for count, what in (
            (int(invalid.sum()), 'invalid polygons mended'),
            (int(empty.sum()), 'features without geometry left out'),
            (int(unlabelled.sum()), f'features without {column} left out'),
        )
        if count
    ]
    return LabelledFeatures(name, kind, geometries, classes, CRS(frame.crs), tuple(notes))


def _load(labels: Labels, layer: str | None) -> tuple[gpd.GeoDataFrame, str]:
    if isinstance(labels, gpd.GeoDataFrame):
        if labels.active_geometry_name is None:
            raise DatasetError('labels: the GeoDataFrame has no geometry column')
        return labels, 'labels'
    path = Path(labels)
    if not path.exists():
        raise DatasetError(f'{path}: no such vector file of labels{_near(path)}')
    try:
        layers = vector_layers(path)
        if layer is None and len(layers) > 1:
            raise DatasetError(f'{path}: has several layers, name one: {", ".join(layers)}')
        if layer is not None and layer not in layers:
            raise DatasetError(f'{path}: has no layer {layer!r}{_hint(layer, layers)}')
        frame = read_vector(path, layer)
    except DatasetError:
        raise
    except Exception as error:  # whatever GDAL makes of a file that is no vector file
        reason = ' '.join(str(error).split())
        raise DatasetError(f'{path}: the labels cannot be read: {reason}') from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise DatasetError(f'{path}: has no geometries, and polygons or points are needed')
    return frame, path.name


def _near(path: Path) -> str:
    names = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f': did you mean {near[0]!r}?' if near else ''


def _hint(name: str, names: Iterable[str]) -> str:
    names = list(names)
    near = difflib.get_close_matches(name.lower(), [one.lower() for one in names], n=1)
    if near:
        return f': did you mean {next(one for one in names if one.lower() == near[0])!r}?'
    return f': it has {", ".join(names)}' if names else ''


def _columns(frame: gpd.GeoDataFrame) -> list[str]:
    return [str(name) for name in frame.columns if name != frame.geometry.name]


def _text(value: object) -> str:
    """A class as text, '' for a missing one. Tables with gaps hold whole numbers as floats."""
    if value is None or value != value:  # NaN
        return ''
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip().replace('<NA>', '')


def _single(
    name: str, geometries: NDArray[np.object_], classes: NDArray[np.object_]
) -> tuple[Literal['polygon', 'point'], NDArray[np.object_], NDArray[np.object_]]:
    """Split into single polygons or single points; lines that a repair left behind are dropped."""
    while (shapely.get_type_id(geometries) > 3).any():  # collections may hold collections
        geometries, index = shapely.get_parts(geometries, return_index=True)
        classes = classes[index]
    kinds = Counter(shapely.get_type_id(geometries).tolist())
    if kinds[0] and kinds[3]:
        raise DatasetError(f'{name}: holds polygons and points: give one of them alone')
    if not kinds[0] and not kinds[3]:
        raise DatasetError(f'{name}: holds no polygons and no points that have a class')
    wanted = shapely.get_type_id(geometries) == (3 if kinds[3] else 0)
    return 'polygon' if kinds[3] else 'point', geometries[wanted], classes[wanted]
