"""What an answer from the class map rests on: the areas that were counted, as polygons and as a picture."""

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio.features
from numpy.typing import NDArray
from shapely.geometry import shape

from geores.asking.class_map import ClassMap
from geores.asking.map_answers import MapEstimate

__all__ = ['MapEvidence', 'write_areas']


@dataclass(frozen=True)
class MapEvidence:
    """The areas of a class map that an answer rests on.

    Attributes:
        class_map: the map.
        estimate: the answer.
        top_k: most areas that count as evidence, the largest first; None keeps all.
    """

    class_map: ClassMap
    estimate: MapEstimate = field(repr=False)
    top_k: int | None = None

    @cached_property
    def chosen(self) -> dict[str, NDArray[np.bool_]]:
        """The areas that were counted, by key of their cover: at most the `top_k` largest of each, (n,)."""
        kept = {}
        for key, mask in self.estimate.chosen.items():
            sizes = np.where(mask, self.class_map.of(key).sizes, -1)
            order = np.argsort(-sizes, kind='stable')[: mask.sum() if self.top_k is None else self.top_k]
            kept[key] = np.isin(np.arange(len(mask)), order) & mask
        return kept

    @property
    def count(self) -> int:
        """Number of areas."""
        return int(sum(mask.sum() for mask in self.chosen.values()))

    def mask(self, key: str) -> NDArray[np.bool_]:
        """Pixels of the areas of a cover, (rows, cols)."""
        return self.class_map.of(key).inside(self.chosen[key])

    def colour(self, key: str) -> str:
        """Colour of a cover: that of its first label on the map."""
        return self.class_map.legend.colours[self.class_map.words.labels[key][0]]

    @cached_property
    def polygons(self) -> gpd.GeoDataFrame:
        """One row per area, the largest first: `rank`, `cover`, `area_m2`, `probability`, `geometry`.

        Without a CRS the column is `area_px`.
        """
        crs = self.class_map.grid.crs
        columns: dict[str, list[Any]] = {'cover': [], 'area': [], 'probability': [], 'geometry': []}
        for key in self.chosen:
            areas, inside = self.class_map.of(key), self.mask(key)
            found = rasterio.features.shapes(
                areas.numbers, mask=inside, connectivity=4, transform=self.class_map.grid.affine
            )
            for outline, number in found:
                columns['cover'].append(self.class_map.words[key].noun)
                columns['area'].append(float(areas.sizes[int(number) - 1]))
                columns['probability'].append(float(areas.chances[int(number) - 1]))
                columns['geometry'].append(shape(outline))
        frame = gpd.GeoDataFrame(columns, geometry='geometry', crs=None if crs is None else str(crs))
        frame = frame.sort_values('area', ascending=False, kind='stable', ignore_index=True)
        frame.insert(0, 'rank', np.arange(1, len(frame) + 1, dtype=np.int32))
        return frame.rename(columns={'area': 'area_m2' if self.class_map.unit == 'm2' else 'area_px'})


def write_areas(evidence: MapEvidence, path: Path) -> None:
    """Write the areas as a GeoPackage of one layer, the largest first.

    Args:
        evidence: of an answer.
        path: of the file.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', "'crs' was not provided")
        pyogrio.write_dataframe(
            evidence.polygons, path, layer='areas', driver='GPKG', geometry_type='Polygon'
        )
