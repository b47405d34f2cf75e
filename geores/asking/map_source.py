"""Where the class map comes from, and the areas that answers from it rest on.

The map is made once into the folder of answers, and read from there afterwards. The areas that were counted
are written as polygons.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pyogrio.raw
import rasterio
import shapely
from numpy.typing import NDArray

from geores.asking.class_map import ClassMap
from geores.asking.map_measures import MapEstimate
from geores.card import ModelCard, shipped_models
from geores.cartography.picture import MOST
from geores.cartography.sheet import stretched_picture
from geores.classification.classify import classified_into
from geores.classification.earlier_runs import changed_inputs, finished_scenes, refuse_other_run
from geores.classification.options import ClassifyOptions
from geores.classification.outputs import provenance, work_folder
from geores.classification.result import PixelClassification
from geores.classification.scored import FAR, check_bands, level_rank, off_range, why_chosen
from geores.classification.steps import UnloadedModel, known_key, layout_for
from geores.errors import OutputError
from geores.inference.prepared import Progress
from geores.inference.reader import GridReader
from geores.inference.sinks import NO_PROBABILITY, PROBABILITY_STEPS
from geores.scenes import Scene, gdal_env

if TYPE_CHECKING:
    from geores.model import Model

__all__ = [
    'MAP_FOLDER',
    'MapEvidence',
    'MapSource',
    'Watch',
    'choose_map_card',
    'map_of_result',
    'map_options',
    'write_areas',
]


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

    @cached_property
    def digest(self) -> tuple[tuple[str, bytes], ...]:
        """Equal for answers to questions about one map that rest on the same areas."""
        return tuple((key, np.packbits(mask).tobytes()) for key, mask in sorted(self.chosen.items()))

    def mask(self, key: str) -> NDArray[np.bool_]:
        """Pixels of the areas of a cover, (rows, cols)."""
        return self.class_map.of(key).inside(self.chosen[key])

    def colour(self, key: str) -> str:
        """Colour of a cover: that of its first label on the map."""
        return self.class_map.legend.colours[self.class_map.words.labels[key][0]]

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns of `polygons` as arrays, (n,)."""
        parts: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ('cover', 'area', 'probability', 'geometry')
        }
        for key, chosen in sorted(self.chosen.items()):
            areas = self.class_map.of(key)
            parts['cover'].append(np.full(int(chosen.sum()), self.class_map.words[key].noun, object))
            parts['area'].append(areas.sizes[chosen])
            parts['probability'].append(areas.chances[chosen])
            parts['geometry'].append(self.class_map.outlines(key)[chosen])
        whole = {name: np.concatenate(values) for name, values in parts.items()}
        order = np.argsort(-whole['area'], kind='stable')
        rank = {'rank': np.arange(1, len(order) + 1, dtype=np.int32)}
        area = 'area_m2' if self.class_map.unit == 'm2' else 'area_px'
        return rank | {area if name == 'area' else name: values[order] for name, values in whole.items()}

    @property
    def crs(self) -> str | None:
        """The CRS of the outlines; None where the scene has none."""
        return None if self.class_map.grid.crs is None else str(self.class_map.grid.crs)

    @cached_property
    def polygons(self) -> gpd.GeoDataFrame:
        """One row per area, the largest first: `rank`, `cover`, `area_m2`, `probability`, `geometry`.

        Without a CRS the column is `area_px`.
        """
        return gpd.GeoDataFrame(self.columns, geometry='geometry', crs=self.crs)


def write_areas(evidence: MapEvidence, path: Path) -> None:
    """Write the areas as a GeoPackage of one layer, the largest first.

    Args:
        evidence: of an answer.
        path: of the file.
    """
    columns = dict(evidence.columns)
    outlines = shapely.to_wkb(columns.pop('geometry'))
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', "'crs' was not provided")
        # Arrays alone: a data frame on the way takes half as long again.
        pyogrio.raw.write(
            path, outlines, list(columns.values()), list(columns),
            layer='areas', driver='GPKG', geometry_type='Polygon', crs=evidence.crs,
        )  # fmt: skip


_DERIVED = ('polygons', 'min_area', 'simplify', 'colours')

MAP_FOLDER = 'map'
"""Folder of the class map within that of answers."""

Watch = Callable[[str, Path | None], AbstractContextManager[Progress | None]]
"""Given the name of a scene and the folder of its unfinished work, what is open while it is worked on."""


def map_options(options: ClassifyOptions) -> ClassifyOptions:
    """The options of the class map: those of the part of the scene, and probabilities are kept."""
    return replace(options, tile=None, batch_size=None, precision='auto', top_k=None, probabilities=True)


def choose_map_card(scene: Scene) -> tuple[ModelCard | None, str]:
    """Card of the shipped bundle that labels the pixels of a scene like this, and why; None where none does.

    Args:
        scene: the scene.
    """
    cards = [
        card
        for card in shipped_models()
        if card.task == 'segmentation' and not scene.missing(card.bands) and scene.gsd is not None
    ]
    near = [card for card in cards if off_range(scene.gsd, card.gsd) <= FAR]
    if not near:
        return None, ''
    best = min(near, key=lambda card: (off_range(scene.gsd, card.gsd), level_rank(scene, card)))
    return best, why_chosen(scene, best, near)


