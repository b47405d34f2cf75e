"""Cloud-optimised GeoTIFFs of any size, written a window at a time in flat memory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from geores.errors import WriteError
from geores.scenes.gdal import ungeoreferenced

__all__ = ['Block', 'CogBands', 'cog', 'tag_names']

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
        """Write a window of all bands.

        Args:
            rows: of the grid, with start and stop.
            cols: likewise.
            values: (rows, cols) of a single band, or (bands, rows, cols).
        """
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
    _verify(plain, path)


def _verify(plain: Path, path: Path) -> None:
    """Compare checksums: GDAL may close a file that a full disk cut short without an error."""
    with _opened(plain) as before, _opened(path) as after:
        for band in before.indexes:
            if before.checksum(band) != after.checksum(band):
                raise WriteError(f'{path} was not written whole: is the disk full?')
