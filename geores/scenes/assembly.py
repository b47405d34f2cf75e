"""Putting a scene together from rasters whose bands have names.

This is where it is decided how stored values become physical ones: by what the file states, else its
product, else the sensor's convention.

Scenes from files: one raster, or a folder with a file for each band.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import numpy as np

from geores.errors import SceneError, without_secrets
from geores.scenes.bands import (
    SENTINEL1_BANDS,
    SENTINEL2_BANDS,
    band_of_stem,
    choose_bands,
    name_bands,
    sensor_of,
)
from geores.scenes.gdal import is_remote
from geores.scenes.header import read_header
from geores.scenes.product import SCL, Product, find_mask, find_product, product_of_text, product_root
from geores.scenes.raster import FileRaster, Raster
from geores.scenes.scene import Band, Scene, SceneMask, notes_on_grid

__all__ = ['BandSource', 'assemble', 'scene_from_file', 'scene_from_folder']


@dataclass(frozen=True)
class BandSource:
    """Where a band is, and what its source says about its values.

    Attributes:
        raster: raster that holds its pixels.
        index: its 1-based index there.
        scaling: scale and offset that the source states, or None.
        units: units that the source states, or None.
    """

    raster: Raster
    index: int
    scaling: tuple[float, float] | None = None
    units: str | None = None


def assemble(
    stem: str,
    sources: Mapping[str, BandSource],
    *,
    product: Product | None = None,
    date: str | None = None,
    notes: Sequence[str] = (),
    mask: SceneMask | None = None,
) -> Scene:
    """Make a scene of named bands.

    Args:
        stem: name of the scene where it belongs to no product.
        sources: bands by canonical name.
        product: product that the source belongs to, where known.
        date: day of acquisition that the source itself states.
        notes: what the user should be told besides.
        mask: mask that lies beside the bands; a band called SCL is one too.
    """
    sensor = _sensor(sources, product)
    bands, all_notes = {}, list(notes)
    for name, source in sources.items():
        meaning = _meaning_of(
            name,
            source.raster.dtype,
            sensor=sensor,
            product=product,
            stated=source.scaling,
            stated_units=source.units,
        )
        bands[name] = Band(name, source.raster, source.index, meaning.scale, meaning.offset, meaning.units)
        all_notes += [meaning.note] if meaning.note else []
    first = next(iter(bands.values()))
    return Scene(
        name=product.name if product else stem,
        bands=bands,
        sensor=sensor,
        processing_level=_level(bands, product) if sensor == 'Sentinel-2' else None,
        units=first.units,
        date=date or (product.date if product else None),
        notes=tuple(dict.fromkeys([*all_notes, *notes_on_grid(first.raster.geobox)])),
        mask=mask or _own_mask(bands, sensor),
    )


def _own_mask(bands: Mapping[str, Band], sensor: str | None) -> SceneMask | None:
    band = next((band for name, band in bands.items() if name.upper() == SCL), None)
    if band is None or sensor != 'Sentinel-2':
        return None
    return SceneMask(SCL, band.raster.path, band)


def _sensor(sources: Mapping[str, BandSource], product: Product | None) -> str | None:
    sensor = sensor_of(sources)
    if sensor is None and product is not None:
        # A true-colour picture in a product holds no bands of its sensor.
        pictures = all(source.raster.dtype == np.uint8 for source in sources.values())
        return None if pictures else product.sensor
    return sensor


def _level(bands: Mapping[str, Band], product: Product | None) -> str | None:
    if product is not None and product.level:
        return product.level
    # Only L1C carries the cirrus band.
    return 'L1C' if 'B10' in bands else None


@dataclass(frozen=True)
class _Meaning:
    """How to read the values of a band: see `Band` for scale, offset and units."""

    scale: float | None = None
    offset: float | None = None
    units: str | None = None
    note: str | None = None


def _meaning_of(
    band: str,
    dtype: np.dtype,
    *,
    sensor: str | None,
    product: Product | None = None,
    stated: tuple[float, float] | None = None,
    stated_units: str | None = None,
) -> _Meaning:
    """Decide what the values of a band mean.

    Args:
        band: canonical name.
        dtype: type of the stored values.
        sensor: sensor of the scene, where known.
        product: product that the file belongs to, where known.
        stated: scale and offset that the file itself states.
        stated_units: units that the file itself states.
    """
    if sensor == 'Sentinel-2' and (band in SENTINEL2_BANDS or band in SENTINEL2_BANDS.values()):
        return _reflectance(band, dtype, product, stated)
    scale, offset = stated if stated else (None, None)
    units = stated_units or None
    if band in SENTINEL1_BANDS:
        return _backscatter(dtype, scale, offset, units)
    if dtype == np.uint8 and stated is None:
        units = '8-bit'
    return _Meaning(scale, offset, units)


def _reflectance(
    band: str, dtype: np.dtype, product: Product | None, stated: tuple[float, float] | None
) -> _Meaning:
    if stated is not None:
        return _Meaning(*stated, 'reflectance')
    if dtype == np.uint8:
        return _Meaning(units='8-bit', note='8-bit values are taken as a display image')
    if dtype.kind == 'f':
        note = 'floating-point values without a stated scale: whether they are reflectance is unknown'
        return _Meaning(note=note)
    if product is not None and product.sensor == 'Sentinel-2':
        return _Meaning(*product.scale_and_offset(band), 'reflectance', product.note)
    note = 'no scale stated: reflectance = DN / 10000 without offset, as Sentinel-2 had before 2022'
    return _Meaning(1e-4, 0.0, 'reflectance', note)


def _backscatter(dtype: np.dtype, scale: float | None, offset: float | None, units: str | None) -> _Meaning:
    if units and units.lower() in {'db', 'decibel', 'decibels'}:
        return _Meaning(scale, offset, 'dB')
    if units is None and dtype.kind == 'f':
        return _Meaning(scale, offset, 'dB', 'backscatter is taken to be in dB: no unit is stated')
    return _Meaning(scale, offset, units)


_SUFFIXES: Final = {'.jp2', '.tif', '.tiff'}
_ORDER: Final = (*SENTINEL2_BANDS, *SENTINEL1_BANDS)


def scene_from_file(path: str, *, bands: Sequence[str] | None = None, allow_vrt: bool = False) -> Scene:
    """Open one raster file.

    Args:
        path: a local file or a remote path.
        bands: names for the file's bands; where the file names its bands itself and has all of
            these, they choose among them instead.
        allow_vrt: whether it may be a GDAL virtual raster.

    Raises:
        SceneError: if it cannot be opened.
        UsageError: if there are more or fewer names than bands.
    """
    stem = PurePosixPath(without_secrets(path)).stem if is_remote(path) else Path(path).stem
    header = read_header(path, allow_vrt=allow_vrt)
    of_band = band_of_stem(stem)
    at = [index - 1 for index in header.data_indexes]
    naming = name_bands(
        header.data_indexes,
        [header.descriptions[i] for i in at],
        colors=[header.colors[i] for i in at],
        dtype=header.dtype,
        file_band=of_band[1] if of_band else None,
    )
    if bands is not None:
        naming = choose_bands(path, naming, bands, alpha=header.alpha)
    # Files beside the bands, such as masks, are not themselves the product's.
    if of_band and not is_remote(path):
        product = find_product(Path(path), of_band[0])
    else:
        product = product_of_text(stem)
    raster = FileRaster(path, nodata=_implied_nodata(product, naming.indexes), header=header)
    sources = {name: _band_source(raster, index) for name, index in naming.indexes.items()}
    return assemble(stem, sources, product=product, notes=naming.notes)


def scene_from_folder(path: str, *, bands: Sequence[str] | None = None) -> Scene:
    """Open a folder of band files, a Sentinel-2 product or a folder inside one.

    Args:
        path: such as `X.SAFE`, its `IMG_DATA`, or any folder of `*_B02.tif` or `B02.jp2`.
        bands: which bands to keep, in this order.

    Raises:
        SceneError: if it holds no band files or those of several scenes.
        BandError: if one of `bands` is not among them.
    """
    listed = _listed(Path(path))
    files = _band_files(Path(path), listed)
    prefixes = {file.prefix for file in files.values()}
    prefix = prefixes.pop() if len(prefixes) == 1 else ''
    product = find_product(Path(path), prefix)
    if product and not product.level and any(file.metres for file in files.values()):
        # Only L2A states the resolution in the names of its files.
        product = replace(product, level='L2A')
    nodata = _implied_nodata(product, files)
    sources = {
        name: _band_source(FileRaster(str(files[name].path), nodata=nodata), 1)
        for name in sorted(files, key=_ORDER.index)
    }
    stem = prefix.strip('_.-') or product_root(Path(path)).name
    mask = find_mask([*listed, *_beside(Path(path))], prefix)
    scene = assemble(stem, sources, product=product, mask=mask)
    return scene if bands is None else scene.select(bands)


def _band_source(raster: FileRaster, index: int) -> BandSource:
    header, at = raster.header, index - 1
    scaling = (header.scales[at], header.offsets[at])
    described = (header.descriptions[at] or '').lower()
    units = 'dB' if described.endswith(('_db', ' db')) else header.units[at]
    return BandSource(raster, index, None if scaling == (1.0, 0.0) else scaling, units)


def _implied_nodata(product: Product | None, names: Collection[str]) -> float | None:
    """Nodata that goes without saying: Sentinel-2's products keep 0 for it."""
    of_sentinel2 = product is not None and product.sensor == 'Sentinel-2'
    return 0.0 if of_sentinel2 and sensor_of(names) == 'Sentinel-2' else None