@dataclass(frozen=True)
class MapSource:
    """A class map that is made, or read, when the first question about it is asked.

    Attributes:
        scene: the scene.
        card: of the bundle that labels its pixels.
        options: of the map, of `map_options`.
        folder: where the map stands, or will.
        model: the bundle, where it is loaded already.
        notes: why the bundle was chosen.
        resume: continue unfinished work in the folder.
        overwrite: replace a map of another run.
    """

    scene: Scene
    card: ModelCard
    options: ClassifyOptions
    folder: Path
    model: 'Model | None' = None
    notes: tuple[str, ...] = ()
    resume: bool = True
    overwrite: bool = False

    @cached_property
    def key(self) -> dict[str, Any]:
        """What decides the map, as far as headers tell."""
        from torch import device

        from geores.runtime.base import pick_device

        check_bands(self.scene, self.card)
        model = self.model or UnloadedModel(self.card, device(pick_device(self.options.device)))
        return known_key(self.scene, model, self.options, layout_for(self.scene, self.card, self.options))

    def find(self) -> tuple[Path, Mapping[str, Any]] | None:
        """A finished map of this very run: its folder and its entry in the record.

        It may be of `geores classify --probabilities` in the folder of answers itself.

        Raises:
            OutputError: if the map in the folder is of another run, and may not be replaced.
        """
        for place in (self.folder.parent, self.folder):
            entry = finished_scenes(place, [self.scene.name]).get(self.scene.name)
            if entry is None:
                continue
            changed = changed_inputs(entry, self.key, self.options, ignored=_DERIVED)
            if 'probabilities' in entry['outputs'] and not changed:
                return place, entry
            if place == self.folder and not self.overwrite:
                refuse_other_run(place, self.scene.name, entry, self.key, self.options)
        return None

    def open(self, watch: Watch = lambda name, folder: nullcontext(None)) -> ClassMap:
        """Make the map, unless it stands, and read it.

        Args:
            watch: is open while the map is made.

        Raises:
            UsageError: if an option does not fit the scene or the bundle.
            ReadError: if the scene could not be read to the end; finished work is kept in the folder.
            WriteError: if the map could not be written.
        """
        from geores.bundle import load_model
        from geores.runtime.base import pick_device

        found = self.find()
        if found is None:
            model = self.model or load_model(self.card.name, pick_device(self.options.device))
            with (
                watch(self.scene.name, work_folder(self.folder, self.scene.name)) as progress,
                classified_into(
                    self.scene, model, self.options, self.folder,
                    notes=self.notes, resume=self.resume, progress=progress,
                ),
            ):  # fmt: skip
                pass
            found = self.find()
        if found is None:
            raise OutputError(f'the class map in {self.folder} is gone: was it removed by another process?')
        return _read(self, *found)


def _read(source: MapSource, folder: Path, entry: Mapping[str, Any]) -> ClassMap:
    """Read a map from its files."""
    layout = layout_for(source.scene, source.card, source.options)
    grid, files = layout.target.grid, entry['outputs']

    def probabilities(labels: Sequence[int]) -> NDArray[np.uint8]:
        with gdal_env(), rasterio.open(folder / files['probabilities']) as file:
            found: NDArray[np.uint8] = file.read([label + 1 for label in labels])
        return found

    with gdal_env(), rasterio.open(folder / files['classes']) as file:
        classes = file.read(1)
    record = {name: entry[name] for name in _PROVENANCE if name in entry}
    return ClassMap(
        source.scene.name, source.card, grid, layout.target.gsd, classes, probabilities,
        tuple(entry.get('notes', ())), {'provenance': record, 'key': dict(source.key)},
        lambda: _picture(source.scene, source.card, grid),
    )  # fmt: skip


_PROVENANCE = ('model', 'model_sha256', 'licence_of_weights', 'geores_version', 'scene', 'inputs', 'options')


def map_of_result(result: PixelClassification) -> ClassMap:
    """The class map of a result of `geores.classify`.

    Args:
        result: of a bundle that labels pixels.
    """

    def probabilities(labels: Sequence[int]) -> NDArray[np.uint8]:
        scores = result.scores.isel(label=list(labels)).to_numpy()
        steps = np.rint(np.nan_to_num(scores) * PROBABILITY_STEPS)
        return np.where(np.isnan(scores), NO_PROBABILITY, steps).astype(np.uint8)

    return ClassMap(
        result.name, result.card, result.grid, result.gsd, result.classes.to_numpy(), probabilities,
        result.notes, {'provenance': provenance(result), 'key': dict(result.info.key)},
        lambda: _picture(result.scene, result.card, result.grid),
    )  # fmt: skip


def _picture(scene: Scene, card: ModelCard, grid: Any) -> NDArray[np.uint8]:  # noqa: ANN401 - a GeoBox
    """The scene in natural colours where the bundle has them, no larger than a panel of a sheet."""
    bands = next(
        (
            names
            for names in (('B04', 'B03', 'B02'), ('red', 'green', 'blue'))
            if set(names) <= set(card.bands)
        ),
        tuple(card.bands[:1]),
    )
    shrink = max(1.0, max(grid.shape.yx) / MOST)
    small = grid if shrink == 1.0 else grid.zoom_out(shrink)
    with gdal_env():
        reader = GridReader(scene, bands, small)
        values, valid = reader.read(slice(0, small.shape.y), slice(0, small.shape.x))
    return stretched_picture(np.where(valid, values, np.nan).astype(np.float32))
