"""Pictures of maps: the scene beside its classes, a small map for each label, values with a scale.

Pictures of a hundred answers about one scene differ in their title and in the areas that are painted, and
share the rest. A library's encoder would compress all of it each time; `PackedRows` compresses it once.
"""

import struct
import textwrap
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geores.cartography.areas import NODATA, Legend, say_area, say_share
from geores.cartography.class_raster import PRESENT
from geores.cartography.sheet import EMPTY, Frame, Sheet, draw_north, draw_scale_bar

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = [
    'MOST',
    'PackedRows',
    'draw_classes',
    'draw_labels',
    'draw_values',
    'pack_rows',
    'write_png',
]

_ADLER = 65521
_SUB = 1
"""The filter by which a row holds the differences of neighbours: it needs no row above."""


@dataclass(frozen=True)
class PackedRows:
    """Rows of an RGB picture, compressed so that they can stand before or after others.

    Attributes:
        width: pixels of a row.
        count: number of rows.
        data: blocks of a deflate stream, the last of which is not marked as such.
        checksum: Adler-32 of what they hold.
    """

    width: int
    count: int
    data: bytes = field(repr=False)
    checksum: int


def pack_rows(pixels: NDArray[np.uint8]) -> PackedRows:
    """Compress rows of a picture.

    Args:
        pixels: (rows, width, 3).
    """
    count, width, _ = pixels.shape
    plain = np.ascontiguousarray(pixels).reshape(count, width * 3)
    rows = np.empty((count, width * 3 + 1), np.uint8)
    rows[:, 0] = _SUB
    rows[:, 1:] = plain
    rows[:, 4:] -= plain[:, :-3]
    held = rows.tobytes()
    # Deflate's search for repeats takes most of the time, and finds hardly any in a satellite image.
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    # After a full flush nothing refers to what stands before.
    return PackedRows(
        width, count, packer.compress(held) + packer.flush(zlib.Z_FULL_FLUSH), zlib.adler32(held)
    )


def write_png(path: Path, parts: Sequence[PackedRows], text: str) -> None:
    """Write a picture of rows, one part below the other (PNG, third edition).

    Args:
        path: of the file.
        parts: of one width.
        text: what the file names as its software.
    """
    width, checksum = parts[0].width, 1
    for part in parts:
        checksum = _joined(checksum, part.checksum, part.count * (3 * width + 1))
    header = struct.pack('>IIBBBBB', width, sum(part.count for part in parts), 8, 2, 0, 0, 0)
    last = b'\x03\x00'  # an empty block that is marked as the last
    stream = b''.join([b'\x78\x01', *(part.data for part in parts), last, struct.pack('>I', checksum)])
    chunks = (
        (b'IHDR', header),
        (b'tEXt', b'Software\0' + text.encode('latin-1')),
        (b'IDAT', stream),
        (b'IEND', b''),
    )
    with path.open('wb') as file:
        file.write(b'\x89PNG\r\n\x1a\n')
        for name, data in chunks:
            file.write(struct.pack('>I', len(data)) + name + data)
            file.write(struct.pack('>I', zlib.crc32(data, zlib.crc32(name))))


def _joined(first: int, second: int, length: int) -> int:
    """Adler-32 of two texts, one after the other, from that of each and the length of the second."""
    low, high = first & 0xFFFF, first >> 16
    other, above = second & 0xFFFF, second >> 16
    return ((high + above + length * (low - 1)) % _ADLER) << 16 | (low + other - 1) % _ADLER


MOST = 1200
"""Pixels along the longer side of a panel; more could not be seen."""
WIDE = 1.3
"""Ratio of width to height from which panels are stacked."""
BAR = 0.55
"""Room for a colour bar, inches."""
SMALL = 12
"""Most small maps in one picture."""
LINES = 24
"""Most labels in a legend."""


