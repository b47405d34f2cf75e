"""Small rasters and Sentinel-2 products that the tests of scenes write for themselves."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

SHARED = Path(__file__).resolve().parents[2] / 'shared'

L2A = 'S2A_MSIL2A_20230601T102021_N0509_R065_T33UUU_20230601T160000'
L1C = 'S2A_MSIL1C_20230601T102021_N0509_R065_T33UUU_20230601T120000'
GRANULE = {'L1C': 'L1C_T33UUU_A041480_20230601T102021', 'L2A': 'L2A_T33UUU_A041480_20230601T102021'}
TILE = 'T33UUU_20230601T102021'


def pixels(count=1, height=40, width=50, dtype='uint16', seed=0, low=1, high=250):
    """Make values that differ from pixel to pixel."""
    values = np.random.default_rng(seed).integers(low, high, (count, height, width))
    return values.astype(dtype)


def write_tiff(path, values, *, crs='EPSG:32633', resolution=10.0, descriptions=None, **options):
    """Write a GeoTIFF of values (bands, rows, cols)."""
    count, height, width = values.shape
    profile = {
        'driver': 'GTiff',
        'crs': crs,
        'transform': from_origin(300000, 5800000, resolution, resolution) if crs else None,
    } | options
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)  # as some of them are meant to be
        with rasterio.open(
            path, 'w', count=count, height=height, width=width, dtype=values.dtype, **profile
        ) as dataset:
            dataset.write(values)
            if descriptions:
                dataset.descriptions = descriptions
    return path


def write_jp2(path, values, *, resolution=10.0):
    """Write a lossless JPEG 2000 file with blocks of 64 pixels."""
    return write_tiff(
        path,
        values,
        resolution=resolution,
        driver='JP2OpenJPEG',
        QUALITY='100',
        REVERSIBLE='YES',
        blockxsize=64,
        blockysize=64,
    )


def metadata(level, *, offset=-1000, quantification=10000, product=None, head=''):
    """Write what matters of MTD_MSIL1C.xml or MTD_MSIL2A.xml."""
    radio, boa = ('RADIO', '') if level == 'L1C' else ('BOA', 'BOA_')
    offsets = ''.join(
        f'<{radio}_ADD_OFFSET band_id="{band}">{offset}</{radio}_ADD_OFFSET>' for band in range(13)
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        f'<n1:Level_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User.xsd">'
        f'<Product_Info><PRODUCT_URI>{product or (L1C if level == "L1C" else L2A)}.SAFE</PRODUCT_URI>'
        f'<DATATAKE_SENSING_START>2023-06-01T10:20:21.024Z</DATATAKE_SENSING_START></Product_Info>'
        f'<{boa}QUANTIFICATION_VALUE unit="none">{quantification}</{boa}QUANTIFICATION_VALUE>'
        f'<{radio}_ADD_OFFSET_VALUES_LIST>{offsets}</{radio}_ADD_OFFSET_VALUES_LIST>'
        f'</n1:Level_User_Product>'
    )


def write_safe(folder, level='L1C', *, xml=None):
    """Write a product of three bands and a picture; in L2A, B02 exists at 10 and at 20 m."""
    root = folder / f'{L1C if level == "L1C" else L2A}.SAFE'
    images = root / 'GRANULE' / GRANULE[level] / 'IMG_DATA'
    sizes = {'B02': 10, 'B8A': 20, 'B01': 60}
    for seed, (band, metres) in enumerate(sizes.items()):
        side = 960 // metres
        values = pixels(1, side, side, seed=seed, low=1000, high=9000)
        if level == 'L1C':
            write_jp2(images / f'{TILE}_{band}.jp2', values, resolution=metres)
            continue
        write_jp2(images / f'R{metres}m' / f'{TILE}_{band}_{metres}m.jp2', values, resolution=metres)
    picture = images if level == 'L1C' else images / 'R10m'
    tail = '' if level == 'L1C' else '_10m'
    write_jp2(picture / f'{TILE}_TCI{tail}.jp2', pixels(3, 96, 96, 'uint8'))
    if level == 'L2A':
        coarse = images / 'R20m'
        write_jp2(coarse / f'{TILE}_B02_20m.jp2', pixels(1, 48, 48), resolution=20)
        write_jp2(coarse / f'{TILE}_SCL_20m.jp2', pixels(1, 48, 48, 'uint8', high=11), resolution=20)
    if xml is not None:
        (root / f'MTD_MSI{level}.xml').write_text(xml)
    return root
