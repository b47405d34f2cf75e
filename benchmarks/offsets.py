"""Sentinel-2's offset by the pixels alone: how often it is found, asked, or mistaken, on real pixels.

    python benchmarks/offsets.py SCENE...

Scenes have to be without the offset (baselines before 04.00, or harmonised). From each, windows are taken as
they are and with 1,000 added, and opened as an array that states the date of 2023 but no baseline, as
odc-stac gives it. Right is to leave the first as it is, and to take 1,000 off the second; a question is no
mistake.
"""

import argparse
from collections import Counter

import numpy as np
import xarray as xr

import geores
from geores.errors import UsageError
from geores.inference import GridReader
from geores.scenes.offset import _look, _reflective, settle_offset

BANDS = ('B02', 'B03', 'B04', 'B08', 'B8A', 'B11', 'B12')


def as_array(values: np.ndarray) -> xr.Dataset:
    """Digital numbers (bands, h, w) as odc-stac gives them, dated but without a baseline."""
    rows, cols = values.shape[1:]
    coords = {
        'time': np.array(['2023-02-16'], 'datetime64[ns]'),
        'y': 5.8e6 - 10.0 * (np.arange(rows) + 0.5),
        'x': 6e5 + 10.0 * (np.arange(cols) + 0.5),
    }
    whole = values.round().astype(np.uint16)
    bands = {
        name: (('time', 'y', 'x'), band[None], {'nodata': 0}) for name, band in zip(BANDS, whole, strict=True)
    }
    return xr.Dataset(bands, coords=coords).rio.write_crs('EPSG:32633')


def decide(values: np.ndarray) -> str:
    """What geores decides of digital numbers: '0', '-1000', 'date' (-1000 by the date alone) or 'asked'."""
    scene = geores.open_scene(as_array(values), sensor='sentinel-2-l2a')
    try:
        found = settle_offset(scene).offset
    except UsageError:
        return 'asked'
    if found is None:
        return 'asked'
    look = _look(_reflective(scene))
    return 'date' if found.value and look.verdict == 'open' else f'{found.value:g}'


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scenes', nargs='+')
    parser.add_argument('--sides', type=int, nargs='+', default=[64, 256, 512])
    parser.add_argument('--windows', type=int, default=60)
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    print(f'{"scene":24} side  windows  without: 0 / asked / date / -1000   with: -1000 / date / asked / 0')
    for path in options.scenes:
        scene = geores.open_scene(path)
        reader = GridReader(scene, list(BANDS), scene.geobox)
        values, valid = reader.read(*(slice(0, side) for side in scene.geobox.shape.yx))
        for side in options.sides:
            plain, added = Counter[str](), Counter[str]()
            for _ in range(options.windows):
                top, left = (int(draw.integers(0, size - side + 1)) for size in valid.shape)
                window = np.s_[top : top + side, left : left + side]
                if not valid[window].all():
                    continue
                pixels = values[:, window[0], window[1]]
                plain[decide(pixels)] += 1
                added[decide(pixels + 1000)] += 1
            one = ' / '.join(f'{plain[key]:3}' for key in ('0', 'asked', 'date', '-1000'))
            other = ' / '.join(f'{added[key]:3}' for key in ('-1000', 'date', 'asked', '0'))
            print(f'{scene.name[:24]:24} {side:4}  {plain.total():7}  {one:>32}   {other:>30}')


if __name__ == '__main__':
    main()
