"""Sentinel-2's offset: whether 1,000 has to be taken off the digital numbers, decided from all evidence.

From processing baseline 04.00 on (25 January 2022, and reprocessed older products) Sentinel-2's digital
numbers are 1,000 larger than reflectance times 10,000. Catalogues hand out copies with and without it. What
is stated is checked against the pixels: with the offset hardly a pixel lies below about 850, and without it
dark ones do in nearly every scene.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product as pairs
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from geores.errors import ReadError, UsageError
from geores.scenes.bands import SENTINEL2_BANDS
from geores.scenes.blocks import holding_blocks
from geores.scenes.gdal import gdal_env
from geores.scenes.product import Product
from geores.scenes.scene import Band, Offset, Scene
from geores.scenes.sensors import SENTINEL2

__all__ = ['OFFSET', 'checked_offset', 'known_offset', 'parse_offset', 'settle_offset']

OFFSET: Final = -1000.0
"""What baselines from 04.00 on are to have added, in digital numbers."""

FIRST_BASELINE: Final = 400
FIRST_DAY: Final = '2022-01-25'
USER_BASELINE: Final = 9999

BELOW: Final = 850.0
"""Digital number below which hardly a pixel lies where the offset is in: a reflectance of -0.015."""

MANY: Final = 0.03
"""Share of a band's pixels below `BELOW` that shows that the offset is not in."""

FEW: Final = 0.003
"""Share that shows no more than noise."""

CLIPPED: Final = 0.3
"""Share of every band's pixels below 1,000, to be brought to 0, that shows that it is not in."""

DARKEST: Final = 1400.0
"""Where the offset is in, the darkest hundredth of red or infrared lies below it: a reflectance of 0.04."""

BRIGHTEST: Final = 2.0
"""Floating point pixels that lie below it are reflectances of 0 to 1."""

BROAD: Final = 200
"""Pixels along each side from which on a scene is taken to hold something dark; a field may hold nothing."""

WINDOWS, WINDOW = 3, 192
"""How many windows are looked at along each axis, and their side in pixels."""

LOOKED_AT: Final = ('B12', 'B11', 'B8A', 'B08', 'B05', 'B04', 'B10', 'B02')
"""The darkest bands first; blue is bright at the top of the atmosphere, and shows nothing alone."""

Verdict = Literal['in', 'out', 'open']

_HARMONISED: Final = re.compile(r'harmoni[sz]ed', re.IGNORECASE)
_EARTH_SEARCH: Final = re.compile(r'S2[A-D]_(?:T?\d{1,2}[A-Z]{3}_\d{8}_\d+|T\d{2}[A-Z]{3}_\d{8}T\d{6})_L2A')


def parse_offset(text: str | float) -> float | None:
    """Read what a user says of the offset.

    Args:
        text: 'auto', 'none', or what is to be added, -1000 or 0.

    Returns:
        What is to be added to digital numbers; None for 'auto'.

    Raises:
        UsageError: if it is none of these.
    """
    known = {'auto': None, 'none': 0.0, '0': 0.0, '-1000': OFFSET}
    key = f'{text:g}' if isinstance(text, int | float) else text.strip().lower()
    if key not in known:
        raise UsageError(f'--offset {text}: is auto, none or -1000 (what is added to digital numbers)')
    return known[key]


def known_offset(
    product: Product | None,
    *,
    date: str | None = None,
    texts: Sequence[str] = (),
    attributes: Mapping[str, str] | None = None,
) -> Offset:
    """Say what is stated about the offset of Sentinel-2's digital numbers; pixels are not looked at."""
    attributes = attributes or {}
    if product is not None and product.offsets is not None:
        least = min(product.offsets.values(), default=0.0)
        note = f'offset of {least:.0f} applied, as the product states' if least else None
        return Offset(least, 'metadata', note)
    if any(_HARMONISED.search(text) for text in (*texts, *attributes.values())):
        return Offset(0.0, 'flag', 'no offset applied: the copy is called harmonised')
    flag = next((v for k, v in attributes.items() if k.endswith('boa_offset_applied')), None)
    if flag is not None:
        applied = flag.strip().lower() in {'true', '1'}
        said = 'no offset applied' if applied else f'offset of {OFFSET:.0f} applied'
        return Offset(0.0 if applied else OFFSET, 'flag', f'{said}: boa_offset_applied is {flag}')
    baseline = _attribute_baseline(attributes) or (product.baseline if product else None)
    if baseline is not None:
        return _of_baseline(baseline)
    day = (product.date if product else None) or date
    return _of_day(day, [*texts, *(attributes.get(key, '') for key in ('id', 'title'))])


def _attribute_baseline(attributes: Mapping[str, str]) -> int | None:
    """Read a baseline such as 05.09, 5.09 or 0509."""
    for key, value in attributes.items():
        if key.endswith('processing_baseline'):
            if match := re.fullmatch(r'N?(\d{1,2})\.?(\d{2})', value.strip()):
                return int(match[1]) * 100 + int(match[2])
            if match := re.fullmatch(r'(\d{1,2})(?:\.(\d))?', value.strip()):  # 4 or 4.0, from a number
                return int(match[1]) * 100 + int(match[2] or 0) * 10
    return None


