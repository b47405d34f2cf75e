"""Make one tile of a dataset: its image, the objects that lie in it and its questions."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from geores.io.whole_files import failing, write_whole
from geores.osm import Features, Ground, shape_of, size_of
from geores.osm.features import HIGH_RESOLUTION, polygons_of
from geores.question_sets.layout import TileLayout, open_reader
from geores.question_sets.options import MakeOptions
from geores.questions.choosing import ChosenQuestion
from geores.questions.facts import QuestionBalance, TileFacts
from geores.questions.forms import Form, Objects
from geores.questions.grammar import Style, phrase
from geores.questions.make_faithful import PublishedFacts, ask_published
from geores.questions.tile_questions import AnsweredForm, Pool, Vocabulary, ask_balanced, survey_tile
from geores.scenes import gdal_env

__all__ = ['TOO_FEW', 'Counting', 'SceneObjects', 'TileMaker', 'tile_name']

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Counting:
    """Rules for counting objects, and for their sizes and neighbours.

    Attributes:
        min_share: minimum share of an object's area (or length) inside a tile for it to be counted there; it
            is also counted if its centroid lies inside, or if it covers `min_cover` of the tile.
        limits: minimum areas of medium and of large objects in square metres.
        next_to: maximum distance in metres of objects that are next to each other.
        min_cover: minimum share of the tile that a clipped object has to cover to be counted anyway.
    """

    min_share: float
    limits: tuple[float, float]
    next_to: float
    min_cover: float = 0.01


@dataclass(frozen=True)
class SceneObjects:
    """Objects of a scene in the CRS of its grid.

    Attributes:
        ids: ids of the objects, (N,), sorted.
        categories: categories of each object.
        image: geometries in the CRS of the grid, (N,).
        ground: projection of the place for true areas.
        pixel: side of a pixel in the CRS of the grid: parts of clipped objects below it are ignored.
    """

    ids: NDArray[np.object_]
    categories: tuple[tuple[str, ...], ...]
    image: NDArray[np.object_]
    ground: Ground
    pixel: float

    @classmethod
    def place(cls, features: Features, ground: Ground, pixel: float) -> 'SceneObjects':
        """Project objects to the grid of a scene."""
        image = ground.place(features.geometry)
        kept = np.flatnonzero(~shapely.is_empty(image))
        names = tuple(features.categories[index] for index in kept)
        placed = cls(features.ids[kept], names, image[kept], ground, pixel)
        _ = placed.measure, placed.shapes, placed.bounds  # computed here once, not in every process
        return placed

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the spatial index, which holds every object once more."""
        return {name: value for name, value in self.__dict__.items() if name != '_tree'}

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """All categories, in alphabetical order."""
        return tuple(sorted({name for names in self.categories for name in names}))

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """Bounds in the CRS of the grid, (N, 4): west, south, east, north."""
        return np.asarray(shapely.bounds(self.image))

    @cached_property
    def level(self) -> NDArray[np.object_]:
        """Geometries in the equal-area projection in metres, (N,)."""
        return self.ground.level(self.image)

    @cached_property
    def is_area(self) -> NDArray[np.bool_]:
        """Whether each object is an area and no line, (N,)."""
        return np.asarray(shapely.get_dimensions(self.image) == 2)

    @cached_property
    def measure(self) -> NDArray[np.float64]:
        """Square metres of areas and metres of lines, (N,)."""
        return _measure(self.level, self.is_area)

    @cached_property
    def shapes(self) -> NDArray[np.object_]:
        """Shape of each object, (N,), see `shape_of`."""
        shapes = np.full(len(self.ids), None, object)
        areas = np.flatnonzero(self.is_area)
        shapes[areas] = shape_of(self.level[areas])
        return shapes

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.image)

    def together(self, frames: Sequence[Bounds]) -> list[tuple[str, ...]]:
        """Categories in each of some frames, in alphabetical order."""
        found: list[set[str]] = [set() for _ in frames]
        boxes = shapely.box(*np.array(frames, float).reshape(-1, 4).T)
        for frame, index in zip(*self._tree.query(boxes), strict=True):
            found[frame].update(self.categories[index])
        return [tuple(sorted(names)) for names in found]

    def tile(self, bounds: Bounds, counting: Counting) -> TileFacts:
        """The objects in a tile, clipped at its edges.

        Args:
            bounds: west, south, east, north in the CRS of the grid.
            counting: rules for counting objects.
        """
        frame = shapely.box(*bounds)
        extent = float(shapely.area(self.ground.level(np.array([frame], object)))[0])
        near = np.sort(self._tree.query(frame))
        inside = _within(self.bounds[near], bounds)
        image, level = self.image[near].copy(), self.level[near].copy()
        cut = np.flatnonzero(~inside)
        image[cut] = _clipped(image[cut], self.is_area[near][cut], frame)
        level[cut] = self.ground.level(image[cut])
        is_area = self.is_area[near]
        size = np.where(is_area, self.pixel**2, self.pixel)
        image_size = np.where(is_area, shapely.area(image), shapely.length(image))
        seen = np.flatnonzero(inside | (image_size >= size))
        near, inside, is_area = near[seen], inside[seen], is_area[seen]
        image, level = image[seen], level[seen]
        measure = np.where(inside, self.measure[near], _measure(level, is_area))
        areas = np.where(is_area, measure, 0.0)
        counted = inside | self._counts(near, frame, measure, areas, extent, counting)
        sizes = size_of(areas, counting.limits)
        sizes[~is_area] = None
        shapes = self.shapes[near].copy()
        shapes[~inside] = None
        return TileFacts(
            ids=self.ids[near],
            categories=tuple(self.categories[index] for index in near),
            bounds=np.asarray(shapely.bounds(image)).reshape(-1, 4),
            ground=level,
            areas=areas,
            sizes=sizes,
            shapes=shapes,
            counted=counted,
            next_to=counting.next_to,
            square_kilometres=extent / 1e6,
        )

    def _counts(
        self,
        near: NDArray[np.int64],
        frame: shapely.Polygon,
        measure: NDArray[np.float64],
        areas: NDArray[np.float64],
        extent: float,
        counting: Counting,
    ) -> NDArray[np.bool_]:
        """Mask of the clipped objects that are counted."""
        whole = self.measure[near]
        share = np.divide(measure, whole, out=np.zeros_like(measure), where=whole > 0)
        counts = (share >= counting.min_share) | (areas >= counting.min_cover * extent)
        counts |= np.asarray(shapely.intersects(frame, shapely.centroid(self.image[near])))
        return counts


