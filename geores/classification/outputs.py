"""The files of a result: rasters, tables, polygons, a picture and the record `run.json`.

Each file stands under its name complete, or not at all. The record says what every scene of a folder was
classified with, so that a later run can tell whether the files are what it would write.
"""

import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geores.cartography.class_raster import (
    cog,
    confidence_raster,
    label_raster,
    probability_raster,
    tag_names,
    write_classes,
)
from geores.cartography.picture import MOST, draw_classes, draw_labels, draw_values
from geores.cartography.sheet import Frame, Sheet, stretched_picture
from geores.classification.pixel_map import PixelMap
from geores.classification.scene_result import SceneResult
from geores.classification.scored import Scored
from geores.classification.tables import cell_blocks, class_cells, label_cells, write_tiles
from geores.errors import OutputError, without_secrets
from geores.io.journal import check_record, holds_work, update_record
from geores.io.whole_files import check_folder_name, check_writable, failing, whole_files
from geores.scenes import gdal_env

__all__ = [
    'check_folder',
    'draw_map',
    'kinds_of',
    'legend_values',
    'outputs',
    'provenance',
    'save',
    'work_folder',
]


Writer: TypeAlias = Callable[[Path], object]

RUN = 'run.json'
"""The record of a folder of results: what each scene was classified with, and its figures."""


def outputs(folder: Path, name: str) -> dict[str, Path]:
    """Paths of all files that a scene can have; its model and options decide which are written."""
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
    """The folder that keeps unfinished work of a scene."""
    return folder / f'.{name}.partial'


def check_folder(folder: Path, names: list[str], *, overwrite: bool) -> None:
    """Refuse a folder where results could not be written, before any work is done.

    Args:
        folder: of results.
        names: of the scenes.
        overwrite: whether files of an earlier run may be replaced.

    Raises:
        OutputError: if files of a scene exist, or the folder cannot be written or is named like a file.
    """
    check_folder_name(folder)
    check_writable(folder)
    check_record(folder / RUN, overwrite=overwrite)
    for name in names:
        paths = outputs(folder, name)
        taken = [path for kind, path in paths.items() if kind != 'run' and os.path.lexists(path)]
        if taken and not overwrite and not holds_work(work_folder(folder, name)):
            raise OutputError(f'{taken[0]} exists: give --overwrite to replace it, or another --out')


def save(result: SceneResult, folder: Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Write all files of a result; `Classification.save` and `PixelClassification.save` say which."""
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


def kinds_of(result: SceneResult) -> list[str]:
    """Kinds of files that a result has, without the record."""
    return list(_writers(result))


def _writers(result: SceneResult) -> dict[str, Writer]:
    """A function that writes each kind of file, in the order of writing."""
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
        writers['scores'] = _whole(lambda path: _write_scores(result, path, tags))
        writers['tiles'] = _whole(lambda path: write_tiles(result, path, {'geores': json.dumps(tags)}))
    elif isinstance(result, PixelMap) and result.info.options.get('probabilities'):
        writers['probabilities'] = lambda path: _write_probabilities(result, path, tags)
    polygons = result.info.options.get('polygons')
    if polygons is not None:
        kind = 'polygons' if polygons == 'gpkg' else 'polygons_parquet'
        writers[kind] = lambda path: _write_polygons(result, path)
    writers['map'] = _whole(lambda path: draw_map(result).write(path))
    return writers


def _whole(write: Writer) -> Writer:
    """Have a writer's file appear complete or not at all."""

    def write_whole(path: Path) -> None:
        with whole_files([path]) as (partial,):
            write(partial)

    return write_whole


def _write_confidence(result: SceneResult, path: Path, tags: dict[str, Any]) -> None:
    with confidence_raster(path, result.class_grid, tags) as raster:
        for rows, cols, values in result.confidence_blocks():
            raster.write(rows, cols, values)


def _write_labels(result: Scored, path: Path, tags: dict[str, Any]) -> None:
    with label_raster(path, result.cell_grid, result.card.labels, tags) as raster:
        for rows, cols in cell_blocks(result):
            raster.write(rows, cols, label_cells(result, rows, cols))


def _write_probabilities(result: PixelMap, path: Path, tags: dict[str, Any]) -> None:
    with probability_raster(path, result.grid, result.card.labels, tags) as raster:
        for rows, cols, values in result.table.blocks('probabilities'):
            raster.write(rows, cols, values)


def _write_polygons(result: SceneResult, path: Path) -> None:
    from geores.cartography.polygons import write_polygons  # geopandas takes tenths of a second

    paths, options = outputs(path.parent, result.name), result.info.options
    write_polygons(
        paths['classes'],
        path,
        result.legend,
        min_area=options.get('min_area'),
        simplify=options.get('simplify') or 0.0,
        confidence=paths['confidence'],
    )


def provenance(result: Scored | SceneResult) -> dict[str, Any]:
    """Model, versions, inputs and options of a result, for tags and metadata."""
    return {
        'model': result.card.name,
        'model_sha256': result.card.sha256,
        'licence_of_weights': result.card.licence,
        'geores_version': version('geores'),
        'scene': result.scene.name,
        'inputs': [
            {'path': raster.path, 'fingerprint': raster.fingerprint} for raster in result.scene.rasters
        ],
        'options': {
            name: without_secrets(value) if isinstance(value, str) else value
            for name, value in result.info.options.items()
        },
    }


def _write_scores(result: Scored, path: Path, tags: dict[str, Any]) -> None:
    """Write the mean scores of cells as a cloud-optimised GeoTIFF, one band per label; NaN is nodata."""
    labels = result.card.labels
    with cog(
        path,
        result.cell_grid,
        dtype='float32',
        nodata=np.nan,
        overviews='average',
        descriptions=labels,
        tags=tag_names(tags),
        predictor=True,
    ) as bands:
        for rows, cols in cell_blocks(result):
            means, _ = result.table.cells(rows, cols)
            bands.write(rows, cols, means)


def _entry(result: SceneResult, paths: dict[str, Path]) -> dict[str, Any]:
    """The entry of a scene in `run.json`."""
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


def legend_values(result: SceneResult) -> dict[str, str]:
    """Labels by value of the class map, for JSON; empty where the result has no class map."""
    if result.card.task not in ('single-label', 'segmentation'):
        return {}
    return {str(value): label for value, label in result.legend.names.items()}


def draw_map(result: SceneResult) -> Sheet:
    """Draw the scene beside its classes, a small map per label, or the first value of a regression.

    Args:
        result: what to draw.
    """
    picture = stretched_picture(result.look.assemble(result.plan, result.store))
    frame = Frame.of(result.grid, result.gsd)
    name, note = result.card.name, str(result.sureness or '')
    if isinstance(result, PixelMap):
        areas = dict(zip(result.areas['label'], result.areas.iloc[:, 3], strict=True))
        return draw_classes(
            picture, _thinned_classes(result), result.legend, frame,
            title=result.name, name=name, shares=result.shares, areas=areas, note=note,
        )  # fmt: skip
    if not isinstance(result, Scored):
        raise TypeError(f'{type(result).__name__} has neither pixels nor tiles to draw')
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


def _thinned_classes(result: PixelMap) -> NDArray[np.integer[Any]]:
    """The class map at the size of a picture: every n-th pixel."""
    height, width = result.grid.shape.yx
    step = -(-max(height, width) // MOST)
    values: NDArray[np.integer[Any]] = result.table.read('classes', slice(0, height), slice(0, width), step)
    return values
