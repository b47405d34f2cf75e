"""Pictures of what answers rest on: the scene beside tinted tiles, or beside the areas of a class map."""

import textwrap
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from geores.asking.class_map import ClassMap, Mask
from geores.asking.combine import TileEvidence
from geores.asking.map_source import MapEvidence
from geores.asking.understand import how_sure
from geores.cartography.picture import PackedRows, pack_rows, write_png
from geores.cartography.sheet import draw_scale_bar, stretched_picture
from geores.classification.scored import Scored

__all__ = ['EvidenceMaps']

DPI = 100
COLOURS = 'inferno'
ALPHA = 0.5
"""Opacity of the colours of tiles over the grey scene."""
OUTLINE = '#00e5ff'
OUTLINED = 2000
"""Maximum number of evidence tiles that are outlined: more could not be told apart."""

LEGENDS = {
    'presence': 'chance that a tile shows it',
    'count': 'number in a tile, of the largest',
    'area': 'share of a tile that is covered',
    'comp': 'difference in a tile, of the largest',
    'rural_urban': 'chance of the answer in a tile',
}
NUMBERED = 9
"""Most areas whose rank is written on a map: more could not be read."""


class Answered(Protocol):
    """What a picture says of an answer: `geores.asking.answer.SceneAnswer` is one."""

    @property
    def question(self) -> str:
        """The question, word for word."""

    @property
    def understood_as(self) -> str | None:
        """The wording that was answered, where the question itself could not be parsed."""

    @property
    def question_type(self) -> str | None:
        """What kind of question it is."""

    @property
    def answer(self) -> str | None:
        """The best guess."""

    @property
    def text(self) -> str:
        """The answer as a sentence."""

    @property
    def probability(self) -> float | None:
        """Probability that the answer is right."""


class EvidenceMaps:
    """Draws maps of any number of answers; the common parts are drawn once per scene."""

    def __init__(self) -> None:
        self._sheets: dict[int, tuple[object, _TileSheet | _AreaSheet]] = {}

    def write(self, answer: Answered, basis: TileEvidence | MapEvidence, path: Path) -> None:
        """Draw the scene beside what the answer rests on: tinted tiles, or the areas of a map.

        Args:
            answer: an answer that rests on something.
            basis: what it rests on.
            path: PNG file to write.
        """
        ground = basis.scored if isinstance(basis, TileEvidence) else basis.class_map
        if id(ground) not in self._sheets:
            made: _TileSheet | _AreaSheet = (
                _TileSheet(ground) if isinstance(ground, Scored) else _AreaSheet(ground)
            )
            self._sheets[id(ground)] = ground, made  # keeps the scene, so that its id stays unique
        sheet = self._sheets[id(ground)][1]
        if isinstance(sheet, _TileSheet):
            if isinstance(basis, TileEvidence):
                sheet.write(answer, basis, path)
        elif isinstance(basis, MapEvidence):
            sheet.write(answer, basis, path)