def _within(bounds: NDArray[np.float64], frame: Bounds) -> NDArray[np.bool_]:
    low = (bounds[:, :2] >= frame[:2]).all(axis=1)
    high = (bounds[:, 2:] <= frame[2:]).all(axis=1)
    return np.asarray(low & high)


def _clipped(
    geometry: NDArray[np.object_], is_area: NDArray[np.bool_], frame: shapely.Polygon
) -> NDArray[np.object_]:
    """The parts of geometries inside a frame: polygons of areas, lines of lines."""
    clipped = np.array(shapely.intersection(geometry, frame), object)
    clipped[is_area] = polygons_of(clipped[is_area])
    return clipped


def _measure(level: NDArray[np.object_], is_area: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.where(is_area, shapely.area(level), shapely.length(level)))


Members = Callable[[Objects], NDArray[np.int64]]

TOO_FEW = 'too few objects'
"""The reason why a tile about which nothing can be asked is left out."""

DARKEST, BRIGHTEST = 30, 225
"""The published code of RSVQA rejects images whose mean pixel value lies outside these limits."""


def tile_name(scene: str, row: int, col: int) -> str:
    """Name of a tile, `<scene>_<row>-<col>`."""
    return f'{scene}_{row:05d}-{col:05d}'


@dataclass
class TileMaker:
    """Makes the tiles of one scene, in this process or in another.

    Attributes:
        layout: the scene cut into tiles.
        objects: objects of the scene.
        counting: rules for counting objects.
        vocabulary: categories that may be asked about.
        layers: layer of each category of the mapping.
        options: options of the user.
        folder: folder in which tiles are written.
        notes: notes on the objects, one sentence each.
        pool: pool of questions that all tiles share; None if each tile is asked on its own.
    """

    layout: TileLayout
    objects: SceneObjects
    counting: Counting
    vocabulary: Vocabulary
    layers: dict[str, str]
    options: MakeOptions
    folder: Path
    notes: tuple[str, ...] = ()
    pool: Pool | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without open files."""
        return {name: value for name, value in self.__dict__.items() if name != '_reader'}

    @cached_property
    def _reader(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - opened where it is used
        return open_reader(self.layout, self.options)

    def facts(self, row: int, col: int) -> TileFacts:
        """Ground truth of a tile."""
        facts = self.objects.tile(self.layout.bounds(row, col), self.counting)
        if self.options.mode == 'faithful':
            return replace(facts, counted=np.ones(len(facts.ids), bool))
        return facts

    def path(self, row: int, col: int) -> Path:
        """Path of the JSON file with the questions or the survey of a tile."""
        return self.folder / f'{tile_name(self.layout.name, row, col)}.json'

    def make(self, row: int, col: int) -> None:
        """Write the image of a tile, and its questions or survey or why there are none; once per tile."""
        path = self.path(row, col)
        if path.exists():
            return
        with gdal_env():
            pixels, valid = self.image(row, col)
        record = self._record(row, col, pixels, valid)
        with failing(self.folder):
            if record['why'] is None:
                self._write_image(path.with_suffix('.tif'), pixels, row, col)
            write_whole(path, json.dumps(record))

    def image(self, row: int, col: int) -> tuple[NDArray[np.uint8], float]:
        """Red, green and blue of a tile, (3, h, w), and the share of valid pixels."""
        side = self.layout.tile
        rows = slice(row * side, (row + 1) * side)
        cols = slice(col * side, (col + 1) * side)
        values, valid = self._reader.read(rows, cols)
        names = list(dict.fromkeys(self.layout.bands))
        values = np.where(valid, np.nan_to_num(values), 0)
        pixels = np.clip(np.rint(values[[names.index(name) for name in self.layout.bands]]), 0, 255)
        return pixels.astype(np.uint8), float(valid.mean())

    def _record(self, row: int, col: int, pixels: NDArray[np.uint8], valid: float) -> dict[str, Any]:
        record: dict[str, Any] = {'row': row, 'col': col, 'valid': valid, 'why': None}
        if valid < self.options.min_valid:
            return record | {'why': 'clouds or no data'}
        if self.options.mode == 'faithful' and not DARKEST <= pixels.mean() <= BRIGHTEST:
            return record | {'why': 'too dark or too bright'}
        if self.pool is not None:
            facts = self.facts(row, col)
            if not facts.present:
                return record | {'why': TOO_FEW}
            found = survey_tile(facts, self.pool).to_dict()
            return record | {'survey': found, 'kilometres': facts.square_kilometres}
        asked = self.ask(row, col)
        return record | ({'questions': asked} if asked else {'why': TOO_FEW})

    def word(self, row: int, col: int, chosen: Sequence[ChosenQuestion]) -> list[dict[str, Any]]:
        """Put the questions assigned to a tile into words: plain JSON with their answers, in order."""
        facts, found = self.facts(row, col), []
        for one in chosen:
            fact = facts.answer(one.form)
            if fact is None:
                raise ValueError(f'{one.form} has no clear answer in tile {row}, {col}')
            # The wording must not reveal the answer: it is seeded by the turn, which a tile with another
            # answer has too. Likewise it is always "a" and not "the", which would say that there is one.
            rng = Random(f'{self.options.seed}/{one.form.key}/{one.turn}')  # noqa: S311 - no secrets
            found.append(_plain(AnsweredForm(one.form, fact), phrase(one.form, 'english', rng)))
        return found

    @property
    def balance(self) -> QuestionBalance:
        """Balance of types and answers; rural or urban is asked at low resolution if buildings are known."""
        balance = self.options.balanced
        known = 'building' in self.vocabulary.categories and self.options.questions > 1
        return replace(balance, place=known and self.layout.gsd >= HIGH_RESOLUTION)

    def ask(self, row: int, col: int) -> list[dict[str, Any]]:
        """Draw the questions of a tile on its own: plain JSON with their answers, in order."""
        facts = self.facts(row, col)
        # Seeded by the tile alone, so that neither the order of tiles nor the process matters.
        rng = Random(f'{self.options.seed}/{self.layout.name}/{row}/{col}')  # noqa: S311 - no secrets
        faithful = self.options.mode == 'faithful'
        low = self.layout.gsd >= HIGH_RESOLUTION
        members: Members = facts.members
        if faithful:
            published = PublishedFacts(facts, self.layers)
            asked = ask_published(published, self.options.questions, rng, low_resolution=low) or []
            members = published.members
        else:
            asked = ask_balanced(facts, self.vocabulary, self.options.questions, self.balance, rng)
        style: Style = 'released' if faithful else 'english'
        return [_plain(one, phrase(one.form, style, rng, the=_single(one.form, members))) for one in asked]

    def _write_image(self, path: Path, pixels: NDArray[np.uint8], row: int, col: int) -> None:
        window = self.layout.window(row, col)
        profile = {
            'driver': 'GTiff',
            'dtype': 'uint8',
            'count': 3,
            'height': self.layout.tile,
            'width': self.layout.tile,
            'transform': window.affine,
            'crs': str(window.crs),
            'compress': 'deflate',
            'photometric': 'rgb',
        }
        # GDAL opens what it replaces, and would stumble over half a file of a run that was killed.
        path.unlink(missing_ok=True)
        with gdal_env(), rasterio.open(path, 'w', **profile) as file:
            file.write(pixels)


def _single(form: Form, members: Members) -> tuple[bool, ...]:
    """For each object asked about, whether the other object of its relation is unique."""
    return tuple(
        part.relation is not None and len(members(part.relation.other)) == 1 for part in form.parts()
    )


def _plain(one: AnsweredForm, question: str) -> dict[str, Any]:
    return {
        'type': one.form.type,
        'question': question,
        'answer': one.fact.answer,
        'form': one.form.to_dict(),
        'objects': [list(part) for part in one.fact.objects],
    }
