"""Sample tiles: labelled polygons and points, where tiles lie, their classes, and who reads them."""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeAlias, get_args

import geopandas as gpd
import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry
from torch import distributed
from torch.utils.data import DistributedSampler

from geores.errors import DatasetError, SceneError
from geores.grid import Tiling
from geores.inference.target import reproject_near
from geores.scenes.vectors import list_layers, read_vector
from geores.splits.stratified import label_text

__all__ = [
    'Decision',
    'LabelRule',
    'LabelledFeatures',
    'Labels',
    'Placement',
    'ProcessSampler',
    'Task',
    'decide',
    'process_count',
    'read_labelled_features',
    'windows_centred',
    'windows_on_grid',
]

Labels: TypeAlias = str | Path | gpd.GeoDataFrame
"""A vector file, or the GeoDataFrame read from one."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Geometries with one class each.

    Attributes:
        name: name of the file, for messages.
        kind: 'polygon' or 'point'; every geometry is single.
        geometries: (N,).
        classes: (N,), names.
        crs: of the geometries.
        notes: on repairs and omissions, one sentence each.
    """

    name: str
    kind: Literal['polygon', 'point']
    geometries: NDArray[np.object_]
    classes: NDArray[np.object_]
    crs: CRS
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def to_crs(self, crs: object) -> Self:
        """Reproject the features; those without finite coordinates there are left out."""
        wanted = CRS.from_user_input(crs)
        if wanted == self.crs:
            return self
        return self._moved(gpd.GeoSeries(self.geometries, crs=self.crs).to_crs(wanted).make_valid())

    def about(self, crs: CRS, area: BaseGeometry) -> Self:
        """Select the features that intersect an area, a polygon, in its CRS."""
        near = reproject_near(gpd.GeoSeries(self.geometries, crs=self.crs), crs, area.bounds)
        return self._moved(near[near.intersects(area)])

    def _moved(self, geometries: gpd.GeoSeries) -> Self:
        """Replace the geometries, indexed by position; without finite coordinates they are left out."""
        geometries = geometries[np.isfinite(geometries.bounds).all(axis=1)]
        values, classes = np.asarray(geometries.array, object), self.classes[geometries.index]
        return replace(self, geometries=values, classes=classes, crs=CRS(geometries.crs))


def read_labelled_features(labels: Labels, column: str, layer: str | None = None) -> LabelledFeatures:
    """Read polygons or points and their classes.

    Invalid polygons are repaired by `shapely.make_valid`, and features without geometry or class are left
    out; notes say so. Numeric classes become text.

    Raises:
        DatasetError: if the file cannot be read, the layer, the column or the CRS is missing, or there are
            neither polygons nor points, or both.
    """
    frame, name = _load(labels, layer)
    if column not in frame.columns or column == frame.geometry.name:
        columns = frame.columns.drop(frame.geometry.name)
        raise DatasetError(f'{name}: has no column {column!r}{_hint(column, columns.map(str))}')
    if frame.crs is None:
        raise DatasetError(f'{name}: states no CRS, so it cannot be laid over a scene: set it in the file')
    classes = np.array([label_text(value) for value in frame[column]], object)
    geometries = shapely.force_2d(np.asarray(frame.geometry.array, object))
    unlabelled = classes == ''
    empty = ~unlabelled & (shapely.is_missing(geometries) | shapely.is_empty(geometries))
    kept = ~unlabelled & ~empty
    geometries, classes = geometries[kept], classes[kept]
    invalid = ~shapely.is_valid(geometries)
    geometries[invalid] = shapely.make_valid(geometries[invalid])
    kind, geometries, classes = _single(name, geometries, classes)
    notes = [
        f'{name}: {count} {what}'
        for count, what in (
            (int(invalid.sum()), 'invalid polygons mended'),
            (int(empty.sum()), 'features without geometry left out'),
            (int(unlabelled.sum()), f'features without {column} left out'),
        )
        if count
    ]
    return LabelledFeatures(name, kind, geometries, classes, CRS(frame.crs), tuple(notes))


def _load(labels: Labels, layer: str | None) -> tuple[gpd.GeoDataFrame, str]:
    if isinstance(labels, gpd.GeoDataFrame):
        if labels.active_geometry_name is None:
            raise DatasetError('labels: the GeoDataFrame has no geometry column')
        return labels, 'labels'
    path = Path(labels)
    if not path.exists():
        raise DatasetError(f'{path}: no such vector file of labels{_near(path)}')
    try:
        layers = [one.name for one in list_layers(path)]
        if layer is None and len(layers) > 1:
            raise DatasetError(f'{path}: has several layers, name one: {", ".join(layers)}')
        if layer is not None and layer not in layers:
            raise DatasetError(f'{path}: has no layer {layer!r}{_hint(layer, layers)}')
        frame = read_vector(path, layer=layer)
    except SceneError as error:
        raise DatasetError(f'{path}: the labels cannot be read: {error}') from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise DatasetError(f'{path}: has no geometries, and polygons or points are needed')
    return frame, path.name


