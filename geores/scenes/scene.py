"""Scenes: named bands, each on a grid of its own, and what is known about them.

`describe` gives the same as plain data, for printing and for JSON.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from geores.errors import BandError, UsageError
from geores.scenes.bands import SENTINEL1_BANDS, find_name
from geores.scenes.raster import FileRaster, Raster
from geores.scenes.sensors import SENTINEL2_LIKE

__all__ = ['Band', 'Offset', 'Scene', 'SceneMask', 'describe', 'ground_size', 'merge_scenes', 'notes_on_grid']


@dataclass(frozen=True)
class Band:
    """One band of a scene.

    Attributes:
        name: canonical name where geores knows one ('B02', 'VV', 'red'), else the file's own.
        raster: raster that holds its pixels.
        index: its 1-based index in the raster.
        scale: physical value = stored value * scale + offset; None when nothing states it.
        offset: see `scale`; both are None or neither is.
        units: units of the physical value: 'reflectance', 'dB', '8-bit' (0-255), or None when unknown.
        sensor: name of the sensor that it comes from, where known.
    """

    name: str
    raster: Raster
    index: int
    scale: float | None = None
    offset: float | None = None
    units: str | None = None
    sensor: str | None = None


@dataclass(frozen=True)
class Offset:
    """The offset to add to Sentinel-2's digital numbers, and the evidence for it.

    Attributes:
        value: what is to be added to them: -1000 or 0; the least of the bands where they differ.
        basis: what tells: 'user', 'metadata', 'baseline', 'flag' (of a catalogue, or of a name), 'pixels',
            'date' (of acquisition, which is no more than likely) or 'unknown'.
        note: what the user should be told.
    """

    value: float
    basis: str
    note: str | None = None


@dataclass(frozen=True)
class SceneMask:
    """A mask that a scene brings.

    Attributes:
        kind: `SCL` or `CLOUD_MASK` of `geores.scenes.product`.
        path: path of its file; `<name>` where it is a band of an array.
        band: the band of the scene's own raster that it is; None for a file, which is opened when it is used.
    """

    kind: str
    path: str
    band: Band | None = None


@dataclass(frozen=True)
class Scene:
    """What `open_scene` returns: bands by name, with headers read and pixels left alone.

    Safe to read from many threads. Works as a context manager that closes its files.

    Attributes:
        name: product id, or tile and date, or the file's stem; usable as a file name.
        bands: bands by name, in the order of the source.
        sensor: such as 'Sentinel-2', where known.
        processing_level: 'L1C' or 'L2A', where known.
        units: units of the first band: 'reflectance', 'dB', '8-bit' or None.
        date: day of acquisition (YYYY-MM-DD), where known.
        notes: what the user should be told, one sentence each.
        mask: says where the ground is not seen, where the source brings such a mask.
        evidence: what tells the sensor, the bands and the units, one phrase each.
        offset: what is known of Sentinel-2's offset; None for other sensors. `geores.scenes.offset` checks it
            against the pixels.
        question: what has to be said before the bands or units can be relied on, or None.
    """

    name: str
    bands: Mapping[str, Band]
    sensor: str | None = None
    processing_level: str | None = None
    units: str | None = None
    date: str | None = None
    notes: tuple[str, ...] = ()
    mask: SceneMask | None = None
    evidence: tuple[str, ...] = ()
    offset: Offset | None = None
    question: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def rasters(self) -> tuple[Raster, ...]:
        """The rasters of the bands, each once."""
        return tuple({id(band.raster): band.raster for band in self.bands.values()}.values())

    @cached_property
    def finest(self) -> Band:
        """The band of the smallest pixels among those in the first band's CRS, and of its kind.

        Radar beside an optical scene does not say where the scene lies, nor the other way round.
        """
        bands = list(self.bands.values())
        crs, radar = bands[0].raster.geobox.crs, bands[0].name in SENTINEL1_BANDS
        return min(
            (
                band
                for band in bands
                if band.raster.geobox.crs == crs and (band.name in SENTINEL1_BANDS) == radar
            ),
            key=lambda band: abs(band.raster.geobox.affine.determinant),
        )

    @property
    def geobox(self) -> GeoBox:
        """Grid of the finest band."""
        return self.finest.raster.geobox

    @property
    def crs(self) -> CRS | None:
        """CRS of the finest band, or None."""
        return self.geobox.crs

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the finest band."""
        rows, cols = self.geobox.shape
        return rows, cols

    @property
    def resolution(self) -> tuple[float, float]:
        """Width and height of the finest band's pixel in units of the CRS, both positive."""
        affine = self.geobox.affine
        return math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)

    @cached_property
    def gsd(self) -> float | None:
        """Side in metres on the ground of the finest band's pixel at the centre of the scene.

        The root of width times height where they differ; None without a CRS.
        """
        return ground_size(self.geobox)

    @property
    def nodata(self) -> float | None:
        """Value of invalid pixels in the finest band, or None."""
        return self.finest.raster.nodata

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of each raster."""
        return tuple(raster.path for raster in self.rasters)

    @cached_property
    def fingerprint(self) -> str:
        """Digest that changes with the content of any band and with their names and scales."""
        digest = hashlib.sha256()
        prints = {id(raster): raster.fingerprint for raster in self.rasters}
        for band in self.bands.values():
            stated = (band.name, prints[id(band.raster)], band.index, band.scale, band.offset)
            digest.update(repr(stated).encode())
        return digest.hexdigest()

    @property
    def is_lazy(self) -> bool:
        """Whether any band is computed by dask on reading."""
        return any(raster.is_lazy for raster in self.rasters)

    def band(self, name: str) -> Band:
        """Find a band by its name or an alias: 'B04', 'b4' or 'red' for Sentinel-2's red.

        Raises:
            BandError: if the scene has no such band.
        """
        found = self._find(name)
        if found is None:
            raise BandError(
                f'{self.name}: has no band {name!r}; it has {", ".join(self.bands)}: '
                'choose one of these, or name the bands with --bands (bands=)'
            )
        return found

    def missing(self, names: Iterable[str]) -> list[str]:
        """List those of some bands that the scene lacks under any alias."""
        return [name for name in names if self._find(name) is None]

    def select(self, names: Sequence[str]) -> 'Scene':
        """Keep some bands, in the order given.

        Raises:
            BandError: if the scene lacks one.
            UsageError: if one is asked for twice.
        """
        bands = [self.band(name) for name in names]
        if len({band.name for band in bands}) < len(bands) or not bands:
            raise UsageError(f'bands {", ".join(names)}: name at least one band and each once')
        return replace(self, bands={band.name: band for band in bands}, units=bands[0].units)

    def close(self) -> None:
        """Close open files; no thread may be reading. A later read opens them again."""
        for raster in self.rasters:
            raster.close()

    def _find(self, name: str) -> Band | None:
        sentinel2 = {band.name for band in self.bands.values() if band.sensor in SENTINEL2_LIKE}
        found = find_name(name, self.bands, sentinel2=sentinel2)
        return None if found is None else self.bands[found]


def merge_scenes(scenes: Sequence[Scene], name: str | None = None) -> Scene:
    """Put the bands of several scenes into one, which is named after the first.

    Its processing level is that of those that state one, if it is the same.

    Raises:
        UsageError: if two scenes have a band of the same name.
    """
    bands: dict[str, Band] = {}
    for scene in scenes:
        for band in scene.bands.values():
            if band.name in bands:
                raise UsageError(
                    f'{scene.name} and {scenes[0].name} both have a band {band.name!r}; '
                    'several sources together need different bands: leave one out or rename it'
                )
            bands[band.name] = band
    notes = dict.fromkeys(f'{scene.name}: {note}' for scene in scenes for note in scene.notes)
    levels = {scene.processing_level for scene in scenes} - {None}
    return replace(
        scenes[0],
        name=name or scenes[0].name,
        processing_level=levels.pop() if len(levels) == 1 else None,
        bands=bands,
        notes=tuple(notes),
        mask=next((scene.mask for scene in scenes if scene.mask is not None), None),
        evidence=tuple(dict.fromkeys(phrase for scene in scenes for phrase in scene.evidence)),
        offset=next((scene.offset for scene in scenes if scene.offset is not None), None),
        question=next((scene.question for scene in scenes if scene.question is not None), None),
    )


def ground_size(geobox: GeoBox) -> float | None:
    """Side in metres on the ground of a pixel at the centre of a grid; None without a CRS."""
    if geobox.crs is None:
        return None
    rows, cols = geobox.shape
    a, b, c, d, e, f, *_ = geobox.affine
    x, y = a * cols / 2 + b * rows / 2 + c, d * cols / 2 + e * rows / 2 + f
    lonlat = Transformer.from_crs(geobox.crs.proj, 'EPSG:4326', always_xy=True)
    x0, y0 = lonlat.transform(x, y)
    x1, y1 = lonlat.transform(x + a, y + d)
    x2, y2 = lonlat.transform(x + b, y + e)
    geod = Geod(ellps='WGS84')
    width, height = geod.inv(x0, y0, x1, y1)[2], geod.inv(x0, y0, x2, y2)[2]
    size = math.sqrt(width * height)
    return size if math.isfinite(size) and size > 0 else None


def notes_on_grid(geobox: GeoBox) -> list[str]:
    """Say what is unusual about a scene's grid."""
    notes = []
    if geobox.crs is None:
        notes.append('no CRS: results are placed by pixel, and sizes on the ground are unknown')
    affine = geobox.affine
    if affine.b or affine.d:
        notes.append('the grid is rotated or sheared against its CRS')
    elif affine.e > 0 and not affine.is_identity:
        notes.append('rows run from south to north')
    return notes


