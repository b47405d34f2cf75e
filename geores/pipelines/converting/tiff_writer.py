"""Writing GeoTIFFs in the layout of the release."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from affine import Affine
from numpy.typing import NDArray

from geores.bigearthnet.checksums import CHECKSUMS, write_checksums
from geores.bigearthnet.patch_id import PATCH_SIDE, PatchId, S1Name, modality
from geores.bigearthnet.tiffs import TiffStore
from geores.bigearthnet.tile_grid import parse_tile
from geores.errors import GeoresError, WriteError
from geores.pipelines.converting.journal import Chunk, Journal
from geores.scenes import gdal_env

__all__ = ['TiffWriter']

_PROFILES: dict[str, dict[str, Any]] = {
    's2': {'nodata': 0},
    's1': {},
    'map': {'nodata': 0, 'compress': 'deflate', 'predictor': 2},
}
"""As the released files are, which are plain but for the maps."""


class TiffWriter:
    """A file a band, on the patch's place in the UTM zone of its tile.

    Args:
        folder: To write into.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, journal: Journal) -> None:
        """Nothing: files share nothing."""

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
        """Write the files of a patch."""
        import rasterio

        kind = modality(name)
        patch = (S1Name if kind == 's1' else PatchId).parse(name)
        tile = parse_tile(patch.tile_name)
        west, north = tile.left + PATCH_SIDE * patch.column, tile.top - PATCH_SIDE * patch.row
        store = TiffStore(self.folder)
        paths = store.files(name, list(arrays))
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        with gdal_env():
            for path, pixels in zip(paths, arrays.values(), strict=True):
                height, width = pixels.shape
                step = PATCH_SIDE / width
                with rasterio.open(
                    path,
                    'w',
                    driver='GTiff',
                    count=1,
                    height=height,
                    width=width,
                    dtype=pixels.dtype.name,
                    crs=f'EPSG:{tile.epsg}',
                    transform=Affine(step, 0, west, 0, -step, north),
                    **_PROFILES[kind],
                ) as file:
                    file.write(pixels, 1)
        self._compare(store, name, arrays)
        return None

    def _compare(self, store: TiffStore, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Read a patch again: GDAL closes a file that a full disk cut short without an error."""
        try:
            written = store.read(name, list(arrays))
        except GeoresError as error:
            raise WriteError(f'{self.folder}: patch {name} was not written whole ({error})') from error
        for band, pixels in arrays.items():
            if written[band].tobytes() != pixels.tobytes():
                raise WriteError(f'{self.folder}: {band} of patch {name} was not written as it was read')

    def flush(self) -> None:
        """Nothing: files are closed, and read again before they are put in place."""

    def commit(self, chunk: Chunk) -> None:
        """Nothing: workers have written."""

    def finish(self, journal: Journal) -> None:
        """Write the checksums."""
        write_checksums(self.folder / CHECKSUMS, journal.sums.items())

    def open(self) -> TiffStore:
        """What was written."""
        return TiffStore(self.folder)