def _near(path: Path) -> str:
    names = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f': did you mean {near[0]!r}?' if near else ''


def _hint(name: str, names: Iterable[str]) -> str:
    spelt = {one.lower(): one for one in names}
    if near := difflib.get_close_matches(name.lower(), spelt, n=1):
        return f': did you mean {spelt[near[0]]!r}?'
    return f': it has {", ".join(spelt.values())}' if spelt else ''


def _single(
    name: str, geometries: NDArray[np.object_], classes: NDArray[np.object_]
) -> tuple[Literal['polygon', 'point'], NDArray[np.object_], NDArray[np.object_]]:
    """Split into single polygons or single points; lines that a repair left behind are dropped."""
    while (shapely.get_type_id(geometries) > 3).any():  # collections may hold collections
        geometries, index = shapely.get_parts(geometries, return_index=True)
        classes = classes[index]
    kinds = Counter(shapely.get_type_id(geometries).tolist())
    if kinds[0] and kinds[3]:
        raise DatasetError(f'{name}: holds polygons and points: give one of them alone')
    if not kinds[0] and not kinds[3]:
        raise DatasetError(f'{name}: holds no polygons and no points that have a class')
    wanted = shapely.get_type_id(geometries) == (3 if kinds[3] else 0)
    return 'polygon' if kinds[3] else 'point', geometries[wanted], classes[wanted]


Placement = Literal['auto', 'grid', 'centred']
Task = Literal['single-label', 'multi-label']
ROUNDING = 1e-9
"""Tolerance of area shares, so that rounding does not decide."""