def draw_classes(
    picture: NDArray[np.uint8],
    classes: NDArray[np.integer],
    legend: Legend,
    frame: Frame,
    *,
    title: str = '',
    name: str = '',
    shares: Mapping[str, float] | None = None,
    areas: Mapping[str, float] | None = None,
    note: str = '',
    covers: tuple[int, int] | None = None,
) -> Sheet:
    """Draw the scene beside its class map.

    Args:
        picture: of the scene, (h, w, 3).
        classes: 0 for no data, else 1 to K, (rows, cols); of the same ground, at any resolution.
        legend: of the classes.
        frame: the ground.
        title: above the scene.
        name: above the map.
        shares: of the labels, for the legend; None to count the pixels that are drawn.
        areas: of the labels, in square metres (in pixels without a CRS).
        note: text at the bottom.
        covers: height and width that the classes cover, in pixels of the frame, where they reach beyond it.
    """
    counts = np.bincount(classes.ravel(), minlength=len(legend) + 1)
    if shares is None:
        total = max(counts[1:].sum(), 1)
        shares = {label: counts[value] / total for value, label in legend.names.items()}
    handles = _handles(legend, shares, areas or {}, frame, nodata=bool(counts[NODATA]))
    sheet = Sheet.of(frame, count=2, handles=handles, note=note, **_two_panels(frame))
    _draw_scene(sheet.axes[0], picture, frame, title)
    sheet.axes[1].imshow(
        _class_colours(classes, legend), extent=_extent(frame, covers), interpolation='nearest'
    )
    sheet.axes[1].set_title(name, fontsize=9)
    return sheet


def draw_labels(
    picture: NDArray[np.uint8],
    present: NDArray[np.integer],
    legend: Legend,
    frame: Frame,
    *,
    title: str = '',
    shares: Mapping[str, float],
    what: str = 'of tiles',
    note: str = '',
    covers: tuple[int, int] | None = None,
) -> Sheet:
    """Draw the scene and one small map per label that occurs, the most frequent first.

    Labels of a multi-label model overlap, so that one map of classes cannot show them.

    Args:
        picture: of the scene, (h, w, 3).
        present: 0 for no data, 1 absent, 2 present, (K, rows, cols).
        legend: the labels.
        frame: the ground.
        title: above the scene.
        shares: of each label.
        what: what the shares refer to.
        note: text at the bottom.
        covers: see `draw_classes`.
    """
    found = [k for k in range(len(legend)) if (present[k] == PRESENT).any()]
    found.sort(key=lambda k: -shares.get(legend.labels[k], 0.0))
    drawn, left = found[:SMALL], [legend.labels[k] for k in found[SMALL:]]
    rest = f'Also found, in fewer places: {", ".join(left)}.' if left else ''
    none = '' if drawn else 'No label was found.'
    note = ' '.join(filter(None, [rest, none, note]))
    wide = frame.width >= WIDE * frame.height
    sheet = Sheet.of(
        frame,
        count=len(drawn) + 1,
        cols=min(len(drawn) + 1, 3 if wide else 4),
        width=3.6 if wide else max(1.0, min(2.8, 3.6 * frame.width / frame.height)),
        above=0.4,
        note=note,
    )
    _draw_scene(sheet.axes[0], picture, frame, title)
    background = _grey_background(picture)
    for panel, k in zip(sheet.axes[1:], drawn, strict=True):
        label = legend.labels[k]
        panel.imshow(background, extent=frame.extent, interpolation='nearest')
        panel.imshow(
            _presence_colours(present[k], legend.rgb[k]),
            extent=_extent(frame, covers),
            interpolation='nearest',
        )
        share = f'{say_share(shares[label])} {what}' if label in shares else ''
        panel.set_title(f'{label}\n{share}', fontsize=8)
    return sheet


