"""Walk `configs/reben19.yaml` on real patches: lay out, convert, train, evaluate, map, and compare.

    python benchmarks/reben19.py layout reben-maps.npz maps    # 120 official test patches, as released
    python benchmarks/reben19.py scene maps scene              # the same as one scene: s2.tif and s1.tif
    python benchmarks/reben19.py compare maps map/s2_scores.tif BUNDLE   # the map against single patches

The patches come without their names, so ids are invented: they stand side by side, twelve a row, in a corner
of tile 33UUP. Of Sentinel-2 there are four bands. In the file the codes of the maps went through 8 bits, in
which 231 (pastures) and 999 (not covered) are one. Read as pastures, all patches keep to the rule by which
they were chosen (less than a quarter unlabelled); read as not covered, 14 of 120 break it. So they are
pastures here.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio

from geores.bigearthnet.labels import UNLABELLED, labels_of_map
from geores.bigearthnet.patch_id import PatchId, S1Name
from geores.bigearthnet.stores import S1_BANDS, native_form

ACROSS = 12
PRODUCT, S1_PRODUCT, TILE = (
    'S2A_MSIL2A_20180101T000000_N9999_R000_T33UUP',
    'S1A_IW_GRDH_1SDV_20180101T000000',
    '33UUP',
)
PASTURES = 231
TABLE = {'s2': 'BigEarthNet-S2', 's1': 'BigEarthNet-S1', 'map': 'Reference_Maps'}


def read_patches(path: Path) -> list[tuple[dict[str, Any], Any]]:
    """Bands of each patch by name, and its CORINE codes."""
    with np.load(path, allow_pickle=False) as held:
        images, codes, bands = held['images'], held['clc'], held['bands'].tolist()
    codes = np.where(codes == UNLABELLED, PASTURES, codes).astype(np.uint16)
    return [
        ({band: image[..., place].astype(native_form(band)[1]) for place, band in enumerate(bands)}, code)
        for image, code in zip(images, codes, strict=True)
    ]


def lay_out(path: Path, folder: Path) -> list[dict[str, Any]]:
    """Write patches as released, under invented ids, with a table of labels by the official rule."""
    rows = []
    for number, (bands, codes) in enumerate(read_patches(path)):
        row, column = divmod(number, ACROSS)
        patch = PatchId(PRODUCT, TILE, column, row)
        radar = S1Name(S1_PRODUCT, TILE, column, row)
        for band, pixels in bands.items():
            name = radar if band in S1_BANDS else patch
            kind = 's1' if band in S1_BANDS else 's2'
            write(folder / TABLE[kind] / name.product / str(name) / f'{name}_{band}.tif', pixels, patch)
        write(folder / TABLE['map'] / PRODUCT / str(patch) / f'{patch.map_name}.tif', codes, patch)
        rows.append({
            'patch_id': str(patch),
            'labels': list(labels_of_map(codes).labels),
            'split': 'test',
            's1_name': str(radar),
            'contains_seasonal_snow': False,
            'contains_cloud_or_shadow': False,
        })  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / 'metadata.parquet')
    return rows


def write(path: Path, pixels: Any, patch: PatchId) -> None:  # noqa: ANN401
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    profile = {
        'driver': 'GTiff', 'count': 1, 'height': height, 'width': width, 'dtype': pixels.dtype,
        'blockysize': height, 'crs': f'EPSG:{patch.epsg}', 'transform': patch.transform(1200 / width),
    }  # fmt: skip
    with rasterio.open(path, 'w', **profile) as file:
        file.write(pixels, 1)


def make_scene(root: Path, out: Path) -> None:
    """Put the patches side by side, as one scene of each sensor."""
    from geores.datasets import ReBEN

    out.mkdir(parents=True, exist_ok=True)
    for name, bands, kind in (
        ('s2', ['B02', 'B03', 'B04', 'B08'], 'uint16'),
        ('s1', ['VV', 'VH'], 'float32'),
    ):
        data = ReBEN(root, 'test', bands)
        places = [PatchId.parse(one) for one in data.ids]
        down = max(one.row for one in places) + 1
        values = np.zeros((len(bands), down * 120, ACROSS * 120), kind)
        for index, one in enumerate(places):
            at = slice(one.row * 120, one.row * 120 + 120), slice(one.column * 120, one.column * 120 + 120)
            values[:, *at] = data[index]['image'].numpy().astype(kind)
        first = min(places, key=lambda one: (one.row, one.column))
        profile = {
            'driver': 'GTiff', 'count': len(bands), 'height': values.shape[1], 'width': values.shape[2],
            'dtype': kind, 'crs': f'EPSG:{first.epsg}', 'transform': first.transform(), 'tiled': True,
            'compress': 'zstd',
        }  # fmt: skip
        with rasterio.open(out / f'{name}.tif', 'w', **profile) as file:
            file.write(values)
            for place, band in enumerate(bands, 1):
                file.set_band_description(place, band)


def compare(root: Path, scores: Path, bundle: Path) -> None:
    """Print how far the scores of a map are from those of the same patches read one by one."""
    from geores import load_model
    from geores.datasets import ReBEN

    model = load_model(bundle)
    data = ReBEN(root, 'test', model.card.bands)
    wanted = model.predict(data.read_batch(range(len(data))), batch_size=32)
    with rasterio.open(scores) as file:
        found = file.read().reshape(len(model.card.labels), -1).T
    places = [one.row * ACROSS + one.column for one in map(PatchId.parse, data.ids)]
    print(f'{len(data)} cells, largest difference of a score {abs(found[places] - wanted).max():.2e}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('job', choices=('layout', 'scene', 'compare'))
    parser.add_argument('paths', nargs='+', type=Path)
    given = parser.parse_args()
    {'layout': lay_out, 'scene': make_scene, 'compare': compare}[given.job](*given.paths)


if __name__ == '__main__':
    main()
