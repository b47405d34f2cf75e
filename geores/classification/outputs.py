"""The picture of a result: the scene beside its map, with legend, areas, scale and how sure it is.

Files of a result. Each stands under its name complete, or not at all.

Why nothing of a scene was classified.
"""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.windows import Window

from geores.cartography.class_raster import confidence_raster, label_raster, probability_raster, write_classes
from geores.cartography.picture import MOST, draw_classes, draw_labels, draw_values
from geores.cartography.polygons import write_polygons
from geores.cartography.sheet import Frame, Sheet, stretched_picture
from geores.classification.pixel_map import PixelClassification
from geores.classification.rasters import cell_blocks, class_cells, label_cells
from geores.classification.scored import Scored
from geores.classification.tables import write_tiles
from geores.errors import OutputError, WriteError, without_secrets
from geores.inference.prepared import PreparedScene
from geores.inference.reader import GridReader
from geores.inference.units import sample_tiles
from geores.io.records import check_record, update_record
from geores.io.whole_files import check_writable, failing, whole_files
from geores.scenes import gdal_env

if TYPE_CHECKING:
    from geores.classification.pixel_map import PixelClassification
    from geores.classification.result import Classification

__all__ = [
    'blank_note',
    'check_folder',
    'draw_map',
    'kinds_of',
    'legend_values',
    'outputs',
    'save',
    'work_folder',
]


