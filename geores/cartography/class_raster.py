"""Rasters of a classification that say what they are, as cloud-optimised GeoTIFFs of any size.

All are written a window at a time in flat memory (`cog`): classes, confidence, labels and probabilities.
A raster stands under its name complete, with the files that describe it, or not at all.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from geores.cartography.areas import NODATA, NODATA_NAME, Legend, Tally
from geores.cartography.gis_files import (
    class_side_file,
    label_side_file,
    side_path,
    write_qgis_style,
    write_side_file,
)
from geores.errors import UsageError, WriteError
from geores.io.whole_files import whole_files
from geores.scenes.gdal import ungeoreferenced

__all__ = [
    'ABSENT',
    'LEGEND_TAG',
    'PRESENT',
    'PROBABILITY_NODATA',
    'Block',
    'ClassRaster',
    'CogBands',
    'class_files',
    'class_raster',
    'cog',
    'confidence_raster',
    'confidence_values',
    'label_raster',
    'probability_raster',
    'probability_values',
    'tag_names',
    'write_classes',
]

BLOCK = 256
"""Pixels along each side of a block of the file."""

Block = tuple[slice, slice, NDArray[Any]]
"""Rows, columns, and the values of that window: (rows, cols), or (bands, rows, cols)."""


@dataclass(frozen=True)
class CogBands:
    """Bands of a file that is being written.

    Attributes:
        file: the temporary, uncompressed file.
    """

    file: DatasetWriter

    def write(self, rows: slice, cols: slice, values: NDArray[Any]) -> None:
        """Write a window of all bands: (rows, cols) of a single one, or (bands, rows, cols)."""
        bands = values[None] if values.ndim == 2 else values
        self.file.write(bands, window=Window.from_slices(rows, cols))


@contextmanager
def cog(
    path: Path,
    grid: GeoBox,
    *,
    dtype: str,
    nodata: float,
    overviews: Literal['mode', 'average', 'nearest'],
    descriptions: Sequence[str],
    colours: Mapping[int, tuple[int, int, int, int]] | None = None,
    scale: float | None = None,
    tags: Mapping[str, Any] | None = None,
    predictor: bool = False,
) -> Iterator[CogBands]:
    """Write a cloud-optimised GeoTIFF from windows in any order; pixels that are never written are no data.

    The windows go to an uncompressed file beside it, which is compressed at the end: GDAL writes this format
    only by copying a whole raster, and memory must not grow with it.

    Args:
        path: of the file, which is complete when the block ends without an error.
        grid: shape, transform and CRS of the raster.
        dtype: of the values.
        nodata: value of pixels without data.
        overviews: how overviews are resampled.
        descriptions: of the bands, one each.
        colours: value -> red, green, blue and alpha, for a single band.
        scale: by which readers multiply the values; None for 1.
        tags: of the file.
        predictor: whether neighbours differ little, so that differences compress better.

    Raises:
        WriteError: if the file was not written whole.
        RasterioError: if writing failed.
    """
    plain = path.with_suffix('.plain.tif')
    profile = {
        'driver': 'GTiff',
        'dtype': dtype,
        'count': len(descriptions),
        'photometric': 'minisblack',  # or four bands of bytes would be red, green, blue and alpha
        'height': grid.shape.y,
        'width': grid.shape.x,
        'nodata': nodata,
        'transform': grid.affine,
        'crs': grid.crs.to_wkt() if grid.crs is not None else None,
        'tiled': True,
        'blockxsize': BLOCK,
        'blockysize': BLOCK,
        'bigtiff': 'if_safer',
        'sparse_ok': True,
    }
    try:
        with _opened(plain, 'w', **profile) as file:
            file.descriptions = tuple(descriptions)
            if scale is not None:
                file.scales = [scale] * len(descriptions)
            if colours is not None:
                file.write_colormap(1, dict(colours))
            file.update_tags(**(tags or {}))
            yield CogBands(file)
        _copy(plain, path, overviews, predictor=predictor)
    finally:
        for left in (plain, *(path.with_name(path.name + end) for end in ('.ovr.tmp', '.msk.ovr.tmp'))):
            left.unlink(missing_ok=True)


def tag_names(tags: Mapping[str, Any] | None) -> dict[str, str]:
    """Tags as they stand in a file: 'model' becomes GEORES_MODEL, and values become text or JSON."""
    return {
        f'GEORES_{key.upper()}': value if isinstance(value, str) else json.dumps(value)
        for key, value in (tags or {}).items()
    }


def _opened(path: Path, mode: str = 'r', **profile: object) -> Any:  # noqa: ANN401
    """A dataset of rasterio, without a warning where it has no georeference."""
    with ungeoreferenced():
        return rasterio.open(path, mode, **profile)


def _copy(plain: Path, path: Path, overviews: str, *, predictor: bool) -> None:
    with ungeoreferenced():
        rasterio.shutil.copy(
            plain,
            path,
            driver='COG',
            compress='deflate',
            predictor='yes' if predictor else 'no',
            bigtiff='if_safer',
            overview_resampling=overviews,
        )
    # GDAL may close a file that a full disk cut short without an error.
    with _opened(plain) as before, _opened(path) as after:
        for band in before.indexes:
            if before.checksum(band) != after.checksum(band):
                raise WriteError(f'{path} was not written whole: is the disk full?')


LEGEND_TAG = 'GEORES_LEGEND'
"""Tag of a class map with its labels by value, for maps that have lost their side file."""
ABSENT, PRESENT = 1, 2
LABEL_NAMES = (NODATA_NAME, 'absent', 'present')
LABEL_LEGEND = Legend(LABEL_NAMES[1:], ('#e6e6e6', '#b2182b'))
CONFIDENCE_TOP = 255
"""Byte of a confidence of 1."""
PROBABILITY_TOP, PROBABILITY_NODATA = 254, 255
"""Byte of a probability of 1, and of no data."""


@dataclass(frozen=True)
class ClassRaster:
    """A class map that is being written.

    Attributes:
        bands: to write to.
        tally: pixels and areas written so far.
    """

    bands: CogBands
    tally: Tally

    def write(self, rows: slice, cols: slice, values: NDArray[np.integer]) -> None:
        """Write and count a window; each pixel of the grid may be written once.

        Args:
            rows: of the grid, with start and stop.
            cols: likewise.
            values: 0 for no data, else 1 to K, (rows, cols).

        Raises:
            UsageError: if a value stands for no label.
        """
        if values.size and int(values.max()) >= len(self.tally.pixels):
            raise UsageError(
                f'value {int(values.max())} stands for no label: the legend has {len(self.tally.pixels) - 1}'
            )
        self.tally.add(rows, values)
        self.bands.write(rows, cols, values)


def class_files(path: Path) -> list[Path]:
    """Files of a class map or of a raster of labels: those that describe it first, the raster last."""
    return [side_path(path), path.with_suffix('.qml'), path]


@contextmanager
def class_raster(
    path: Path, grid: GeoBox, legend: Legend, tags: Mapping[str, Any] | None = None
) -> Iterator[ClassRaster]:
    """Write a class map, its `.aux.xml` and its `.qml`, which appear together or not at all.

    uint8, or uint16 above 254 labels: 0 is no data, i the i-th label. It has a colour table, category
    names, an attribute table with pixels and areas, and overviews of the most frequent class.

    Args:
        path: `<name>_classes.tif`.
        grid: shape, transform and CRS of the raster.
        legend: of its values.
        tags: of provenance.

    Yields:
        A raster that takes windows in any order.

    Raises:
        WriteError: if writing failed, as on a full disk; no file is left.
    """
    with whole_files(class_files(path)) as (side, style, raster):
        tally = Tally.of(grid, legend)
        colours = {0: (0, 0, 0, 0)} | {
            value: (*colour, 255) for value, colour in zip(legend.values, legend.rgb.tolist(), strict=True)
        }
        with cog(
            raster,
            grid,
            dtype=legend.dtype,
            nodata=NODATA,
            overviews='mode',
            descriptions=['class'],
            colours=colours,
            tags=tag_names(tags) | {LEGEND_TAG: json.dumps(legend.names, ensure_ascii=False)},
        ) as bands:
            yield ClassRaster(bands, tally)
        write_side_file(class_side_file(legend, tally), side)
        write_qgis_style(style, legend)


def write_classes(
    path: Path, blocks: Iterable[Block], grid: GeoBox, legend: Legend, tags: Mapping[str, Any] | None = None
) -> Tally:
    """Write a class map from blocks, (rows, cols, values), that cover the grid: `class_raster` in one call.

    Returns:
        Pixels and areas of each class.
    """
    with class_raster(path, grid, legend, tags) as raster:
        for rows, cols, values in blocks:
            raster.write(rows, cols, values)
        return raster.tally


@contextmanager
def confidence_raster(path: Path, grid: GeoBox, tags: Mapping[str, Any] | None = None) -> Iterator[CogBands]:
    """Write the confidence of a classification: uint8, 1 to 255 for 0 to 1 (scale 1/255), 0 no data.

    0 is free for no data, since the best of K classes never scores less than 1/K.

    Args:
        path: `<name>_confidence.tif`.
        grid: shape, transform and CRS of the raster.
        tags: of provenance.

    Yields:
        Bands that take windows of `confidence_values`.

    Raises:
        WriteError: if writing failed, as on a full disk; no file is left.
    """
    with _scaled(path, grid, ['confidence'], CONFIDENCE_TOP, NODATA, tags) as bands:
        yield bands


def confidence_values(scores: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Scores from 0 to 1, NaN for no data, as the bytes of `confidence_raster`; any shape."""
    bytes_ = np.rint(np.nan_to_num(scores).clip(0, 1) * CONFIDENCE_TOP).clip(min=1)
    return np.where(np.isnan(scores), NODATA, bytes_).astype(np.uint8)


