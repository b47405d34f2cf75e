"""How many bytes a map of a scene that lies on a server fetches, beside those that it needs.

    python benchmarks/remote.py SCENE [--side 3072] [--layouts NAME ...] [--json FILE]

SCENE is a Sentinel-2 scene with the ten bands of the bundle `sentinel2`, as `make demo` installs one. It is
mirrored to a square of SIDE pixels and written in several layouts, each with overviews in the same file and
served by this process, part by part; `geores.classify` maps each under torch. Bytes are counted where they
are sent. The columns:

* needed: compressed blocks of the bands that the model takes, at full resolution, each once;
* fetched: all that was sent, and how many times what is needed that is;
* of it: blocks that were fetched again; overviews; the rest (headers, tables of blocks, blocks of other
  bands, what lies between blocks).
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.shutil import copy

import geores
from geores.inference import GridReader

OVERVIEWS = (2, 4, 8, 16)
BLOCKS, OF_OVERVIEWS = 1, 2


@dataclass(frozen=True)
class Layout:
    """How a scene is written.

    Attributes:
        model: bundle that maps it.
        options: of GDAL's driver.
        driver: GDAL's name of it.
        each: whether every band has a file of its own.
        more: bands that the model does not take, made of those that it takes.
        overviews: factors.
    """

    model: str = 'sentinel2'
    options: Mapping[str, Any] = field(default_factory=dict)
    driver: str = 'COG'
    each: bool = False
    more: int = 0
    overviews: Sequence[int] = OVERVIEWS


def _tiled(block: int, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - options of GDAL
    """Options of a GeoTIFF in blocks whose overviews are copied."""
    return {'TILED': 'YES', 'BLOCKXSIZE': block, 'BLOCKYSIZE': block, 'COPY_SRC_OVERVIEWS': 'YES'} | options


DEFLATE = {'COMPRESS': 'DEFLATE', 'PREDICTOR': 2}
LAYOUTS = {
    'COG, deflate, 512': Layout(options={'COMPRESS': 'DEFLATE', 'PREDICTOR': 'YES', 'BLOCKSIZE': 512}),
    'COG, deflate, 256': Layout(options={'COMPRESS': 'DEFLATE', 'PREDICTOR': 'YES', 'BLOCKSIZE': 256}),
    'COG, deflate, 1024': Layout(options={'COMPRESS': 'DEFLATE', 'PREDICTOR': 'YES', 'BLOCKSIZE': 1024}),
    'COG, uncompressed, 512': Layout(options={'COMPRESS': 'NONE', 'BLOCKSIZE': 512}),
    'band interleaved, deflate, 512': Layout(
        driver='GTiff', options=_tiled(512, INTERLEAVE='BAND', **DEFLATE)
    ),
    'band interleaved, deflate, 256, 3 more bands': Layout(
        driver='GTiff', options=_tiled(256, INTERLEAVE='BAND', **DEFLATE), more=3
    ),
    'file a band, deflate, 512': Layout(options={'COMPRESS': 'DEFLATE', 'PREDICTOR': 'YES'}, each=True),
    'COG, JPEG, 512, 8 bits': Layout(model='aerial-rgb', options={'COMPRESS': 'JPEG', 'QUALITY': 90}),
    'COG, deflate, 512, 8 bits': Layout(model='aerial-rgb', options={'COMPRESS': 'DEFLATE'}),
    'strips of 16 rows, deflate': Layout(
        driver='GTiff', options={'BLOCKYSIZE': 16, 'COPY_SRC_OVERVIEWS': 'YES', **DEFLATE}
    ),
    'blocks, no overviews, deflate, 512': Layout(
        driver='GTiff', options=_tiled(512, **DEFLATE), overviews=()
    ),
}  # fmt: skip


def fixtures(name: str) -> Any:  # noqa: ANN401 - a module
    """Import a module of tests/, which is no package that is installed."""
    if 'tests' not in sys.modules:
        sys.modules['tests'] = tests = ModuleType('tests')
        tests.__path__ = [str(Path(__file__).parents[1] / 'tests')]
    return importlib.import_module(f'tests.{name}')


def mosaic(path: str, bands: tuple[str, ...], side: int) -> np.ndarray:
    """The scene mirrored to a square, (bands, side, side) uint16."""
    scene = geores.open_scene(path)
    rows, cols = scene.geobox.shape.yx
    values, _ = GridReader(scene, bands, scene.geobox).read(slice(0, rows), slice(0, cols))
    pad = [(0, max(0, side - size)) for size in values.shape[1:]]
    return np.pad(values, ((0, 0), *pad), mode='symmetric')[:, :side, :side].astype(np.uint16)


def write(folder: Path, values: np.ndarray, bands: Sequence[str], layout: Layout) -> list[Path]:
    """Write a scene in a layout; the files that are a source of it."""
    names = [*bands, *(f'extra{number}' for number in range(layout.more))]
    values = np.concatenate([values, values[: layout.more]])
    if layout.each:
        stem = 'T33UUU_20170216T102101_{}.tif'
        parts = [(folder / stem.format(name), values[at : at + 1], [name]) for at, name in enumerate(names)]
    else:
        parts = [(folder / 'scene.tif', values, names)]
    for path, planes, of_planes in parts:
        plain = folder / 'plain.tif'
        pixel = 10 if len(bands) > 3 else 0.3
        with rasterio.open(
            plain, 'w', driver='GTiff', tiled=True, blockxsize=512, blockysize=512, dtype=planes.dtype,
            count=len(planes), height=planes.shape[1], width=planes.shape[2], crs='EPSG:32633',
            transform=Affine(pixel, 0, 300_000, 0, -pixel, 5_900_000),
            **({'photometric': 'RGB'} if len(planes) == 3 else {}),
        ) as file:  # fmt: skip
            file.write(planes)
            file.descriptions = of_planes
            if layout.overviews:
                file.build_overviews(list(layout.overviews), rasterio.enums.Resampling.average)
        copy(plain, path, driver=layout.driver, **layout.options)
        plain.unlink()
    return [path for path, *_ in parts]


@dataclass
class Bytes:
    """What lies at each byte of a file: `BLOCKS` of the model's bands, `OF_OVERVIEWS`, or 0 for the rest."""

    kinds: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, path: Path, bands: Sequence[str]) -> 'Bytes':
        """Look where the blocks of a file lie."""
        size = path.stat().st_size
        found = cls(np.zeros(size, np.uint8), np.zeros(size, np.uint16))
        with rasterio.open(path) as file:
            wanted = [at for at, name in enumerate(file.descriptions, 1) if name in bands]
            levels = len(file.overviews(1))
            found._mark(file, wanted, BLOCKS)
        for level in range(levels):
            with rasterio.open(path, overview_level=level) as file:
                found._mark(file, file.indexes, OF_OVERVIEWS)
        return found

    def _mark(self, file: rasterio.DatasetReader, indexes: Sequence[int], kind: int) -> None:
        for index in indexes:
            for (row, col), _ in file.block_windows(index):
                offset, size = (
                    file.get_tag_item(f'BLOCK_{item}_{col}_{row}', 'TIFF', bidx=index)
                    for item in ('OFFSET', 'SIZE')
                )
                if offset is not None:
                    self.kinds[int(offset) : int(offset) + int(size)] = kind