class _Sheet:
    """Two panels with the picture of a scene, on which one answer after the other is drawn.

    Matplotlib draws the common parts once, Pillow the rest: matplotlib takes 0.2 s per figure, so a hundred
    answers would cost more than encoding the tiles of a small scene. What stands above the second panel and
    below the title is compressed once.

    Args:
        picture: of the scene, (h, w, 3).
        width: of the scene, pixels of its grid.
        height: likewise.
        gsd: metres per pixel.
        bar: whether a scale of colours is drawn.
    """

    def __init__(
        self, picture: NDArray[np.uint8], width: int, height: int, gsd: float | None, *, bar: bool
    ) -> None:
        bare, head, (left, self.top, right, bottom) = _draw_bare(picture, width, height, gsd, bar=bar)
        self.head, self.foot = bare[:head], bare[self.top :]
        self.between = [pack_rows(bare[head : self.top])] if head < self.top else []
        self.panel = np.s_[: bottom - self.top, left:right]
        self.left = left
        self.below = self.foot[self.panel].copy()
        font = findfont('DejaVu Sans')
        self.fonts = [ImageFont.truetype(font, round(size * DPI / 72)) for size in (10, 8)]

    def drawn(self, panel: NDArray[np.uint8]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """The rows from the second panel on, with that panel; their first is row `top` of the sheet."""
        pixels = self.foot.copy()
        pixels[self.panel] = panel
        image = Image.fromarray(pixels)
        return image, ImageDraw.Draw(image)

    def say(
        self,
        draw: ImageDraw.ImageDraw,
        place: tuple[float, float],
        text: str,
        font: ImageFont.FreeTypeFont,
    ) -> None:
        """Write lines of text, centred below a place."""
        draw.multiline_text(place, text, 'black', font, anchor='ma', align='center')

    def save(self, foot: PackedRows, answer: Answered, path: Path) -> None:
        """Save a sheet as PNG, with the question and the answer above what was drawn."""
        head = Image.fromarray(self.head)
        self.say(ImageDraw.Draw(head), (head.width / 2, 0.1 * DPI), _title(answer), self.fonts[0])
        write_png(path, [pack_rows(np.asarray(head)), *self.between, foot], 'geores')


class _AreaSheet(_Sheet):
    """A sheet on which areas of a class map are painted in the colours of their labels."""

    def __init__(self, class_map: ClassMap) -> None:
        height, width = class_map.classes.shape
        drawn = class_map.picture
        picture = np.full((height, width, 3), 255, np.uint8) if drawn is None else drawn()
        super().__init__(picture, width, height, class_map.gsd, bar=False)
        self.class_map = class_map
        self.sheets: dict[object, PackedRows] = {}
        self.small: dict[str, tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]] = {}

    def write(self, answer: Answered, basis: MapEvidence, path: Path) -> None:
        """Draw the areas that an answer rests on, with the ranks of the largest; the same ones once."""
        if basis.digest not in self.sheets:
            image, draw = self.drawn(self._paint(basis))
            self._number(draw, basis)
            counts = {key: int(chosen.sum()) for key, chosen in basis.chosen.items()}
            parts = [
                f'{number:,} {"area" if number == 1 else "areas"} of {basis.class_map.words[key].noun}'
                for key, number in counts.items()
            ]
            self._legend(draw, image, [basis.colour(key) for key in counts], parts)
            self.sheets[basis.digest] = pack_rows(np.asarray(image))
        self.save(self.sheets[basis.digest], answer, path)

    def _paint(self, basis: MapEvidence) -> NDArray[np.uint8]:
        """The second panel: the picture with the areas in their colours."""
        panel = self.below.copy()
        for key, chosen in basis.chosen.items():
            shown = self._shown(key, chosen)
            colour = np.array([int(basis.colour(key)[k : k + 2], 16) for k in (1, 3, 5)])
            panel[shown] = (0.2 * panel[shown] + 0.8 * colour).astype(np.uint8)
        return panel

    def _shown(self, key: str, chosen: Mask) -> Mask:
        """Pixels of the panel in which there is one of the chosen areas.

        Of the areas in each pixel of the panel the largest and the smallest are kept, once per cover: where
        the panel is smaller than the map, small areas would be lost between its pixels.
        """
        if key not in self.small:
            areas = self.class_map.of(key)
            order = np.argsort(areas.sizes, kind='stable')
            ranks = np.zeros(len(order) + 1, np.int32)
            ranks[order + 1] = np.arange(1, len(order) + 1)
            ranked, size = ranks[areas.numbers], self.below.shape[:2]
            none = np.int32(len(order) + 1)
            least = _shrunk(np.where(ranked, ranked, none), size, np.minimum)
            self.small[key] = order, _shrunk(ranked, size, np.maximum), np.where(least == none, 0, least)
        order, largest, smallest = self.small[key]
        known = np.concatenate([[False], chosen[order]])
        shown: Mask = known[largest] | known[smallest]
        return shown

    def _number(self, draw: ImageDraw.ImageDraw, basis: MapEvidence) -> None:
        """Write the ranks of the largest areas of each cover, where there are no more than two."""
        if len(basis.chosen) > 2:
            return
        tall, wide = self.below.shape[:2]
        for key, chosen in basis.chosen.items():
            areas = basis.class_map.of(key)
            order = np.argsort(-np.where(chosen, areas.sizes, -1), kind='stable')
            order = order[: min(NUMBERED, int(chosen.sum()))]
            height, width = areas.numbers.shape
            for rank, (y, x) in enumerate(areas.centres[order], 1):
                place = self.left + (x + 0.5) * wide / width, (y + 0.5) * tall / height
                draw.text(
                    place, str(rank), 'white', self.fonts[1], anchor='mm', stroke_width=2, stroke_fill='black'
                )

    def _legend(
        self, draw: ImageDraw.ImageDraw, image: Image.Image, colours: list[str], parts: list[str]
    ) -> None:
        font, side = self.fonts[1], 0.11 * DPI
        rows: list[list[tuple[str, str, float]]] = [[]]
        for colour, part in zip(colours, parts, strict=True):
            length = draw.textlength(part, font) + 4 * side
            if rows[-1] and sum(one[2] for one in rows[-1]) + length > image.width:
                rows.append([])
            rows[-1].append((colour, part, length))
        y = image.height - 0.35 * DPI - 0.8 * side * (len(rows) - 1)
        for row in rows:
            x = (image.width - sum(one[2] for one in row)) / 2
            for colour, part, length in row:
                draw.rectangle((x, y, x + side, y + side), fill=colour, outline='#555555')
                draw.text((x + 1.5 * side, y + side / 2), part, 'black', font, anchor='lm')
                x += length
            y += 1.6 * side


