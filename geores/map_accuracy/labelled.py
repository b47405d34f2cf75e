"""Read a sample that has been labelled: stratum, map class and reference class of every point."""

from collections.abc import Iterable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj.exceptions import ProjError

from geores.errors import UsageError
from geores.map_accuracy.class_maps import RasterMap
from geores.map_accuracy.strata import Design

__all__ = ['class_names', 'column_of', 'mapped_at', 'read_sample', 'strata_of']


def read_sample(path: str | Path) -> pd.DataFrame:
    """Read a vector file or a CSV table.

    Raises:
        UsageError: if it cannot be read or holds no rows.
    """
    if not Path(path).is_file():
        raise UsageError(f'{path}: no such file; check the path')
    try:
        frame: pd.DataFrame = gpd.read_file(path)
    except Exception as error:
        raise UsageError(f'{path} cannot be read as a sample: {" ".join(str(error).split())}') from error
    if frame.empty:
        raise UsageError(f'{path} holds no points')
    return frame


def column_of(frame: pd.DataFrame, column: str, option: str) -> 'pd.Series[str]':
    """Stripped text of a column; empty where a value is missing.

    Raises:
        UsageError: if there is no such column.
    """
    if column not in frame.columns:
        there = ', '.join(str(name) for name in frame.columns if name != 'geometry')
        raise UsageError(f'the sample has no column {column!r} for {option}; it has {there}')
    return pd.Series([_text(value) for value in frame[column]], index=frame.index, dtype='str')


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ''
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)  # a column of whole numbers with gaps is one of real numbers
    return str(value).strip()


def class_names(labels: Iterable[str], names: Iterable[str], values: Iterable[int] = ()) -> list[str]:
    """Match what people wrote to names of classes, ignoring case, or to values of the map.

    Args:
        labels: as written; what is no class of the map stays as it is.
        names: names of the map's classes.
        values: value of each class in the map.
    """
    names = list(names)
    known = {str(value): name for value, name in zip(values, names, strict=False)}
    known |= {name.casefold(): name for name in names} | {name: name for name in names}
    return [known.get(label, known.get(label.casefold(), label)) for label in labels]


def strata_of(frame: pd.DataFrame, design: Design) -> list[str]:
    """Stratum of each point, as a class of the map.

    Raises:
        UsageError: if points and design do not belong together.
    """
    names = {str(stratum.stratum): stratum.map_class for stratum in design.strata}
    if 'stratum' in frame.columns or not design.strata_by_id:
        numbers = column_of(frame, 'stratum', 'the strata of its design').tolist()
    else:
        ids = column_of(frame, 'id', 'the strata of its design')
        by_id = {str(place): str(number) for place, number in enumerate(design.strata_by_id, start=1)}
        numbers = [by_id.get(name, f'of id {name}') for name in ids]
    odd = next((number for number in numbers if number not in names), None)
    if odd is not None:
        raise UsageError(
            f'the sample has a point of stratum {odd or "(empty)"}, which its design does not have'
        )
    return [names[number] for number in numbers]


def mapped_at(frame: pd.DataFrame, opened: RasterMap) -> list[str]:
    """Class of a map at each point; empty outside the map.

    Raises:
        UsageError: if the sample has no places, or no CRS where the map has one.
    """
    if not isinstance(frame, gpd.GeoDataFrame) or frame.geometry.isna().any():
        raise UsageError(f'the sample has no points to look up in {opened.path}')
    if (frame.crs is None) != (opened.crs is None):
        bare = 'the sample' if frame.crs is None else opened.path
        raise UsageError(f'{bare} has no CRS, so the points cannot be placed on {opened.path}')
    try:
        places = frame.geometry if opened.crs is None else frame.geometry.to_crs(opened.crs)
    except ProjError as error:
        raise UsageError(f'the sample cannot be brought to the CRS of {opened.path}: {error}') from error
    middles = shapely.centroid(places.to_numpy())
    found = opened.at(shapely.get_x(middles), shapely.get_y(middles))
    return [opened.census.classes[k] if k >= 0 else '' for k in found]