def draw_map(result: 'Classification | PixelClassification') -> Sheet:
    """Draw a result: its classes, a small map for each label, or a regression's first value.

    Args:
        result: what to draw.
    """
    picture = stretched_picture(result.look.assemble(result.plan, result.store))
    frame = Frame.of(result.grid, result.gsd)
    name, note = result.card.name, str(result.sureness or '')
    if isinstance(result, PixelClassification):
        areas = dict(zip(result.areas['label'], result.areas.iloc[:, 3], strict=True))
        return draw_classes(
            picture, _pixels(result), result.legend, frame,
            title=result.name, name=name, shares=result.shares, areas=areas, note=note,
        )  # fmt: skip
    rows, cols = result.plan.tiling.cell_shape
    stride = result.plan.tiling.stride
    drawn: dict[str, Any] = {'title': result.name, 'note': note, 'covers': (rows * stride, cols * stride)}
    cells, step = (slice(0, rows), slice(0, cols)), -(-max(rows, cols) // MOST)
    tile = f'tiles of {result.plan.tiling.tile} pixels'
    if result.card.task == 'multi-label':
        present = label_cells(result, *cells)[:, ::step, ::step]
        shares, what = result.shares, f'of {tile}'
        return draw_labels(picture, present, result.legend, frame, shares=shares, what=what, **drawn)
    if result.card.task == 'single-label':
        classes = class_cells(result, *cells)[::step, ::step]
        drawn |= {'name': f'{name}: {tile}', 'shares': result.shares}
        return draw_classes(picture, classes, result.legend, frame, **drawn)
    values = result.table.cells(*cells)[0][0, ::step, ::step]
    label = result.card.labels[0]
    drawn |= {'name': f'{name}: {label}, mean {result.means[label]:.4g}', 'quantity': label}
    return draw_values(picture, values, frame, **drawn)


def _pixels(result: PixelClassification) -> NDArray[np.integer[Any]]:
    """The class map as large as a picture of it, every n-th pixel."""
    height, width = result.grid.shape.yx
    step = -(-max(height, width) // MOST)
    values: NDArray[np.integer[Any]] = result.table.read('classes', slice(0, height), slice(0, width), step)
    return values


Result: TypeAlias = 'Classification | PixelClassification'

BLOCK = 256
RUN = 'run.json'


def outputs(folder: Path, name: str) -> dict[str, Path]:
    """Paths of a scene's files, whichever of them its model and options give."""
    endings = {
        'classes': '_classes.tif',
        'confidence': '_confidence.tif',
        'labels': '_labels.tif',
        'probabilities': '_probabilities.tif',
        'polygons': '_polygons.gpkg',
        'polygons_parquet': '_polygons.parquet',
        'scores': '_scores.tif',
        'tiles': '_tiles.parquet',
        'map': '_map.png',
    }
    return {kind: folder / f'{name}{ending}' for kind, ending in endings.items()} | {'run': folder / RUN}


def work_folder(folder: Path, name: str) -> Path:
    """Where unfinished work of a scene is kept."""
    return folder / f'.{name}.partial'


def check_folder(folder: Path, names: list[str], *, overwrite: bool) -> None:
    """Raise `OutputError` where results could not be written, before any work is done."""
    check_writable(folder)
    check_record(folder / RUN, overwrite=overwrite)
    for name in names:
        paths = outputs(folder, name)
        taken = [path for kind, path in paths.items() if kind != 'run' and path.exists()]
        if taken and not overwrite and not work_folder(folder, name).exists():
            raise OutputError(f'{taken[0]} exists: give --overwrite to replace it, or another --out')


def save(result: Result, folder: Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Write all files of a result; its own `save` says which."""
    check_folder(folder, [result.name], overwrite=overwrite)
    paths = outputs(folder, result.name)
    written: dict[str, Path] = {}
    with failing(folder), gdal_env():
        for kind, write in _writers(result).items():
            write(paths[kind])
            written[kind] = paths[kind]
        with update_record(paths['run']) as scenes:
            scenes[result.name] = _entry(result, written)
    return written | {'run': paths['run']}


def kinds_of(result: Result) -> list[str]:
    """Kinds of files that a result has beside the record."""
    return list(_writers(result))


Writer = Callable[[Path], object]


def _writers(result: Result) -> dict[str, Writer]:
    """What writes each kind of file, in the order of writing."""
    tags = provenance(result)
    writers: dict[str, Writer] = {}
    if result.card.task in ('single-label', 'segmentation'):
        writers['classes'] = lambda path: write_classes(
            path, result.class_blocks(), result.class_grid, result.legend, tags
        )
        writers['confidence'] = lambda path: _write_confidence(result, path, tags)
    if isinstance(result, Scored):
        if result.card.task == 'multi-label':
            writers['labels'] = lambda path: _write_labels(result, path, tags)
        writers['scores'] = _whole(lambda path: write_scores(result, path, tags))
        writers['tiles'] = _whole(lambda path: write_tiles(result, path, {'geores': json.dumps(tags)}))
    elif result.info.options.get('probabilities'):
        writers['probabilities'] = lambda path: _write_probabilities(result, path, tags)
    polygons = result.info.options.get('polygons')
    if polygons is not None:
        kind = 'polygons' if polygons == 'gpkg' else 'polygons_parquet'
        writers[kind] = lambda path: _write_polygons(result, path)
    writers['map'] = _whole(lambda path: draw_map(result).write(path))
    return writers


def _whole(write: Writer) -> Writer:
    """A writer whose file appears complete or not at all."""

    def write_whole(path: Path) -> None:
        with whole_files([path]) as (partial,):
            write(partial)

    return write_whole


def _write_confidence(result: Result, path: Path, tags: dict[str, Any]) -> None:
    with confidence_raster(path, result.class_grid, tags) as raster:
        for rows, cols, values in result.confidence_blocks():
            raster.write(rows, cols, values)


def _write_labels(result: Scored, path: Path, tags: dict[str, Any]) -> None:
    with label_raster(path, result.cell_grid, result.card.labels, tags) as raster:
        for rows, cols in cell_blocks(result):
            raster.write(rows, cols, label_cells(result, rows, cols))


def _write_probabilities(result: 'PixelClassification', path: Path, tags: dict[str, Any]) -> None:
    with probability_raster(path, result.grid, result.card.labels, tags) as raster:
        for rows, cols, values in result.table.blocks('probabilities'):
            raster.write(rows, cols, values)


def _write_polygons(result: Result, path: Path) -> None:
    paths, options = outputs(path.parent, result.name), result.info.options
    write_polygons(
        paths['classes'],
        path,
        result.legend,
        min_area=options.get('min_area'),
        simplify=options.get('simplify') or 0.0,
        confidence=paths['confidence'],
    )


def provenance(result: 'Scored | PixelClassification') -> dict[str, Any]:
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


def _entry(result: Result, paths: dict[str, Path]) -> dict[str, Any]:
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
        'legend': legend_values(result),
        'notes': list(result.notes),
        'key': dict(info.key),
        'outputs': {kind: path.name for kind, path in paths.items()},
    }


def legend_values(result: Result) -> dict[str, str]:
    """Values of the class map and their labels, as JSON has them; empty where there is no such map."""
    if result.card.task not in ('single-label', 'segmentation'):
        return {}
    return {str(value): label for value, label in result.legend.names.items()}


SIDE = 8
"""Tiles along each axis that are looked at."""
SHOWN = 3


def blank_note(prepared: PreparedScene, valid_share: float, min_valid: float) -> str | None:
    """Say why, where nothing was classified; None where something was.

    Args:
        prepared: The scene that was worked through.
        valid_share: Share of it that was classified.
        min_valid: Share of a tile's pixels that had to be valid.
    """
    if valid_share > 0:
        return None
    empty = [names for names in _sources(prepared) if _is_empty(prepared, names)]
    if empty:
        bands = prepared.scene.band
        said = [f'{", ".join(names)} in {bands(names[0]).raster.path}' for names in empty]
        more = [f'{len(said) - SHOWN} more'] if len(said) > SHOWN else []
        listed = ' and '.join(said[:SHOWN] + more)
        return f'nothing was classified: a sample has no valid pixel of {listed}'
    if prepared.card.task == 'segmentation':
        return (
            'nothing was classified: no pixel is valid in every band; nodata, a mask and what lies outside '
            'an area of interest are not'
        )
    return (
        f'nothing was classified: in no tile {min_valid:.0%} of the pixels are valid (min_valid) '
        'in every band; nodata, a mask and what lies outside an area of interest are not'
    )


def _sources(prepared: PreparedScene) -> list[list[str]]:
    """The model's bands, those of one raster together."""
    groups: dict[int, list[str]] = {}
    for name in prepared.card.bands:
        groups.setdefault(id(prepared.scene.band(name).raster), []).append(name)
    return list(groups.values())


def _is_empty(prepared: PreparedScene, names: list[str]) -> bool:
    """Whether a sample of these bands alone, without mask and area, has no valid pixel."""
    layout = prepared.layout
    reader = GridReader(prepared.scene, names, layout.target.grid, resampling=prepared.card.resampling)
    _, valid = sample_tiles(reader, layout.samples, side=SIDE, strict=False)
    return not valid.any()
