"""Generated patches in the layout of reBEN, and where the real ones are."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio

from geores.bigearthnet.labels import LABELS
from geores.bigearthnet.patch_id import PatchId
from geores.bigearthnet.stores import S1_BANDS, S2_BANDS, native_form

SHARED = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'reben'
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f'{SHARED} is absent')
PRODUCT = 'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP'
S1_PRODUCT = 'S1A_IW_GRDH_1SDV_20170613T165043'
SPLITS = ('train', 'validation', 'test')


def real_lmdb():
    """The folder of 24 + 24 real patches that the package configilm brings, or a skip."""
    found = find_spec('configilm')
    if found is None or found.origin is None:
        pytest.skip('the package configilm, which holds real patches, is not installed')
    root = Path(found.origin).parent / 'extra' / 'mock_data' / 'BENv2'
    if not root.is_dir():
        pytest.skip('configilm came without its data')
    return root


def make_rows(count, snow=0, seed=0):
    """Rows of the metadata; a third of the patches in each split, the last `snow` of them with snow."""
    draw = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        column, row = index % 91, index // 91
        labels = sorted({LABELS[index % 19], *draw.choice(LABELS, draw.integers(0, 3)).tolist()})
        rows.append({
            'patch_id': f'{PRODUCT}_{column:02d}_{row:02d}',
            'labels': labels,
            'split': SPLITS[index % 3],
            'country': 'Austria',
            's1_name': f'{S1_PRODUCT}_33UUP_{column}_{row}',
            's2v1_name': f'S2A_MSIL2A_20170613T101031_{column}_{row}',
            'contains_seasonal_snow': index >= count - snow,
            'contains_cloud_or_shadow': False,
        })  # fmt: skip
    return rows


def make_reben(root, count=6, snow=0, bands=(*S1_BANDS, *S2_BANDS), maps=True, seed=0):
    """Write patches as they are released, with both tables; returns the rows."""
    root.mkdir(parents=True, exist_ok=True)
    rows = make_rows(count, snow, seed)
    draw = np.random.default_rng(seed)
    for row in rows:
        patch = PatchId.parse(row['patch_id'])
        for band in bands:
            kind, name = ('S1', row['s1_name']) if band in S1_BANDS else ('S2', row['patch_id'])
            product = S1_PRODUCT if kind == 'S1' else PRODUCT
            folder = root / f'BigEarthNet-{kind}' / product / name
            write_band(folder / f'{name}_{band}.tif', band, patch, draw)
        if maps:
            folder = root / 'Reference_Maps' / PRODUCT / row['patch_id']
            codes = draw.choice([112, 211, 231, 312, 131, 999], (120, 120)).astype(np.uint16)
            write_tiff(folder / f'{patch.map_name}.tif', codes, patch, compress='deflate', predictor=2)
    clean = [row for row in rows if not row['contains_seasonal_snow']]
    write_table(root / 'metadata.parquet', clean)
    snowy = [row for row in rows if row['contains_seasonal_snow']]
    write_table(root / 'metadata_for_patches_with_snow_cloud_or_shadow.parquet', snowy, like=clean)
    return rows


def write_band(path, band, patch, draw):
    side, dtype = native_form(band)
    if band in S1_BANDS:
        pixels = draw.normal(-15, 5, (side, side))
    else:
        pixels = draw.integers(1, 4000) + draw.integers(0, 500, (side, side))
    write_tiff(path, pixels.astype(dtype), patch)


def write_tiff(path, pixels, patch, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    options = {'blockysize': height, 'crs': f'EPSG:{patch.epsg}'} | options
    with rasterio.open(
        path, 'w', driver='GTiff', count=1, height=height, width=width, dtype=pixels.dtype,
        transform=patch.transform(1200 / width), **options,
    ) as file:  # fmt: skip
        file.write(pixels, 1)


def write_table(path, rows, like=None):
    schema = pa.Table.from_pylist(like or rows).schema
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
