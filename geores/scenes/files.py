"""Scenes from files: one raster, or a folder with a file for each band."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from pyproj.exceptions import ProjError

from geores.errors import SceneError, without_secrets
from geores.scenes.assembly import BandSource, assemble
from geores.scenes.bands import (
    SENTINEL1_BANDS,
    SENTINEL2_BANDS,
    Naming,
    band_of_stem,
    choose_bands,
    spell,
    translated,
)
from geores.scenes.gdal import is_remote
from geores.scenes.header import Header, read_header
from geores.scenes.identify import Identity, identify, name_bands
from geores.scenes.offset import known_offset, parse_offset
from geores.scenes.product import (
    find_mask,
    find_product,
    mask_kind,
    product_of_text,
    product_root,
    stac_attributes,
)
from geores.scenes.raster import FileRaster
from geores.scenes.scene import Offset, Scene, ground_size
from geores.scenes.sensors import OPTICAL, SENSORS, SENTINEL1, SENTINEL2, landsat, sensor_named
from geores.scenes.signs import Clues

__all__ = ['named_by_user', 'offset_of', 'scene_from_file', 'scene_from_folder']

_SUFFIXES: Final = {'.jp2', '.tif', '.tiff'}
_ORDER: Final = tuple(
    dict.fromkeys(
        (
            *SENTINEL2_BANDS,
            *SENSORS[landsat(9)].numbers.values(),
            *SENTINEL2_BANDS.values(),
            *(name for sensor in SENSORS.values() for name in sensor.numbers.values()),
            *SENTINEL1_BANDS,
        )
    )
)


def scene_from_file(
    path: str,
    *,
    bands: Sequence[str] | None = None,
    allow_vrt: bool = False,
    sensor: str | None = None,
    offset: str | float = 'auto',
) -> Scene:
    """Open one raster file.

    Args:
        path: a local file or a remote path.
        bands: names for the file's bands; where the file names its bands itself and has all of
            these, they choose among them instead.
        allow_vrt: whether it may be a GDAL virtual raster.
        sensor: which sensor the user says it is of.
        offset: what the user says of Sentinel-2's offset.

    Raises:
        SceneError: if it cannot be opened.
        UsageError: if there are more or fewer names than bands.
    """
    stem = PurePosixPath(without_secrets(path)).stem if is_remote(path) else Path(path).stem
    header = read_header(path, allow_vrt=allow_vrt)
    of_band = band_of_stem(stem) if len(header.data_indexes) == 1 else None
    # Files beside the bands, such as masks, are not themselves the product's.
    if is_remote(path):
        product = product_of_text(of_band[0] if of_band else stem)
    elif of_band:
        product = find_product(Path(path), of_band[0])
    else:
        product = find_product(Path(path), stem) if product_of_text(stem) else None
        product = replace(product, name=stem) if product else None
    clues = _clues([header], [stem], of_band[1] if of_band else None)
    identity = identify(clues, product, asked=sensor)
    naming = name_bands(clues, header.data_indexes, identity)
    if bands is not None:
        naming = choose_bands(path, naming, bands, alpha=header.alpha)
        identity = named_by_user(identity, naming)
    raster = FileRaster(path, nodata=_implied_nodata(identity, naming.indexes), header=header)
    sources = {name: _band_source(raster, index) for name, index in naming.indexes.items()}
    known = offset_of(identity, clues, offset)
    return assemble(stem, sources, identity=identity, offset=known, notes=naming.notes)


def scene_from_folder(
    path: str, *, bands: Sequence[str] | None = None, sensor: str | None = None, offset: str | float = 'auto'
) -> Scene:
    """Open a folder of band files, a product's folder or one inside it, or a folder of one image.

    Args:
        path: such as `X.SAFE`, its `IMG_DATA`, or any folder of `*_B02.tif` or `B02.jp2`.
        bands: which bands to keep, in this order.
        sensor: which sensor the user says it is of.
        offset: what the user says of Sentinel-2's offset.

    Raises:
        SceneError: if it holds no band files or those of several scenes.
        BandError: if one of `bands` is not among them.
    """
    listed = _listed(Path(path))
    files = _band_files(Path(path), listed)
    if not files:
        image = _only_image(Path(path), listed)
        return scene_from_file(str(image), bands=bands, sensor=sensor, offset=offset)
    prefixes = {file.prefix for file in files.values()}
    prefix = prefixes.pop() if len(prefixes) == 1 else ''
    product = find_product(Path(path), prefix)
    if product and product.sensor == SENTINEL2 and not product.level:
        # Only L2A states the resolution in the names of its files.
        level = 'L2A' if any(file.metres for file in files.values()) else None
        product = replace(product, level=level)
    headers = {raw: read_header(str(file.path)) for raw, file in files.items()}
    clues = _clues(list(headers.values()), [prefix or product_root(Path(path)).name], *headers)
    clues = replace(clues, attributes={**clues.attributes, **stac_attributes(Path(path))})
    identity = identify(clues, product, asked=sensor)
    naming = name_bands(clues, range(len(headers)), identity)
    raws = list(headers)
    nodata = _implied_nodata(identity, naming.indexes)
    sources = {}
    for name in sorted(naming.indexes, key=_place):
        raw = raws[naming.indexes[name]]
        raster = FileRaster(str(files[raw].path), nodata=nodata, header=headers[raw])
        sources[name] = _band_source(raster, 1)
    stem = prefix.strip('_.-') or product_root(Path(path)).name
    mask = find_mask([*listed, *_beside(Path(path))], prefix)
    known = offset_of(identity, clues, offset)
    scene = assemble(stem, sources, identity=identity, offset=known, notes=naming.notes, mask=mask)
    return scene if bands is None else scene.select([translated(band, identity.sensor) for band in bands])


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _clues(headers: Sequence[Header], texts: Sequence[str], *file_bands: str | None) -> Clues:
    """Collect what headers and names say: of the bands of one file, or of one file for each band."""
    first = headers[0]
    if len(headers) > 1 or (file_bands and file_bands[0]):
        described: list[str | None] = list(file_bands)
        if len(headers) == 1 and first.descriptions[0] and _tells(first.descriptions[0]):
            described = [first.descriptions[0]]
        colors: list[str] = ['undefined'] * len(headers)
        wavelengths = [header.wavelengths[0] if header.wavelengths else None for header in headers]
    else:
        at = [index - 1 for index in first.data_indexes]
        described = [first.descriptions[i] for i in at]
        colors = [first.colors[i] for i in at]
        wavelengths = [first.wavelengths[i] if first.wavelengths else None for i in at]
    sizes = [size for header in headers if (size := _pixel(header)) is not None]
    return Clues(
        described,
        first.dtype,
        texts,
        colors,
        first.nodata[0],
        min(sizes) if sizes else None,
        first.tags,
        wavelengths,
    )


def _tells(text: str) -> bool:
    """Whether a description names a band rather than a place in a file."""
    said = spell(text)
    return bool(said.common or (said.number and said.word != 'placeholder'))


def _pixel(header: Header) -> float | None:
    try:
        return ground_size(header.geobox)
    except (ProjError, ValueError):
        return None  # a CRS that does not lie on the Earth


def named_by_user(identity: Identity, naming: Naming) -> Identity:
    """What a source is once its user has named its bands: a name such as B02 is of Sentinel-2."""
    names = set(naming.indexes)
    sensor = identity.sensor
    if sensor is None and names & set(SENTINEL2_BANDS):
        sensor = SENTINEL2
    elif sensor is None and names & set(SENTINEL1_BANDS):
        sensor = SENTINEL1
    level = identity.level or ('L1C' if sensor == SENTINEL2 and 'B10' in names else None)
    evidence = (*identity.evidence, '--bands names the bands')
    return replace(identity, sensor=sensor, level=level, question=None, evidence=evidence)


def offset_of(
    identity: Identity, clues: Clues, said: str | float, *, date: str | None = None
) -> Offset | None:
    """Decide the offset of Sentinel-2's digital numbers from the evidence; None for another sensor."""
    value = parse_offset(said)
    if identity.sensor != SENTINEL2:
        return None
    if value is not None:
        return Offset(value, 'user', f'offset of {value:.0f} applied: --offset says so' if value else None)
    return known_offset(identity.product, date=date, texts=clues.texts, attributes=clues.attributes)