def draw_values(
    picture: NDArray[np.uint8],
    values: NDArray[np.floating],
    frame: Frame,
    *,
    title: str = '',
    name: str = '',
    quantity: str = '',
    note: str = '',
    covers: tuple[int, int] | None = None,
) -> Sheet:
    """Draw the scene beside a map of values with a colour bar.

    Args:
        picture: of the scene, (h, w, 3).
        values: NaN for no data, (rows, cols).
        frame: the ground.
        title: above the scene.
        name: above the map.
        quantity: name of the values, at the colour bar.
        note: text at the bottom.
        covers: see `draw_classes`.
    """
    sheet = Sheet.of(frame, count=2, note=note, bar=BAR, **_two_panels(frame))
    _draw_scene(sheet.axes[0], picture, frame, title)
    image = sheet.axes[1].imshow(
        np.ma.masked_invalid(values), cmap='viridis', extent=_extent(frame, covers), interpolation='nearest'
    )
    sheet.axes[1].set_title(name, fontsize=9)
    bar = sheet.figure.colorbar(image, cax=sheet.bar_axes(), orientation='horizontal')
    bar.set_label(quantity, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return sheet


def _two_panels(frame: Frame) -> dict[str, Any]:
    """Layout of two panels: side by side, or one above the other where the scene is wide."""
    if frame.width >= WIDE * frame.height:
        return {'cols': 1, 'width': 8.0}
    return {'cols': 2, 'width': min(6.0, max(1.5, 7.0 * frame.width / frame.height))}


def _draw_scene(axes: 'Axes', picture: NDArray[np.uint8], frame: Frame, title: str) -> None:
    axes.imshow(picture, extent=frame.extent, interpolation='nearest')
    axes.set_title(title, fontsize=9)
    draw_scale_bar(axes, frame.width, frame.height, frame.gsd)
    draw_north(axes, frame)


def _extent(frame: Frame, covers: tuple[int, int] | None) -> tuple[float, float, float, float]:
    height, width = covers or (frame.height, frame.width)
    return (0, width, height, 0)


def _class_colours(classes: NDArray[np.integer], legend: Legend) -> NDArray[np.uint8]:
    """Colours of a class map, (rows, cols, 4); transparent where there is no data."""
    colours = np.zeros((len(legend) + 1, 4), np.uint8)
    colours[1:, :3], colours[1:, 3] = legend.rgb, 255
    painted: NDArray[np.uint8] = colours[classes]
    return painted


def _grey_background(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The scene in light grey, as a background."""
    grey = picture.mean(axis=2, keepdims=True)
    return np.repeat(110 + grey * 145 / 255, 3, axis=2).astype(np.uint8)


def _presence_colours(present: NDArray[np.integer], colour: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A label's colour, half transparent, where it is present; grey where there is no data."""
    painted = np.zeros((*present.shape, 4), np.uint8)
    painted[present == PRESENT] = (*colour, 200)
    painted[present == NODATA] = (*bytes.fromhex(EMPTY[1:]), 255)
    return painted


def _handles(
    legend: Legend, shares: Mapping[str, float], areas: Mapping[str, float], frame: Frame, *, nodata: bool
) -> list['Artist']:
    """Entries of the legend: labels with shares and areas, largest first."""
    from matplotlib.patches import Patch

    shown = sorted((label for label, share in shares.items() if share > 0), key=lambda label: -shares[label])
    unit = 'm2' if frame.crs is not None else 'pixel'
    edge: dict[str, Any] = {'edgecolor': '#888888', 'linewidth': 0.4}
    handles: list[Artist] = []
    for label in shown[:LINES]:
        area = f', {say_area(areas[label], unit)}' if label in areas else ''
        text = f'{textwrap.shorten(label, 48, placeholder=" ...")}: {say_share(shares[label])}{area}'
        handles.append(Patch(facecolor=legend.colour_of[label], label=text, **edge))
    if rest := shown[LINES:]:
        text = f'{len(rest)} more: {say_share(sum(shares[label] for label in rest))}'
        handles.append(Patch(facecolor='none', label=text, linewidth=0))
    if nodata:
        handles.append(Patch(facecolor=EMPTY, label='no data', **edge))
    return handles
