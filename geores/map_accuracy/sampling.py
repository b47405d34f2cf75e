"""Draw a stratified random sample of a map, to be labelled with the reference class, and write its files."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from geores.errors import UsageError
from geores.io.whole_files import check_free, whole_files
from geores.map_accuracy.class_maps import map_digest, open_class_map
from geores.map_accuracy.class_names import Census, Population
from geores.map_accuracy.strata import (
    LEAST,
    Allocation,
    Design,
    Stratum,
    allocate_within,
    sample_size,
    side_file,
)
from geores.scenes import gdal_env

__all__ = ['Sample', 'check_sample', 'sample']

LAYER = 'sample'


@dataclass(frozen=True)
class Sample:
    """A sample and how it was drawn.

    Attributes:
        points: columns ``id``, ``stratum``, ``map_class``, ``x``, ``y``, an empty ``reference`` to be
            filled in, and ``geometry``; in random order, so that the order tells nothing of the map.
        design: strata, areas and options.
    """

    points: gpd.GeoDataFrame
    design: Design

    def save(self, path: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write the points as a GeoPackage, and the design in a JSON file of the same name.

        Returns:
            Paths under ``sample`` and ``design``.

        Raises:
            OutputError: if a file of that name exists, or cannot be written there.
            WriteError: if writing failed, as on a full disk; no file is left half written.
        """
        points, design = check_sample(path, overwrite=overwrite)
        with whole_files([points, design]) as (partial, record):
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', "'crs' was not provided")
                self.points.to_file(partial, driver='GPKG', layer=LAYER, engine='pyogrio')
            record.write_text(json.dumps(self.design.to_dict(), indent=1) + '\n')
        return {'sample': points, 'design': design}


