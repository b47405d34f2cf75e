"""Files of a result. Each stands under its name complete, or not at all."""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from geores.addresses import without_secrets
from geores.errors import OutputError, WriteError
from geores.pipelines.figure import write_map
from geores.pipelines.records import check_record, record
from geores.pipelines.scored import Scored
from geores.pipelines.tables import write_tiles
from geores.pipelines.whole_files import check_writable, failing, whole_files
from geores.scenes import gdal_env

__all__ = ['check_folder', 'outputs', 'save', 'work_folder']

BLOCK = 256
RUN = 'run.json'


def outputs(folder: Path, name: str) -> dict[str, Path]:
    """Paths of a scene's files."""
    return {
        'scores': folder / f'{name}_scores.tif',
        'tiles': folder / f'{name}_tiles.parquet',
        'map': folder / f'{name}_map.png',
        'run': folder / RUN,
    }


def work_folder(folder: Path, name: str) -> Path:
    """Where unfinished work of a scene is kept."""
    return folder / f'.{name}.partial'


def check_folder(folder: Path, names: list[str], *, overwrite: bool) -> None:
    """Raise `OutputError` where results could not be written, before any work is done."""
    check_writable(folder)
    check_record(folder / RUN, overwrite=overwrite)
    for name in names:
        paths = outputs(folder, name)
        taken = [paths[kind] for kind in ('scores', 'tiles', 'map') if paths[kind].exists()]
        if taken and not overwrite and not work_folder(folder, name).exists():
            raise OutputError(f'{taken[0]} exists: give --overwrite to replace it, or another --out')


def save(result: Scored, folder: Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Write all files of a result; `geores.Classification.save` says the rest."""
    check_folder(folder, [result.name], overwrite=overwrite)
    paths = outputs(folder, result.name)
    tags = provenance(result)
    writers: dict[str, Callable[[Path], None]] = {
        'scores': lambda path: write_scores(result, path, tags),
        'tiles': lambda path: write_tiles(result, path, {'geores': json.dumps(tags)}),
        'map': lambda path: write_map(result, path),
    }
    with failing(folder), gdal_env():
        for kind, write in writers.items():
            with whole_files([paths[kind]]) as (partial,):
                write(partial)
        with record(paths['run']) as scenes:
            scenes[result.name] = _entry(result, paths)
    return paths


def provenance(result: Scored) -> dict[str, Any]:
    """Where a result comes from, for tags and metadata."""
    return {
        'model': result.card.name,
        'model_sha256': result.card.sha256,
        'licence_of_weights': result.card.licence,
        'geores_version': version('geores'),
        'scene': result.name,
        'inputs': [
            {'path': raster.path, 'fingerprint': raster.fingerprint} for raster in result.scene.rasters
        ],
        'options': {
            name: without_secrets(value) if isinstance(value, str) else value
            for name, value in result.info.options.items()
        },
    }


def write_scores(result: Scored, path: Path, tags: dict[str, Any]) -> None:
    """Write cell means as a cloud-optimised GeoTIFF, one band a label; NaN is nodata.

    Streams through an uncompressed file beside it, so that memory does not grow with the scene.
    """
    rows, cols = result.plan.tiling.cell_shape
    plain = path.with_suffix('.plain.tif')
    profile = {
        'driver': 'GTiff',
        'dtype': 'float32',
        'count': len(result.card.labels),
        'height': rows,
        'width': cols,
        'nodata': np.nan,
        'transform': result.cell_grid.affine,
        'crs': result.grid.crs.to_wkt() if result.grid.crs is not None else None,
        'tiled': True,
        'blockxsize': BLOCK,
        'blockysize': BLOCK,
        'bigtiff': 'if_safer',
        'sparse_ok': True,
    }
    try:
        with rasterio.open(plain, 'w', **profile) as file:
            for band, label in enumerate(result.card.labels, start=1):
                file.set_band_description(band, label)
            file.update_tags(**{f'GEORES_{key.upper()}': _text(value) for key, value in tags.items()})
            for part_rows, part_cols in _blocks(rows, cols):
                means, _ = result.table.cells(part_rows, part_cols)
                file.write(means, window=Window.from_slices(part_rows, part_cols))
        rasterio.shutil.copy(
            plain,
            path,
            driver='COG',
            compress='deflate',
            predictor='yes',
            bigtiff='if_safer',
            overview_resampling='average',
        )
        _verify(plain, path)
    finally:
        plain.unlink(missing_ok=True)


def _verify(plain: Path, path: Path) -> None:
    """Compare checksums: GDAL may close a file that a full disk cut short without an error."""
    with rasterio.open(plain) as before, rasterio.open(path) as after:
        for band in before.indexes:
            if before.checksum(band) != after.checksum(band):
                raise WriteError(f'{path} was not written whole: is the disk full?')


def _blocks(rows: int, cols: int) -> Iterator[tuple[slice, slice]]:
    for row in range(0, rows, BLOCK):
        for col in range(0, cols, BLOCK):
            yield slice(row, min(row + BLOCK, rows)), slice(col, min(col + BLOCK, cols))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _entry(result: Scored, paths: dict[str, Path]) -> dict[str, Any]:
    """What `run.json` says of a scene."""
    info = result.info
    return provenance(result) | {
        'device': info.device,
        'precision': info.precision,
        'seconds': round(info.seconds, 3),
        'tiles': result.plan.tiling.count,
        'tiles_of_this_run': info.tiles,
        'valid_share': result.valid_share,
        **result.figures,
        'notes': list(info.notes),
        'key': dict(info.key),
        'outputs': {kind: paths[kind].name for kind in ('scores', 'tiles', 'map')},
    }