def count(files: Mapping[str, Bytes], sent: Sequence[tuple[str, int, int]]) -> dict[str, float]:
    """Sum up what was sent: (file, first byte, number of bytes) of each answer."""
    for name, start, size in sent:
        files[name].times[start : start + size] += 1
    sums = {'needed': 0, 'fetched': 0, 'again': 0, 'overviews': 0, 'rest': 0}
    for of_file in files.values():
        blocks = of_file.kinds == BLOCKS
        sums['needed'] += int(blocks.sum())
        sums['fetched'] += int(of_file.times.sum())
        sums['again'] += int(np.maximum(of_file.times[blocks].astype(int) - 1, 0).sum())
        sums['overviews'] += int(of_file.times[of_file.kinds == OF_OVERVIEWS].sum())
        sums['rest'] += int(of_file.times[of_file.kinds == 0].sum())
    return {'requests': len(sent), **sums, 'times': round(sums['fetched'] / sums['needed'], 3)}


def measure(folder: Path, values: np.ndarray, bands: Sequence[str], layout: Layout) -> dict[str, float]:
    """Map a scene where it is served, and count."""
    paths = write(folder, values, bands, layout)
    files = {path.name: Bytes.of(path, bands) for path in paths}
    with fixtures('remote_fixtures').serve_ranges(folder) as server:
        sources = [f'{server.address}/{path.name}?{time.time_ns()}' for path in paths]
        source = sources if layout.each else sources[0]
        geores.classify(geores.open_scene(source), layout.model, device='cpu', runtime='torch')
        return count(files, server.answers)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--side', type=int, default=3072)
    parser.add_argument('--layouts', nargs='+', choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument('--json', type=Path, help='keep the figures in this file')
    args = parser.parse_args()
    os.environ['no_proxy'] = os.environ['NO_PROXY'] = '127.0.0.1'
    bands = geores.load_model('sentinel2').card.bands
    values = mosaic(args.scene, bands, args.side)
    rows = {}
    print('| layout | requests | needed, MB | fetched, MB | times needed | again | overviews | rest |')
    print('|---|---|---|---|---|---|---|---|')
    for name in args.layouts:
        layout = LAYOUTS[name]
        planes, names = values, bands
        if layout.model == 'aerial-rgb':
            planes = (
                (values[[bands.index(band) for band in ('B04', 'B03', 'B02')]] / 12)
                .clip(1, 255)
                .astype(np.uint8)
            )
            names = ('red', 'green', 'blue')
        with tempfile.TemporaryDirectory() as folder:
            row = rows[name] = measure(Path(folder), planes, names, layout)
        megabytes = [f'{row[key] / 1e6:.2f}' for key in ('needed', 'fetched', 'again', 'overviews', 'rest')]
        cells = [name, row['requests'], *megabytes[:2], f'{row["times"]:.3f}', *megabytes[2:]]
        print(f'| {" | ".join(map(str, cells))} |', flush=True)
    if args.json:
        args.json.write_text(json.dumps({'side': args.side, 'rows': rows}, indent=1))


if __name__ == '__main__':
    main()