def _of_baseline(baseline: int) -> Offset:
    if baseline == USER_BASELINE:
        note = 'processing baseline not stated (N9999): reflectance = DN / 10000 without offset'
        return Offset(0.0, 'baseline', note)
    if baseline < FIRST_BASELINE:
        return Offset(0.0, 'baseline')
    note = f'offset of {OFFSET:.0f} applied: processing baseline {baseline / 100:05.2f}'
    return Offset(OFFSET, 'baseline', note)


def _of_day(day: str | None, texts: Sequence[str]) -> Offset:
    if day is None:
        note = 'no scale stated: reflectance = DN / 10000 without offset, as Sentinel-2 had before 2022'
        return Offset(0.0, 'unknown', note)
    if day < FIRST_DAY:
        note = 'processing baseline not stated: reflectance = DN / 10000 without offset'
        return Offset(0.0, 'date', note)
    if any(_EARTH_SEARCH.search(text) for text in texts):
        note = 'processing baseline not stated, and Earth Search has copies with the offset and without it'
        return Offset(0.0, 'unknown', note)
    note = f'offset of {OFFSET:.0f} applied: sensed after processing baseline 04.00 began'
    return Offset(OFFSET, 'date', note)


@dataclass(frozen=True)
class _Look:
    """What pixels show: the verdict, the phrase that says why, and whether floats are 0 to 1."""

    verdict: Verdict = 'open'
    why: str = 'its pixels do not tell'
    fractions: bool = False


def settle_offset(scene: Scene) -> Scene:
    """Check what is stated about Sentinel-2's offset against a sample of the pixels.

    Args:
        scene: any scene; one of another sensor, or whose user has said the offset, stays as it is. A scene
            that dask computes is looked at only where nothing states the offset.

    Returns:
        The scene with the offsets that its pixels bear out, and a note that says so.

    Raises:
        UsageError: if neither statements nor pixels tell, or they contradict each other.
    """
    known, bands = scene.offset, _reflective(scene)
    if known is None or known.basis == 'user' or not bands:
        return scene
    whole = all(band.raster.dtype.kind != 'f' or band.scale is not None for band in bands)
    if scene.is_lazy and known.basis in {'metadata', 'baseline', 'flag'} and (whole or not known.value):
        return scene
    look = _look(bands)
    decided = _decided(scene.name, known, look, floats=all(b.raster.dtype.kind == 'f' for b in bands))
    return _with_offset(scene, bands, decided, look)


def checked_offset(scene: Scene) -> Scene:
    """Settle the offset, with what would have to be said as the scene's question instead of an error."""
    try:
        return settle_offset(scene)
    except UsageError as error:
        return replace(scene, question=str(error))


def _reflective(scene: Scene) -> list[Band]:
    """The bands of Sentinel-2 that hold numbers and no picture."""
    return [
        band
        for band in scene.bands.values()
        if band.sensor == SENTINEL2 and _number(band.name) is not None and band.raster.dtype != np.uint8
    ]


def _number(name: str) -> str | None:
    """Sentinel-2's own name of a band, also of one under its common name."""
    if name in SENTINEL2_BANDS:
        return name
    return next((number for number, common in SENTINEL2_BANDS.items() if common == name), None)


def _look(bands: Sequence[Band]) -> _Look:
    """Look at windows of the darkest bands."""
    by_number = {_number(band.name): band for band in bands}
    chosen = [by_number[name] for name in LOOKED_AT if name in by_number][:6] or list(bands)[:2]
    with gdal_env(), holding_blocks():
        pixels = {name: values for name, values in _samples(chosen).items() if values.size}
    if not pixels:
        return _Look()
    fractions = all(band.raster.dtype.kind == 'f' for band in chosen) and (
        float(np.percentile(np.concatenate(list(pixels.values())), 99)) <= BRIGHTEST
    )
    if fractions:
        pixels = {name: values * np.float32(1e4) for name, values in pixels.items()}
    broad = min(min(band.raster.geobox.shape) for band in chosen) >= BROAD
    verdict, why = _verdict(pixels, broad=broad)
    return _Look(verdict, why, fractions)