def process_count() -> int:
    """Number of processes of distributed training; 1 outside it."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class ProcessSampler(DistributedSampler[int]):
    """Samples of this process in distributed training, without repeats.

    Lightning's own sampler repeats samples until all processes have equally many, so that an evaluation
    counts some twice. Here evaluation takes every sample once, and some processes may have one more than
    others; training drops the remainder. The order of training depends on seed and epoch alone: one batch of
    a single process holds the same samples as the n batches, an n-th of its size, of n processes.

    Args:
        count: number of samples.
        shuffle: whether to train: another order each epoch.
        seed: random seed of the order.
    """

    def __init__(self, count: int, *, shuffle: bool, seed: int = 0) -> None:
        processes = process_count()
        rank = distributed.get_rank() if processes > 1 else 0
        super().__init__(range(count), processes, rank, shuffle, seed)  # type: ignore[arg-type]
        shared = count - count % processes if shuffle else count
        self.positions = range(rank, shared, processes)

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(self.positions)
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        return iter(order[self.positions.start :: self.num_replicas][: len(self)].tolist())

    def __len__(self) -> int:
        return len(self.positions)


class Decision(NamedTuple):
    """Classes of tiles, as decided from the labels.

    Attributes:
        present: (N, K) bool, the classes of each tile.
        shares: (N,) part of the tile that its class covers, or, of several, all of them; 1 where points
            decide.
        reasons: (N,) why nothing is decided: 'no label', 'share' (no class covers enough), 'several' (two
            cover the same, or points of two classes) or 'cover' (too much is under no label); '' where it is.
    """

    present: NDArray[np.bool_]
    shares: NDArray[np.float64]
    reasons: NDArray[np.object_]


@dataclass(frozen=True)
class LabelRule:
    """Rule that decides the class, or classes, of a tile.

    Attributes:
        task: 'single-label' takes the class that covers most; 'multi-label' each that covers enough.
        min_share: minimum share of a tile that a class has to cover.
        min_cover: for 'multi-label', minimum share of a tile that labels of any class cover.
    """

    task: Task
    min_share: float
    min_cover: float = 0.0

    @classmethod
    def with_defaults(cls, task: Task, min_share: float | None, min_cover: float | None) -> Self:
        """Make a rule; defaults are a share of 0.5, for multi-label 0.01 and a cover of 0.9.

        Args:
            task: as in the class.
            min_share: likewise; None takes the default.
            min_cover: likewise.

        Raises:
            DatasetError: if one is out of range, or has no effect.
        """
        if task not in get_args(Task):
            raise DatasetError(f'task has to be one of {", ".join(get_args(Task))}, not {task!r}')
        if min_share is not None and not 0 < min_share <= 1:
            raise DatasetError(f'min_share has to be above 0 and at most 1, not {min_share}')
        if min_cover is not None and not 0 <= min_cover <= 1:
            raise DatasetError(f'min_cover has to be between 0 and 1, not {min_cover}')
        several = task == 'multi-label'
        if min_cover is not None and not several:
            raise DatasetError('min_cover goes with the task multi-label: a tile of one class has min_share')
        default_share, default_cover = (0.01, 0.9) if several else (0.5, 0.0)
        return cls(
            task,
            default_share if min_share is None else min_share,
            default_cover if min_cover is None else min_cover,
        )


def windows_on_grid(shape: tuple[int, int], size: int, stride: int) -> NDArray[np.int64]:
    """First row and column of the tiles that inference would read, (N, 2), row-major.

    Args:
        shape: height and width of the grid, in pixels, as are the others.
        size: side of a tile.
        stride: step from tile to tile.
    """
    tiling = Tiling(*shape, size, stride)
    rows, cols = np.meshgrid(tiling.y.starts, tiling.x.starts, indexing='ij')
    return np.stack([rows.ravel(), cols.ravel()], axis=1).astype(np.int64)


def windows_centred(
    shape: tuple[int, int], size: int, cols: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.int64]:
    """First row and column of a tile around each centre; tiles are moved to lie inside the grid.

    Args:
        shape: height and width of the grid, in pixels.
        size: side of a tile in pixels.
        cols: column of each centre, (M,), in pixels.
        rows: row of each centre, (M,), in pixels.

    Returns:
        (N, 2), each once, row-major.
    """
    inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    centres = np.stack([rows[inside], cols[inside]], axis=1)
    starts = np.clip(np.floor(centres - size / 2 + 0.5), 0, np.array(shape) - size)
    return np.unique(starts.astype(np.int64), axis=0)


def decide(
    boxes: NDArray[np.object_], features: LabelledFeatures, names: NDArray[np.str_], rule: LabelRule
) -> Decision:
    """Decide the class, or classes, of each tile.

    One class: that which covers the largest area of the tile, if that is at least `min_share` of the whole
    tile; two that cover the same area decide nothing. Of points, the class of those inside; tiles with
    points of two classes are left undecided. Several: each that covers at least `min_share` of the tile, or
    has a point in it, where at least `min_cover` of the tile is under labels. Polygons that overlap count
    once.

    Args:
        boxes: the tiles, (N,), in the CRS of the features.
        features: polygons or points.
        names: the K classes, sorted.
        rule: says which.

    Raises:
        DatasetError: if the features are points and the rule has a `min_cover`.
    """
    tiles, found = shapely.STRtree(features.geometries).query(boxes, predicate='intersects')
    codes = np.searchsorted(names, features.classes[found].astype(str))
    if features.kind == 'point':
        if rule.min_cover:
            raise DatasetError(
                f'{features.name}: points say where a class is and not where it is not: a min_cover of 0 '
                'takes them as all there are'
            )
        cover, whole = np.zeros((len(boxes), len(names))), np.ones(len(boxes))
        cover[tiles, codes] = 1.0  # two classes then tie
        return _several(cover, whole, rule) if rule.task == 'multi-label' else _one(cover, 0.0)
    parts = shapely.intersection(boxes[tiles], features.geometries[found])
    cover = _areas(boxes, tiles, codes, parts, len(names))
    if rule.task == 'single-label':
        return _one(cover, rule.min_share)
    return _several(cover, _areas(boxes, tiles, np.zeros_like(codes), parts, 1)[:, 0], rule)


def _one(cover: NDArray[np.float64], min_share: float) -> Decision:
    """The class of each tile, from the cover of each class, (N, K)."""
    everyone, best = np.arange(len(cover)), cover.argmax(axis=1)
    share = cover[everyone, best]
    tied = (np.isclose(cover, share[:, None], rtol=0, atol=ROUNDING).sum(axis=1) > 1) & (share > 0)
    reasons = np.full(len(cover), '', object)
    reasons[tied] = 'several'
    reasons[share < min_share - ROUNDING] = 'share'
    reasons[share <= 0] = 'no label'
    present = np.zeros(cover.shape, bool)
    present[everyone, best] = reasons == ''
    return Decision(present, share, reasons)


def _several(cover: NDArray[np.float64], whole: NDArray[np.float64], rule: LabelRule) -> Decision:
    """The classes of each tile, from the cover of each, (N, K), and of all together, (N,)."""
    reasons = np.full(len(cover), '', object)
    reasons[whole < rule.min_cover - ROUNDING] = 'cover'
    if rule.min_cover:
        reasons[whole <= 0] = 'no label'
    return Decision(cover >= rule.min_share - ROUNDING, whole, reasons)


def _areas(
    boxes: NDArray[np.object_],
    tiles: NDArray[np.int64],
    codes: NDArray[np.int64],
    parts: NDArray[np.object_],
    count: int,
) -> NDArray[np.float64]:
    """Share of each tile that each code covers, (N, count), where parts of tiles have a code each."""
    groups = tiles * count + codes
    order = np.argsort(groups, kind='stable')
    cover = np.zeros((len(boxes), count))
    for group in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(group):
            ground = parts[group[0]] if len(group) == 1 else shapely.union_all(parts[group])
            cover[tiles[group[0]], codes[group[0]]] = shapely.area(ground)
    cover /= shapely.area(boxes)[:, None]
    return cover