def _shrunk(values: NDArray[np.int32], size: tuple[int, int], keep: np.ufunc) -> NDArray[np.int32]:
    """Values of a map at the size of a panel: what `keep` keeps of several, or the nearest of a small map."""
    rows, cols = (np.arange(one) * length // one for one, length in zip(size, values.shape, strict=True))
    if size[0] > values.shape[0] or size[1] > values.shape[1]:
        return values[np.ix_(rows, cols)]
    found: NDArray[np.int32] = keep.reduceat(keep.reduceat(values, rows, axis=0), cols, axis=1)
    return found


class _TileSheet(_Sheet):
    """A sheet on which tiles are tinted by how strongly they speak for the answer."""

    def __init__(self, scored: Scored) -> None:
        self.scored = scored
        tiling = scored.plan.tiling
        picture = stretched_picture(scored.look.assemble(scored.plan, scored.store))
        super().__init__(picture, tiling.width, tiling.height, scored.gsd, bar=True)
        self.faint = ((1 - ALPHA) * self.below).astype(np.uint8)
        # The tile that owns each pixel of the panel, so that overlapping tiles do not hide each other.
        x, y = (
            np.clip(np.searchsorted(edges, (np.arange(size) + 0.5) * whole / size, 'right') - 1, 0, None)
            for edges, size, whole in (
                (tiling.x.edges, self.below.shape[1], tiling.width),
                (tiling.y.edges, self.below.shape[0], tiling.height),
            )
        )
        self.places = np.ix_(np.minimum(y, tiling.shape[0] - 1), np.minimum(x, tiling.shape[1] - 1))

    def write(self, answer: Answered, basis: TileEvidence, path: Path) -> None:
        """Draw the tiles that an answer rests on."""
        image, draw = self.drawn(self._tinted(basis.estimate.strength))
        self._outline(draw, basis.mask)
        named = f' ("{basis.estimate.answer}")' if answer.question_type == 'rural_urban' else ''
        legend = f'{LEGENDS.get(answer.question_type or "", "")}{named}; outlined: evidence'
        foot = image.width / 2, image.height - 0.18 * DPI
        self.say(draw, foot, f'{legend} ({int(basis.mask.sum()):,} tiles)', self.fonts[1])
        self.save(pack_rows(np.asarray(image)), answer, path)

    def _tinted(self, strength: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The grey scene with every tile tinted by its strength, (h, w, 3)."""
        values = strength.reshape(self.scored.plan.tiling.shape)
        known = ~np.isnan(values)
        colours = (255 * ALPHA * colormaps[COLOURS](np.nan_to_num(values))[..., :3]).astype(np.uint8)
        colours[~known] = 0
        below = self.faint if known.all() else np.where(known[self.places][..., None], self.faint, self.below)
        tinted: NDArray[np.uint8] = below + colours[self.places]
        return tinted

    def _outline(self, draw: ImageDraw.ImageDraw, evidence: NDArray[np.bool_]) -> None:
        tiling, (height, width) = self.scored.plan.tiling, self.below.shape[:2]
        rows, cols = np.nonzero(evidence.reshape(tiling.shape))
        if len(rows) > OUTLINED:
            return
        x = self.left + np.round(tiling.x.edges * (width - 1) / tiling.width).astype(int)
        y = np.round(tiling.y.edges * (height - 1) / tiling.height).astype(int)
        for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
            draw.rectangle((x[col], y[row], x[col + 1], y[row + 1]), outline=OUTLINE)


def _draw_bare(
    picture: NDArray[np.uint8], width: int, height: int, gsd: float | None, *, bar: bool
) -> tuple[NDArray[np.uint8], int, tuple[int, int, int, int]]:
    """Draw what all answers share: the scene in colour, and in grey for the tints to be read.

    Returns:
        Pixels (h, w, 3), how many rows there are for a title, and where the second panel lies: left, top,
        right, bottom.
    """
    figure, axes = _panels(width, height)
    grey = picture.mean(2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    for panel, image in zip(axes, (picture, grey), strict=True):
        panel.imshow(image, extent=(0, width, height, 0), interpolation='nearest')
        panel.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    draw_scale_bar(axes[0], width, height, gsd)
    if bar:
        inches = figure.get_size_inches()[1]
        place = figure.add_axes((0.3, 0.44 / inches, 0.4, 0.12 / inches))
        scale = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), cax=place, orientation='horizontal')
        scale.ax.tick_params(labelsize=7)
    canvas: Any = FigureCanvasAgg(figure)  # whose methods have no types
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    inside = axes[1].get_window_extent()
    box = inside.x0, len(pixels) - inside.y1, inside.x1, len(pixels) - inside.y0
    left, top, right, bottom = (round(edge) for edge in box)
    head = round(len(pixels) - axes[0].get_window_extent().y1)
    return pixels, min(head, top + 1), (left + 1, top + 1, right, bottom)


def _panels(width: int, height: int) -> tuple[Figure, Any]:
    """A figure with two panels of that shape, side by side or one above the other."""
    wide, ratio = width >= 1.3 * height, height / width
    panel = (6.8, max(6.8 * ratio, 1.5)) if wide else (max(5.2 / ratio, 1.5), 5.2)
    size = (panel[0] + 0.6, 2 * panel[1] + 1.9) if wide else (2 * panel[0] + 0.8, panel[1] + 1.7)
    figure = Figure(figsize=tuple(np.maximum(size, (7.0, 3.8))), dpi=DPI)
    axes = figure.subplots(*((2, 1) if wide else (1, 2)))
    inches = figure.get_size_inches()[1]
    figure.subplots_adjust(0.02, 0.7 / inches, 0.98, 1 - 0.75 / inches, 0.03, 0.05)
    return figure, axes


def _title(answer: Answered) -> str:
    asked = answer.question if answer.understood_as is None else answer.understood_as
    said = answer.text if len(answer.text) <= 150 or answer.answer is None else answer.answer
    answered = f'{said}{how_sure(answer.probability)}'
    lines = [line for text in (asked, answered) for line in textwrap.wrap(text, 80, max_lines=2)]
    return '\n'.join(lines)
