"""Overlay labels on scenes: place tiles and decide the classes of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from geores.datasets._sampling import (
    Decision,
    LabelledFeatures,
    LabelRule,
    Placement,
    decide,
    windows_centred,
    windows_on_grid,
)
from geores.datasets._tiles import SceneGrid
from geores.errors import DatasetError

__all__ = ['LabelledGround', 'label_ground', 'positions']


@dataclass(frozen=True)
class LabelledGround:
    """Tiles with the classes that the labels give them.

    Attributes:
        places: index of the scene, first row and first column per tile, (N, 3).
        names: the K classes of all labels, sorted.
        present: (N, K), which of them each tile has.
        shares: (N,), part of the tile that its classes cover; 1 where points decide.
        left_out: number of tiles left out, by reason.
        notes: notes for the user, one sentence each.
    """

    places: NDArray[np.int64]
    names: tuple[str, ...]
    present: NDArray[np.bool_]
    shares: NDArray[np.float64]
    left_out: dict[str, int]
    notes: tuple[str, ...]


def label_ground(
    grids: Sequence[SceneGrid],
    features: LabelledFeatures,
    size: int,
    stride: int,
    placement: Placement,
    rule: LabelRule,
) -> LabelledGround:
    """Place tiles on every scene and decide the class, or classes, of each.

    Args:
        grids: grid of each scene.
        features: polygons or points.
        size: side of a tile in pixels.
        stride: step from tile to tile on the grid in pixels.
        placement: 'grid', 'centred', or 'auto': the grid for polygons, centred tiles for points.
        rule: from cover to classes.

    Raises:
        DatasetError: if no feature lies on a scene, or no tile has a class.
    """
    if placement == 'auto':
        placement = 'grid' if features.kind == 'polygon' else 'centred'
    names = np.unique(features.classes.astype(str))
    notes, places, decisions = [], [], []
    for index, grid in enumerate(grids):
        near = features.about(grid.crs, grid.grid.extent.geom)
        if not len(near):
            notes.append(f'{grid.scene.name}: no label lies on it')
            continue
        if features.crs != near.crs:
            notes.append(f'{features.name}: reprojected from {_name(features)} to {_name(near)}')
        starts = _starts(grid, near, size, stride, placement)
        decisions.append(decide(grid.boxes(starts, size), near, names, rule))
        places.append(np.column_stack([np.full(len(starts), index), starts]))
    if not places:
        raise DatasetError(_outside(grids, features))
    decision = Decision(*(np.concatenate(arrays) for arrays in zip(*decisions, strict=True)))
    decided = np.flatnonzero(decision.reasons == '')
    counts = Counter(decision.reasons[decision.reasons != ''].tolist())
    if not len(decided):
        raise DatasetError(_undecided(features, decision, size, rule))
    notes += _remarks(features, counts, rule)
    return LabelledGround(
        np.concatenate(places)[decided],
        tuple(names.tolist()),
        decision.present[decided],
        decision.shares[decided],
        dict(counts),
        tuple(dict.fromkeys(notes)),
    )


def positions(
    grids: Sequence[SceneGrid], places: NDArray[np.int64], size: int, shares: NDArray[np.float64]
) -> gpd.GeoDataFrame:
    """Table with one row per tile, in the CRS of the first grid."""
    frames = []
    for index, grid in enumerate(grids):
        own = np.flatnonzero(places[:, 0] == index)
        name = grid.scene.name
        frame = gpd.GeoDataFrame(
            {
                'id': [f'{name}/{row}_{col}' for row, col in places[own, 1:]],
                'scene': name,
                'share': shares[own],
            },
            geometry=grid.boxes(places[own, 1:], size),
            crs=grid.crs,
        )
        frames.append(frame.to_crs(grids[0].crs))
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True))


def _starts(
    grid: SceneGrid, features: LabelledFeatures, size: int, stride: int, placement: Placement
) -> NDArray[np.int64]:
    shape = (int(grid.grid.shape.y), int(grid.grid.shape.x))
    if placement == 'grid':
        return windows_on_grid(shape, size, stride)
    centres = shapely.centroid(features.geometries)
    cols, rows = grid.pixels(shapely.get_x(centres), shapely.get_y(centres))
    return windows_centred(shape, size, cols, rows)


def _remarks(features: LabelledFeatures, counts: Counter[str], rule: LabelRule) -> list[str]:
    several = 'with points of two classes' if features.kind == 'point' else 'that two classes cover alike'
    told = {
        'share': f'of which no class covers {rule.min_share:g}',
        'several': several,
        'cover': f'of which labels cover less than {rule.min_cover:g}',
    }
    left = [f'{counts[reason]} tiles {what} left out' for reason, what in told.items() if counts[reason]]
    if rule.task == 'multi-label' and not rule.min_cover:
        return ['ground under no label is taken to show none', *left]
    return left


def _undecided(features: LabelledFeatures, decision: Decision, size: int, rule: LabelRule) -> str:
    best = f'(at best {decision.shares.max(initial=0):.2g})'
    if rule.task == 'multi-label':
        return (
            f'{features.name}: labels cover {rule.min_cover:g} of no tile of {size} pixels {best}: choose a '
            'lower min_cover (0 where the labels are complete), or a smaller tile'
        )
    if features.kind == 'point' or (decision.reasons == 'several').any():
        return f'{features.name}: no tile has one class alone: choose a smaller tile than {size} pixels'
    return (
        f'{features.name}: no class covers {rule.min_share:g} of any tile of {size} pixels {best}: '
        'choose a lower min_share, a smaller tile, or the placement centred'
    )


def _outside(grids: Sequence[SceneGrid], features: LabelledFeatures) -> str:
    moved = features.to_crs(grids[0].crs)
    scene = ', '.join(f'{edge:.6g}' for edge in grids[0].grid.extent.boundingbox.bbox)
    labels = ', '.join(f'{edge:.6g}' for edge in shapely.total_bounds(moved.geometries))
    return (
        f'{features.name}: no label lies on {", ".join(grid.scene.name for grid in grids)}, whose bounds are '
        f'{scene} ({_name(moved)}), and those of the labels {labels}'
    )


def _name(features: LabelledFeatures) -> str:
    return features.crs.to_string() if len(features.crs.to_string()) < 40 else features.crs.name