def describe(scene: Scene) -> dict[str, Any]:
    """Describe a scene by what its headers say; nothing is read.

    Returns:
        JSON-able: `name`, `sensor`, `processing_level`, `units`, `offset` (of Sentinel-2's digital numbers),
        `evidence` (what tells these), `question` (what has to be said), `date`, `crs`, `size` (columns and
        rows), `gsd` (m), `bounds` (in the CRS: left, bottom, right, top), `mask` (kind and path of the one
        that the scene brings), `bands` (a dict for each,
        with the resolution in units of its CRS) and `notes`.
    """
    rows, cols = scene.shape
    box = scene.geobox.boundingbox
    return {
        'name': scene.name,
        'sensor': scene.sensor,
        'processing_level': scene.processing_level,
        'units': scene.units,
        'offset': None if scene.offset is None else scene.offset.value,
        'evidence': list(scene.evidence),
        'question': scene.question,
        'date': scene.date,
        'crs': None if scene.crs is None else str(scene.crs),
        'size': [cols, rows],
        'gsd': scene.gsd,
        'bounds': None if scene.crs is None else [box.left, box.bottom, box.right, box.top],
        'lazy': scene.is_lazy,
        'mask': None if scene.mask is None else [scene.mask.kind, scene.mask.path],
        'bands': [_describe_band(band) for band in scene.bands.values()],
        'notes': list(scene.notes),
    }


def _describe_band(band: Band) -> dict[str, Any]:
    raster = band.raster
    header = raster.header if isinstance(raster, FileRaster) else None
    nodata = raster.nodata
    affine = raster.geobox.affine
    return {
        'name': band.name,
        'resolution': [math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)],
        'dtype': str(raster.dtype),
        'shape': list(raster.geobox.shape),
        # JSON has no NaN.
        'nodata': nodata if nodata is None or math.isfinite(nodata) else str(nodata),
        'scale': band.scale,
        'offset': band.offset,
        'units': band.units,
        'driver': header.driver if header else None,
        'compression': header.compression if header else None,
        'blocks': list(raster.block_shape),
        'path': raster.path,
        'index': band.index,
    }