def _only_image(path: Path, listed: Sequence[Path]) -> Path:
    """The one image of a folder that holds no band files, beside its masks."""
    images = [file for file in listed if not mask_kind(file.stem) and not _ASIDE.search(file.stem)]
    if len(images) == 1:
        return images[0]
    if images:
        raise SceneError(
            f'{path}: holds {len(images)} images and no band files; give one, such as {images[0].name}'
        )
    raise SceneError(
        f'{path}: holds no band files such as B02.tif or *_B02.jp2; '
        "give such a folder, a sensor's product, or the raster file itself"
    )


_ASIDE: Final = re.compile(r'(?<![a-z])(udm2?|qa\w*|fmask|mask|tci|aot|wvp|dem)(?![a-z])', re.IGNORECASE)


def _band_source(raster: FileRaster, index: int) -> BandSource:
    header, at = raster.header, index - 1
    scaling = (header.scales[at], header.offsets[at])
    described = (header.descriptions[at] or '').lower()
    units = 'dB' if described.endswith(('_db', ' db')) else header.units[at]
    return BandSource(raster, index, None if scaling == (1.0, 0.0) else scaling, units)


def _implied_nodata(identity: Identity, names: Collection[str]) -> float | None:
    """Nodata that goes without saying: products keep 0 or -9999 for it."""
    sensor, product = identity.sensor, identity.product
    if product is None or sensor != product.sensor or not set(names) & OPTICAL.union(SENTINEL2_BANDS):
        return None
    return sensor_named(sensor).nodata


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
    levels = [path / name for name in ('R10m', 'R20m', 'R60m', 'measurement')]
    return [path, *(level for level in levels if level.is_dir())]