def _verdict(pixels: Mapping[str, NDArray[np.float32]], *, broad: bool) -> tuple[Verdict, str]:
    """Say whether the offset is in digital numbers (n,) of some bands."""
    shares = {name: float((values < BELOW).mean()) for name, values in pixels.items()}
    name, most = max(shares.items(), key=lambda item: item[1])
    if most >= MANY:
        return 'out', f'{100 * most:.0f} % of the pixels of {name} lie below {BELOW:.0f}'
    below = {name: float((values < -OFFSET).mean()) for name, values in pixels.items()}
    name, half = max(below.items(), key=lambda item: item[1])
    if (least := min(below.values())) >= CLIPPED:
        return 'out', f'{100 * least:.0f} % of the pixels of each band lie below {-OFFSET:.0f}'
    dark = {n: float(np.percentile(values, 1)) for n, values in pixels.items() if n not in {'B02', 'B10'}}
    if broad and most <= FEW and dark and min(dark.values()) < DARKEST and half < 0.5:
        name = min(dark, key=dark.__getitem__)
        return 'in', f'the darkest pixels of {name} lie at {dark[name]:.0f}, and none of any band near 0'
    return 'open', 'its pixels are too bright, or too few, to tell'


def _samples(bands: Sequence[Band]) -> dict[str, NDArray[np.float32]]:
    """Take valid pixels of bands from windows spread over them; what cannot be read is left out.

    Bands of one raster are read together: where they share blocks, each block is fetched and decoded once.
    """
    parts: dict[str, list[NDArray[np.float32]]] = {}
    for raster in {id(band.raster): band.raster for band in bands}.values():
        shared = [band for band in bands if band.raster is raster]
        rows, cols = (_windows(size) for size in raster.geobox.shape)
        # From the last one on: reads that follow each other let GDAL fetch what comes next, too.
        for row, col in reversed([*pairs(rows, cols)]):
            try:
                values, valid = raster.read([band.index for band in shared], row, col)
            except ReadError:
                continue  # the run itself will say so
            for band, pixels in zip(shared, values, strict=True):
                seen = pixels.ravel() if valid is None else pixels[valid]
                # Nothing is 0 in products but what has no data.
                seen = seen[(seen != 0) & np.isfinite(seen)].astype(np.float32)
                parts.setdefault(_number(band.name) or band.name, []).append(seen)
    return {name: np.concatenate(some) for name, some in parts.items()}


def _windows(size: int) -> list[slice]:
    length = min(WINDOW, size)
    starts = {round(part / (WINDOWS - 1) * (size - length)) for part in range(WINDOWS)}
    return [slice(start, start + length) for start in sorted(starts)]


def _decided(name: str, known: Offset, look: _Look, *, floats: bool) -> Offset:
    """Weigh what is stated against what pixels show."""
    asks = f'{name}: {{}}; say it with --offset none or --offset -1000 (offset=)'
    if look.verdict == 'out' and known.value:
        note = f'no offset applied, though {_stated(known)}: {look.why}, so that it is out already'
        return Offset(0.0, 'pixels', note)
    if look.verdict == 'in' and not known.value:
        if known.basis in {'baseline', 'metadata'}:
            note = f'no offset applied, as its {known.basis} says, though {look.why}'
            return replace(known, note=note)
        if known.basis == 'unknown':
            note = f'offset of {OFFSET:.0f} applied: {look.why}'
            return Offset(OFFSET, 'pixels', note)
        raise UsageError(
            asks.format(
                f'{_stated(known)}, but {look.why}, as where the offset of -1000 is still in the numbers'
            )
        )
    if look.verdict == 'open' and known.basis == 'unknown' and not (floats and look.fractions):
        raise UsageError(
            asks.format(f'nothing states whether 1000 is to be taken off its digital numbers, and {look.why}')
        )
    if look.verdict == 'open' and known.value and known.basis == 'date' and look.fractions:
        raise UsageError(
            asks.format(
                'its reflectances are of after January 2022, and nothing says whether 0.1 is taken off'
            )
        )
    if look.verdict == 'out' and known.basis == 'unknown':
        note = f'no scale stated: reflectance = DN / 10000 without offset, for {look.why}'
        return Offset(0.0, 'pixels', note)
    return known


def _stated(known: Offset) -> str:
    """What a statement says, without what follows from it."""
    note = known.note or ''
    said = note.rpartition(': ')[2] if known.value else note
    return said.removeprefix('no offset applied: ') or 'it is stated'


def _with_offset(scene: Scene, bands: Sequence[Band], decided: Offset, look: _Look) -> Scene:
    """Give the bands an offset, and replace the note about it."""
    changed = dict(scene.bands)
    for band in bands:
        if band.raster.dtype.kind == 'f' and band.scale is None:
            if decided.value:
                gain = 1.0 if look.fractions else 1e-4
                changed[band.name] = replace(
                    band, scale=gain, offset=decided.value * 1e-4, units='reflectance'
                )
        elif decided is not scene.offset and band.scale is not None:
            # Values that are reflectance already are 10,000 times smaller than digital numbers.
            step = 1e-4 if band.raster.dtype.kind == 'f' and band.scale == 1 else band.scale
            changed[band.name] = replace(band, offset=decided.value * step)
    before = scene.offset.note if scene.offset else None
    notes = [note for note in scene.notes if note != before]
    return replace(
        scene,
        bands=changed,
        offset=decided,
        notes=tuple(dict.fromkeys([*([decided.note] if decided.note else []), *notes])),
    )