@contextmanager
def label_raster(
    path: Path, grid: GeoBox, labels: Sequence[str], tags: Mapping[str, Any] | None = None
) -> Iterator[CogBands]:
    """Write which labels each cell has: one uint8 band per label, 0 no data, 1 absent, 2 present.

    Its `.aux.xml` names the values, its `.qml` colours any of the bands; they appear with it.

    Args:
        path: `<name>_labels.tif`.
        grid: shape, transform and CRS of the raster.
        labels: of the bands.
        tags: of provenance.

    Yields:
        Bands that take windows (K, rows, cols).

    Raises:
        WriteError: if writing failed, as on a full disk; no file is left.
    """
    with whole_files(class_files(path)) as (side, style, raster):
        with cog(
            raster,
            grid,
            dtype='uint8',
            nodata=NODATA,
            overviews='mode',
            descriptions=labels,
            tags=tag_names(dict(tags or {}) | {'values': dict(enumerate(LABEL_NAMES))}),
        ) as bands:
            yield bands
        write_side_file(label_side_file(labels, LABEL_NAMES, LABEL_LEGEND.rgb), side)
        write_qgis_style(style, LABEL_LEGEND, clear=(ABSENT,))


@contextmanager
def probability_raster(
    path: Path, grid: GeoBox, labels: Sequence[str], tags: Mapping[str, Any] | None = None
) -> Iterator[CogBands]:
    """Write the probability of each label: one uint8 band per label, 0 to 254 for 0 to 1, 255 no data.

    The file states the scale of 1/254, so that readers that apply it give probabilities. A byte keeps them
    to ± 0.002, at a quarter of the size of float32, and less once compressed.

    Args:
        path: `<name>_probabilities.tif`.
        grid: shape, transform and CRS of the raster.
        labels: of the bands.
        tags: of provenance.

    Yields:
        Bands that take windows of `probability_values`.

    Raises:
        WriteError: if writing failed, as on a full disk; no file is left.
    """
    with _scaled(path, grid, labels, PROBABILITY_TOP, PROBABILITY_NODATA, tags) as bands:
        yield bands


@contextmanager
def _scaled(
    path: Path, grid: GeoBox, names: Sequence[str], top: int, nodata: int, tags: Mapping[str, Any] | None
) -> Iterator[CogBands]:
    """Write one band per name of bytes, in which `top` stands for 1."""
    with (
        whole_files([path]) as (partial,),
        cog(
            partial,
            grid,
            dtype='uint8',
            nodata=nodata,
            overviews='average',
            descriptions=names,
            scale=1 / top,
            tags=tag_names(tags),
            predictor=True,
        ) as bands,
    ):
        yield bands


def probability_values(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Probabilities, NaN for no data, as the bytes of `probability_raster`; any shape."""
    bytes_ = np.rint(np.nan_to_num(probabilities).clip(0, 1) * PROBABILITY_TOP)
    return np.where(np.isnan(probabilities), PROBABILITY_NODATA, bytes_).astype(np.uint8)