class _BandFile(NamedTuple):
    path: Path
    prefix: str
    metres: int | None


def _band_files(path: Path, listed: Sequence[Path]) -> dict[str, _BandFile]:
    """Find the file of each band, the finest where there are several."""
    found: dict[str, _BandFile] = {}
    for path_ in listed:
        parts = band_of_stem(path_.stem)
        if parts is None:
            continue
        file, known = _BandFile(path_, parts[0], parts[2]), found.get(parts[1])
        if known is not None and known.metres == file.metres:
            raise SceneError(
                f'{path}: holds band {parts[1]} twice ({known.path.name}, {path_.name}); '
                'give a folder with the files of one scene'
            )
        if known is None or (file.metres or 0) < (known.metres or 0):
            found[parts[1]] = file
    if not found:
        raise SceneError(
            f'{path}: holds no band files such as B02.tif or *_B02.jp2; '
            'give such a folder, a Sentinel-2 product, or the raster file itself'
        )
    return found


def _listed(path: Path) -> list[Path]:
    """Files of a folder, or of a product's folders, that may be rasters by their names."""
    folders = _image_folders(path)
    try:
        files = sorted(file for folder in folders for file in folder.iterdir())
        return [file for file in files if file.suffix.lower() in _SUFFIXES]
    except OSError as error:
        raise SceneError(f'{path}: cannot be listed ({error.strerror}); check its rights') from error


def _beside(path: Path) -> list[Path]:
    """Files of R20m where a product's R10m or R60m alone is opened: its classification is there."""
    folder = Path(os.path.abspath(path))
    classes = folder.parent / 'R20m'
    alone = folder.name in {'R10m', 'R60m'} and classes.is_dir()
    return _listed(classes) if alone else []


def _image_folders(path: Path) -> list[Path]:
    granules = sorted(path.glob('GRANULE/*/IMG_DATA'))
    if len(granules) > 1:
        raise SceneError(f'{path}: holds {len(granules)} granules; give one of them, such as {granules[0]}')
    if granules:
        path = granules[0]
    elif (path / 'IMG_DATA').is_dir():
        path = path / 'IMG_DATA'
    levels = [path / name for name in ('R10m', 'R20m', 'R60m')]
    return [path, *(level for level in levels if level.is_dir())]
