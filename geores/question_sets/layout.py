"""How a set of questions is laid out: its options, tiles, 8-bit pixels and input files."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geores.errors import ReadError, UsageError
from geores.grid import Tiling
from geores.inference.masks import open_mask
from geores.inference.reader import GridReader, UnitTransform
from geores.inference.target import target_grid
from geores.inference.units import sample_tiles
from geores.osm import load_mapping
from geores.question_sets.options import MakeOptions
from geores.scenes import Scene, gdal_env, open_scene
from geores.scenes.gdal import is_remote

__all__ = [
    'Inputs',
    'TileLayout',
    'describe_inputs',
    'lay_out_tiles',
    'open_reader',
]

PERCENTILES = (2.0, 98.0)
"""Percentiles of a sample that become 0 and 255."""
SAMPLES = 6
"""The sample has this number of tiles along each side of the scene."""
MARGIN = 0.001
"""Degrees around a scene within which objects are read."""


@dataclass(frozen=True)
class TileLayout:
    """A scene cut into tiles: plain values that can be sent to other processes.

    Attributes:
        name: name of the scene.
        source: path of the scene.
        bands: names of the red, green and blue bands.
        grid: grid of whole tiles from the scene's upper left corner.
        gsd: pixel size in metres.
        tile: side of a tile in pixels.
        conversions: conversion of each band to 0 to 255.
        notes: notes on the scene, one sentence each.
        sensor: name of the sensor, such as 'Sentinel-2'; None if unknown.
    """

    name: str
    source: str
    bands: tuple[str, ...]
    grid: GeoBox
    gsd: float
    tile: int
    conversions: dict[str, UnitTransform]
    notes: tuple[str, ...]
    sensor: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        rows, cols = self.grid.shape.yx
        return rows // self.tile, cols // self.tile

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """Row and column of every tile."""
        rows, cols = self.shape
        return [(row, col) for row in range(rows) for col in range(cols)]

    def window(self, row: int, col: int) -> GeoBox:
        """The grid of a tile."""
        side = self.tile
        return self.grid[row * side : (row + 1) * side, col * side : (col + 1) * side]

    def bounds(self, row: int, col: int) -> tuple[float, float, float, float]:
        """West, south, east, north of a tile in the grid's CRS."""
        box = self.window(row, col).boundingbox
        return box.left, box.bottom, box.right, box.top

    @property
    def lonlat(self) -> tuple[float, float, float, float]:
        """West, south, east, north of the grid in degrees, with a margin."""
        box = self.grid.boundingbox
        moved = Transformer.from_crs(str(self.grid.crs), 'EPSG:4326', always_xy=True)
        west, south, east, north = moved.transform_bounds(box.left, box.bottom, box.right, box.top)
        return west - MARGIN, south - MARGIN, east + MARGIN, north + MARGIN

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of the centre of the grid."""
        west, south, east, north = self.lonlat
        return (west + east) / 2, (south + north) / 2

    def centres(self, tiles: list[tuple[int, int]]) -> np.ndarray:
        """Longitude and latitude of the centres of tiles, (N, 2)."""
        bounds = np.array([self.bounds(*tile) for tile in tiles]).reshape(-1, 4)
        moved = Transformer.from_crs(str(self.grid.crs), 'EPSG:4326', always_xy=True)
        middles = (bounds[:, :2] + bounds[:, 2:]) / 2
        return np.column_stack(moved.transform(middles[:, 0], middles[:, 1]))


def lay_out_tiles(source: str, options: MakeOptions) -> TileLayout:
    """Cut a scene into whole tiles, from its headers and a sample of its pixels.

    Raises:
        SceneError: if the scene cannot be opened.
        UsageError: if the scene has no CRS, or is smaller than a tile.
    """
    with open_scene(source, bands=options.bands, allow_vrt=options.allow_vrt, sensor=options.sensor) as scene:
        if scene.crs is None:
            raise UsageError(
                f'{source} has no CRS, so objects cannot be laid over it: state its CRS in the file'
            )
        bands = _display_bands(scene)
        target = target_grid(
            scene.select(list(dict.fromkeys(bands))),
            (0.0, np.inf),
            resolution=options.resolution,
            bbox=options.bbox,
            bbox_crs=options.bbox_crs,
        )
        rows, cols = (size // options.tile * options.tile for size in target.grid.shape.yx)
        if not rows or not cols:
            height, width = target.grid.shape.yx
            raise UsageError(
                f'{source} has {width} x {height} pixels here, less than a tile of {options.tile}: '
                'choose a smaller --tile'
            )
        grid = target.grid[:rows, :cols]
        conversions, notes = _conversions(scene, bands, grid, options)
        notes = (*scene.notes, *target.notes, *notes)
        return TileLayout(
            name=scene.name,
            source=source,
            bands=bands,
            grid=grid,
            gsd=float(target.gsd or 0.0),
            tile=options.tile,
            conversions=conversions,
            notes=notes,
            sensor=scene.sensor,
        )


def open_reader(layout: TileLayout, options: MakeOptions) -> GridReader:
    """A reader of the tiles of a scene that converts pixels to 0 to 255."""
    scene = open_scene(layout.source, bands=options.bands, allow_vrt=options.allow_vrt, sensor=options.sensor)
    mask = None
    if options.mask is not None:
        mask = open_mask(options.mask, options.mask_values, layout.grid)
    bands = list(dict.fromkeys(layout.bands))
    return GridReader(scene, bands, layout.grid, transforms=layout.conversions, mask=mask)


def _display_bands(scene: Scene) -> tuple[str, ...]:
    """Names of the red, green and blue bands; without names the first three bands, or the first one."""
    named = ('red', 'green', 'blue')
    if not scene.missing(named):
        return tuple(scene.band(name).name for name in named)
    names = list(scene.bands)
    return tuple(names[:3]) if len(names) >= 3 else (names[0],) * 3


def _conversions(
    scene: Scene, bands: tuple[str, ...], grid: GeoBox, options: MakeOptions
) -> tuple[dict[str, UnitTransform], tuple[str, ...]]:
    """How numbers become 0 to 255: 8-bit bands as they are, others between percentiles or limits."""
    other = [name for name in dict.fromkeys(bands) if scene.band(name).raster.dtype != np.uint8]
    if not other:
        return {}, ()
    if options.stretch is not None:
        low, high = options.stretch
        limits = dict.fromkeys(other, (low, high))
        stretch = f'between {low:g} and {high:g}'
    else:
        limits = _percentiles(scene, other, grid, options.tile)
        stretch = f'between percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} of a sample'
    converted = {}
    for name, (low, high) in limits.items():
        gain = 255.0 / max(high - low, 1e-6)
        converted[name] = UnitTransform(gain, -low * gain, 0.0, 255.0)
    return converted, (f'{", ".join(other)} brought to 8 bits {stretch}',)


def _percentiles(scene: Scene, bands: list[str], grid: GeoBox, tile: int) -> dict[str, tuple[float, float]]:
    reader = GridReader(scene, bands, grid)
    height, width = grid.shape.yx
    with gdal_env():
        values, valid = sample_tiles(reader, Tiling(height, width, tile, tile), side=SAMPLES)
    limits = {}
    for position, name in enumerate(bands):
        pixels = values[:, position][valid]
        low, high = np.percentile(pixels, PERCENTILES) if len(pixels) else (0.0, 255.0)
        limits[name] = (float(low), float(high))
    return limits


CHUNK = 2**20


@dataclass(frozen=True)
class Inputs:
    """Input files by role, each with its name and sha256 (for remote files a digest of the header)."""

    scenes: list[dict[str, str]]
    osm: list[dict[str, str]]
    mapping: dict[str, str]
    mask: list[dict[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values without folders, so that they are equal on every machine."""
        return {'scenes': self.scenes, 'osm': self.osm, 'mapping': self.mapping, 'mask': self.mask}

    def key(self, options: MakeOptions, layouts: Sequence[TileLayout]) -> dict[str, Any]:
        """Everything that decides the files of the tiles: the key of the journal."""
        return {
            **self.to_dict(),
            'options': options.deciding(),
            'grids': [[str(one.grid.crs), list(one.grid.affine)[:6], list(one.shape)] for one in layouts],
            'units': [
                {name: asdict(conversion) for name, conversion in one.conversions.items()} for one in layouts
            ],
            'geores-version': version('geores'),
        }