def check_sample(path: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Paths of a sample's points and design; `OutputError` or `UsageError` where they cannot be written."""
    points = Path(path)
    if points.suffix.lower() != '.gpkg':
        raise UsageError(f'{points} must end in .gpkg: a sample is a GeoPackage')
    paths = (points, side_file(points))
    check_free(list(paths), overwrite=overwrite)
    return paths


def sample(
    map: str | Path,
    *,
    size: int | None = None,
    standard_error: float | None = None,
    expected_accuracy: float | Mapping[str, float] | None = None,
    allocation: Allocation = 'recommended',
    min_per_class: int = 50,
    seed: int = 0,
    classes: Mapping[int, str] | None = None,
    geometry: Literal['point', 'polygon'] = 'point',
    blind: bool = False,
) -> Sample:
    """Draw a stratified random sample of a map's pixels, without replacement; the strata are its classes.

    Why: the share of area that one gets by counting a map's pixels is biased, since the errors of a map
    do not cancel. A sample of places whose true class someone looks up tells how accurate the map is,
    and corrects the areas (`geores.accuracy`).

    Sizes and allocation follow Olofsson et al. (2014), sections 5.1.1 and 5.1.2.

    Args:
        map: raster of classes, ``<name>_scores.tif`` or ``<name>_tiles.parquet`` of `geores.classify`,
            where the class of a cell is its best label.
        size: sample units; or give the next two.
        standard_error: standard error of overall accuracy to aim for, such as 0.01.
        expected_accuracy: user's accuracy that is expected, of all classes or of each by name.
        allocation: ``recommended`` (at least ``min_per_class`` each, the rest by area),
            ``proportional`` or ``equal``.
        min_per_class: 50 to 100 for rare classes.
        seed: seed of the random draw; the same seed gives the same sample.
        classes: names of a raster's values; pixels of other values are left out. Without it names come
            from ``<map>.aux.xml``, else the values serve as names.
        geometry: ``point``, the middle of a pixel, or its outline.
        blind: leave the map's class and the stratum out of the points; the design keeps them by id.

    Raises:
        SceneError: if the map is missing or cannot be opened.
        UsageError: if it is no map of classes, or an option cannot be met.
        ReadError: if pixels cannot be read.
    """
    _check(size, standard_error, expected_accuracy, geometry, seed)
    rng = np.random.default_rng(seed)
    with gdal_env():
        opened = open_class_map(map, classes)
        census = opened.census
        shares = census.areas / census.areas.sum()
        units = census.units.sum(0)
        if size is None:
            size = _size(census, shares, standard_error, expected_accuracy)
        counts = allocate_within(shares, units, size, allocation, min_per_class)
        strata, outlines = _draw(opened, counts, rng)
    order = rng.permutation(len(strata))
    strata, outlines = strata[order], outlines[order]
    design = Design(
        map=str(map),
        map_sha256=map_digest(opened.path),
        unit=opened.unit,
        area_unit=census.area_unit,
        strata=tuple(
            Stratum(k + 1, name, census.values[k], int(units[k]), float(census.areas[k]), int(counts[k]))
            for k, name in enumerate(census.classes)
        ),
        options={
            'size': size,
            'standard_error': standard_error,
            'expected_accuracy': dict(expected_accuracy)
            if isinstance(expected_accuracy, Mapping)
            else expected_accuracy,
            'allocation': allocation,
            'min_per_class': min_per_class,
            'seed': seed,
            'geometry': geometry,
            'blind': blind,
        },
        notes=(*census.notes, *_notes(census, counts, size, allocation, min_per_class)),
        strata_by_id=tuple((strata + 1).tolist()) if blind else (),
        geores_version=version('geores'),
    )
    return Sample(_frame(opened, strata, outlines, geometry, blind=blind), design)


def _check(
    size: int | None,
    standard_error: float | None,
    expected_accuracy: float | Mapping[str, float] | None,
    geometry: str,
    seed: int,
) -> None:
    by_error = standard_error is not None and expected_accuracy is not None
    if (size is None) != by_error or (size is not None and standard_error is not None):
        raise UsageError('give either size, or standard-error and expected-accuracy (such as 0.01 and 0.85)')
    if geometry not in {'point', 'polygon'}:
        raise UsageError(f'geometry has to be point or polygon, not {geometry!r}')
    if seed < 0:
        raise UsageError(f'seed must be 0 or more, not {seed}')


def _size(
    census: Census,
    shares: NDArray[np.float64],
    standard_error: float | None,
    given: float | Mapping[str, float] | None,
) -> int:
    """Number of sample units for a standard error of overall accuracy, at least two per class."""
    classes = census.classes
    if isinstance(given, Mapping):
        unknown, missing = set(given) - set(classes), [name for name in classes if name not in given]
        if unknown or missing:
            what = f'names {sorted(unknown)[0]!r}' if unknown else f'lacks {missing[0]!r}'
            raise UsageError(f'expected-accuracy {what}; the classes of the map are {", ".join(classes)}')
        expected = [given[name] for name in classes]
    else:
        expected = [float(given or 0)] * len(classes)
    wanted = sample_size(shares, expected, standard_error or 0, int(census.units.sum()))
    return max(wanted, LEAST * len(classes))


def _notes(
    census: Census, counts: NDArray[np.int64], size: int, allocation: Allocation, min_per_class: int
) -> list[str]:
    """Notes on results of an allocation that the user may not expect."""
    taken = counts == census.units.sum(0)
    whole = [f'{name} ({n:,})' for name, n in zip(census.classes, counts.tolist(), strict=True)]
    notes = [f'all units are taken of {", ".join(np.array(whole)[taken])}'] if taken.any() else []
    least = counts[~taken].min(initial=size)
    if allocation == 'recommended' and least < min_per_class:
        notes.append(
            f'{size:,} units are too few for {min_per_class} in each of {len(counts)} classes: '
            f'{least} is the least'
        )
    return notes


def _draw(
    opened: Population, counts: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Stratum and outline of units drawn at random: the second pass, over the strips that hold some.

    A unit is drawn by its rank among those of its class, strip by strip.
    """
    units = opened.census.units
    ends = units.cumsum(0)
    drawn: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
    for k, count in enumerate(counts.tolist()):
        ranks = np.sort(rng.choice(int(ends[-1, k]), size=count, replace=False))
        strips = np.searchsorted(ends[:, k], ranks, side='right')
        for strip in np.unique(strips).tolist():
            inside = ranks[strips == strip] - (ends[strip, k] - units[strip, k])
            drawn.setdefault(strip, []).append((k, inside))
    strata, outlines = [], []
    for strip in sorted(drawn):
        classes = opened.strip(strip)
        for k, inside in drawn[strip]:
            strata.append(np.full(len(inside), k))
            outlines.append(opened.outlines(strip, np.flatnonzero(classes == k)[inside]))
    return np.concatenate(strata), np.concatenate(outlines)


def _frame(
    opened: Population,
    strata: NDArray[np.int64],
    outlines: NDArray[np.object_],
    geometry: str,
    *,
    blind: bool,
) -> gpd.GeoDataFrame:
    middles = shapely.centroid(outlines)
    columns: dict[str, object] = {'id': np.arange(1, len(strata) + 1)}
    if not blind:
        columns |= {'stratum': strata + 1, 'map_class': np.array(opened.census.classes, object)[strata]}
    columns |= {'x': shapely.get_x(middles), 'y': shapely.get_y(middles)}
    columns['reference'] = pd.Series([None] * len(strata), dtype='str')
    places = middles if geometry == 'point' else outlines
    return gpd.GeoDataFrame(columns, geometry=places, crs=opened.crs)
