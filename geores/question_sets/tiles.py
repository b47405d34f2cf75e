"""Make one tile of a dataset: its image, its objects and its questions."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geores.io.whole_files import failing
from geores.osm.features import HIGH_RESOLUTION
from geores.question_sets.layout import TileLayout, open_reader
from geores.question_sets.objects import Counting, SceneObjects
from geores.question_sets.options import MakeOptions
from geores.questions.balance import QuestionBalance
from geores.questions.choosing import ChosenQuestion
from geores.questions.facts import TileFacts
from geores.questions.forms import Form, Objects
from geores.questions.grammar import Style, phrase
from geores.questions.make_faithful import PublishedFacts, ask_published
from geores.questions.tile_questions import AnsweredForm, Pool, Vocabulary, ask_balanced, survey_tile
from geores.scenes import gdal_env

__all__ = ['TOO_FEW', 'TileMaker', 'tile_name']

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
            partial = path.with_suffix('.partial')
            partial.write_text(json.dumps(record))
            os.replace(partial, path)

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