def describe_inputs(scenes: Sequence[str], osm: Sequence[str], options: MakeOptions) -> Inputs:
    """Compute the checksums of all inputs.

    Raises:
        UsageError: if there are no inputs, or one is missing.
        ReadError: if an input cannot be read.
    """
    if not scenes:
        raise UsageError('no scene given: name at least one raster')
    if not osm:
        raise UsageError('no OpenStreetMap file given: name at least one with --osm')
    mapping = load_mapping(options.mapping)
    rasters = []
    for scene in scenes:
        with open_scene(
            scene, bands=options.bands, allow_vrt=options.allow_vrt, sensor=options.sensor
        ) as opened:
            rasters += [
                _digest(raster.path, raster.fingerprint if is_remote(raster.path) else None)
                for raster in opened.rasters
            ]
    return Inputs(
        rasters,
        [_digest(path) for path in osm],
        {'name': mapping.name, 'sha256': mapping.digest},
        [] if options.mask is None else [_digest(options.mask)],
    )


def _digest(path: str, known: str | None = None) -> dict[str, str]:
    name = Path(path).name
    if known is not None:
        return {'name': name, 'fingerprint': known}
    digest = hashlib.sha256()
    try:
        with Path(path).open('rb') as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except FileNotFoundError as error:
        raise UsageError(f'{path} is not there') from error
    except OSError as error:
        raise ReadError(f'{path} cannot be read: {error.strerror}') from error
    return {'name': name, 'sha256': digest.hexdigest()}
