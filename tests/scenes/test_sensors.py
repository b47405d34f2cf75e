"""What products of every sensor are taken to be, by which evidence, and what is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.enums import ColorInterp

from geores import load_model
from geores.classification.scored import check_bands
from geores.errors import BandError, SceneError, UsageError
from geores.scenes import describe, open_scene
from geores.scenes.bands import spell
from geores.scenes.offset import checked_offset, settle_offset
from geores.scenes.sensors import SENSORS, parse_sensor

from ..scene_fixtures import L1C, L2A, metadata, pixels, write_safe, write_tiff

pytestmark = pytest.mark.filterwarnings('ignore:Use `@` matmul:PendingDeprecationWarning')

MSI = ['B01', 'B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B09', 'B10', 'B11', 'B12']
TEN = [band for band in MSI if band not in {'B01', 'B09', 'B10'}]
SIX = ['blue', 'green', 'red', 'nir08', 'swir16', 'swir22']
RGB = ['red', 'green', 'blue']
SIZE = 240


def dark(count=1, low=60, high=3000, dtype='uint16', seed=0):
    """Digital numbers without the offset."""
    return pixels(count, SIZE, SIZE, dtype, seed, low, high)


def lifted(count=1, dtype='uint16'):
    """Digital numbers with the offset of 1,000 still in them."""
    return dark(count, 1010, 4000, dtype)


def bright(count=1, dtype='uint16'):
    """Snow or sand: digital numbers that show nothing."""
    return dark(count, 4000, 7000, dtype)


def stack(folder, name, values, bands=None, *, resolution=10.0, colors=None, scales=None, tags=None, **more):
    path = write_tiff(folder / f'{name}.tif', values, resolution=resolution, descriptions=bands, **more)
    with rasterio.open(path, 'r+') as file:
        if colors:
            file.colorinterp = tuple(ColorInterp[color] for color in colors)
        if scales:
            file.scales = (scales,) * file.count
        file.update_tags(**(tags or {}))
    return path


def folder_of(folder, name, bands, values=dark, *, resolution=30.0, **more):
    """A folder with a file for each band, `name` before the band's."""
    for seed, band in enumerate(bands):
        write_tiff(
            folder / name / f'{name}_{band}.tif', values(1)[:, :40, :50] + seed, resolution=resolution, **more
        )
    return folder / name


def named(folder, name, values=dark):
    """A folder of B02 and others, as long as what is looked at."""
    for band in ('B02', 'B04', 'B11'):
        write_tiff(folder / name / f'{band}.tif', values())
    return folder / name


def cube(values, bands=TEN, date='2023-02-16', dtype='uint16', size=SIZE, resolution=10.0, **attrs):
    """As odc-stac gives it: a variable for each band, and the time."""
    array = values.astype(dtype)[:size, :size]
    coords = {
        'time': np.array([date], 'datetime64[ns]'),
        'y': 5.8e6 - resolution * (np.arange(size) + 0.5),
        'x': 6e5 + resolution * (np.arange(size) + 0.5),
    }
    variables = {band: (('time', 'y', 'x'), array[None], {'nodata': 0}) for band in bands}
    return xr.Dataset(variables, coords=coords, attrs=attrs).rio.write_crs('EPSG:32633')


def mtl(folder, text):
    (folder / f'{folder.name}_MTL.txt').write_text(text)
    return folder


OLI = """GROUP = LANDSAT_METADATA_FILE
  GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
    REFLECTANCE_MULT_BAND_4 = 2.75e-05
    REFLECTANCE_ADD_BAND_4 = -0.200000
  END_GROUP = LEVEL2_SURFACE_REFLECTANCE_PARAMETERS
  GROUP = LEVEL1_RADIOMETRIC_RESCALING
    REFLECTANCE_MULT_BAND_4 = 2.0000E-05
    REFLECTANCE_ADD_BAND_4 = -0.100000
  END_GROUP = LEVEL1_RADIOMETRIC_RESCALING
"""
ETM = """GROUP = LANDSAT_METADATA_FILE
  SUN_ELEVATION = 30.00000000
  REFLECTANCE_MULT_BAND_3 = 1.0000E-03
  REFLECTANCE_ADD_BAND_3 = -0.010000
"""
PLANET_XML = (
    '<ps:EarthObservation xmlns:ps="p">'
    + ''.join(
        f'<ps:bandSpecificMetadata><ps:bandNumber>{n}</ps:bandNumber>'
        f'<ps:reflectanceCoefficient>{n}e-5</ps:reflectanceCoefficient></ps:bandSpecificMetadata>'
        for n in range(1, 5)
    )
    + '</ps:EarthObservation>'
)
PS = '20230601_101112_55_2474_3B_AnalyticMS'
HLS_S = 'HLS.S30.T33UUU.2023047T100000.v2.0'
HLS_L = 'HLS.L30.T33UUU.2023047T100000.v2.0'
LANDSAT = 'LC09_L2SP_193023_20230310_20230312_02_T1'


def planet_radiance(folder):
    path = stack(folder / 'ps', PS, dark(4), resolution=3.0, photometric='MINISBLACK')
    (folder / 'ps' / f'{PS}_metadata.xml').write_text(PLANET_XML)
    write_tiff(folder / 'ps' / f'{PS[:27]}_udm2.tif', pixels(8, dtype='uint8'))
    return path.parent


def with_item(folder, **properties):
    import json

    item = {'type': 'Feature', 'id': 'x', 'properties': properties}
    (folder / 'item.json').write_text(json.dumps(item))
    return folder


class Layout(NamedTuple):
    """How files are made, and what is decided of them: of the first band its units, scale and offset."""

    make: Callable[[Path], Path]
    sensor: str | None = None
    level: str | None = None
    bands: list[str] | None = None
    units: str | None = None
    offset: float | None = None
    scale: float | None = None
    evidence: str = ''
    """A word that the evidence holds."""


LAYOUTS = {
    'SAFE, L1C, baseline in its name': Layout(
        lambda f: write_safe(f, 'L1C'),
        sensor='Sentinel-2',
        level='L1C',
        bands=['B01', 'B02', 'B8A'],
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence=L1C[:20],
    ),
    'SAFE, L2A, metadata': Layout(
        lambda f: write_safe(f, 'L2A', xml=metadata('L2A', offset=-1000)),
        sensor='Sentinel-2',
        level='L2A',
        bands=['B01', 'B02', 'B8A'],
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='MTD_MSIL2A',
    ),
    'baseline before 04.00': Layout(
        lambda f: named(f, L2A.replace('N0509', 'N0301')),
        sensor='Sentinel-2',
        level='L2A',
        bands=['B02', 'B04', 'B11'],
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='name',
    ),
    'Collection 1: of 2017, baseline 05.00': Layout(
        lambda f: named(f, 'S2A_MSIL2A_20170613T101031_N0500_R022_T33UUP_20230901T160000', lifted),
        sensor='Sentinel-2',
        level='L2A',
        bands=['B02', 'B04', 'B11'],
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='name',
    ),
    'Planetary Computer, files of a granule': Layout(
        lambda f: folder_of(
            f, 'T33UUU_20230216T102101', ['B02_10m', 'B04_10m', 'B11_20m'], lifted, resolution=10
        ),
        sensor='Sentinel-2',
        level='L2A',
        bands=['B02', 'B04', 'B11'],
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='T33UUU_20230216',
    ),
    'Planetary Computer, id without baseline, processed in 2023': Layout(
        lambda f: named(f, 'S2A_MSIL2A_20180613T101031_R022_T33UUP_20230901T160000'),
        sensor='Sentinel-2',
        level='L2A',
        bands=['B02', 'B04', 'B11'],
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='name',
    ),
    'Planetary Computer, attributes': Layout(
        lambda f: cube(
            lifted()[0], date='2021-02-16', **{'s2:processing_baseline': '05.00', 'platform': 'Sentinel-2A'}
        ),
        sensor='Sentinel-2',
        bands=TEN,
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='platform',
    ),
    'Earth Search, offset out': Layout(
        lambda f: named(f, 'S2A_33UUU_20230216_0_L2A'),
        sensor='Sentinel-2',
        level='L2A',
        bands=['B02', 'B04', 'B11'],
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='S2A_33UUU_20230216_0_L2A',
    ),
    'Earth Search, offset in': Layout(
        lambda f: named(f, 'S2A_33UUU_20230216_0_L2A', lifted),
        sensor='Sentinel-2',
        level='L2A',
        bands=['B02', 'B04', 'B11'],
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='S2A_33UUU',
    ),
    'Earth Search, flag of the item beside': Layout(
        lambda f: with_item(
            named(f, 'S2A_33UUU_20230216_0_L2A', bright), **{'earthsearch:boa_offset_applied': True}
        ),
        sensor='Sentinel-2',
        level='L2A',
        bands=['B02', 'B04', 'B11'],
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='name',
    ),
    'Earth Search, flag in attributes': Layout(
        lambda f: cube(bright()[0], **{'earthsearch:boa_offset_applied': 'True'}),
        sensor='Sentinel-2',
        bands=TEN,
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='only',
    ),
    'harmonised mosaic that kept tile and date': Layout(
        lambda f: stack(f, 'T33UUU_20230216T102101_harmonized', dark(10, 300, 900), TEN),
        sensor='Sentinel-2',
        bands=TEN,
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='name',
    ),
    'harmonised without a word, name of baseline 05.09': Layout(
        lambda f: stack(f, L2A, dark(10), TEN),
        sensor='Sentinel-2',
        level='L2A',
        bands=TEN,
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='name',
    ),
    'Earth Engine, sensed 2023': Layout(
        lambda f: stack(f, '20230216T102101_20230217T102058_T33UUU', lifted(4), ['B2', 'B3', 'B4', 'B8']),
        sensor='Sentinel-2',
        bands=['B02', 'B03', 'B04', 'B08'],
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='name',
    ),
    'Earth Engine, sensed 2018 and processed 2023': Layout(
        lambda f: stack(f, '20180216T102101_20230217T102058_T33UUU', dark(4), ['B2', 'B3', 'B4', 'B8']),
        sensor='Sentinel-2',
        bands=['B02', 'B03', 'B04', 'B08'],
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='name',
    ),
    'stack without a name, offset out': Layout(
        lambda f: stack(f, 'stack', dark(10), TEN),
        sensor='Sentinel-2',
        bands=TEN,
        units='reflectance',
        offset=0,
        scale=1e-4,
        evidence='only',
    ),
    'stack without a name, offset in': Layout(
        lambda f: stack(f, 'stack', lifted(10), TEN),
        sensor='Sentinel-2',
        bands=TEN,
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='only',
    ),
    'odc-stac of 2023': Layout(
        lambda f: cube(bright()[0], ['blue', 'red', 'rededge1', 'nir', 'swir16']),
        sensor='Sentinel-2',
        bands=['blue', 'red', 'rededge1', 'nir', 'swir16'],
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='rededge1',
    ),
    'float32 of baseline 05.09': Layout(
        lambda f: stack(f, L2A, bright(10, 'float32'), TEN),
        sensor='Sentinel-2',
        level='L2A',
        bands=TEN,
        units='reflectance',
        offset=-1000,
        scale=1e-4,
        evidence='name',
    ),
    'HLS S30': Layout(
        lambda f: folder_of(f, HLS_S, MSI, lambda n: dark(n, 500, 2500, 'int16'), nodata=-9999),
        sensor='HLS S30',
        level='surface reflectance',
        bands=MSI,
        units='reflectance',
        scale=1e-4,
        evidence='HLS.S30',
    ),
    'HLS S30, a stack without a name': Layout(
        lambda f: stack(f, 'stack', dark(13, 500, 2500, 'int16'), MSI, resolution=30.0, nodata=-9999),
        sensor='HLS S30',
        level='surface reflectance',
        bands=MSI,
        units='reflectance',
        scale=1e-4,
        evidence='HLS S30',
    ),
    'HLS L30': Layout(
        lambda f: folder_of(f, HLS_L, [f'B{n:02d}' for n in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11)], nodata=0),
        sensor='HLS L30',
        level='surface reflectance',
        bands=['coastal', *SIX, 'cirrus', 'lwir11', 'lwir12'],
        units='reflectance',
        scale=1e-4,
        evidence='HLS.L30',
    ),
    'Landsat 9, level 2': Layout(
        lambda f: mtl(folder_of(f, LANDSAT, ['SR_B2', 'SR_B3', 'SR_B4', 'SR_B5', 'ST_B10', 'QA_PIXEL']), OLI),
        sensor='Landsat 9',
        level='L2',
        bands=['blue', 'green', 'red', 'nir08', 'lwir11'],
        units='reflectance',
        scale=2.75e-5,
        evidence=LANDSAT[:9],
    ),
    'Landsat 8, level 1': Layout(
        lambda f: folder_of(f, 'LC08_L1TP_193023_20230310_20230312_02_T1', [f'B{n}' for n in range(1, 12)]),
        sensor='Landsat 8',
        level='L1',
        bands=['coastal', *SIX, 'pan', 'cirrus', 'lwir11', 'lwir12'],
        units='reflectance',
        scale=2e-5,
        evidence='LC08',
    ),
    'Landsat 5 of Earth Engine, level 2': Layout(
        lambda f: stack(
            f, 'LT05_192023_20100510', dark(6), [f'SR_B{n}' for n in (1, 2, 3, 4, 5, 7)], resolution=30.0
        ),
        sensor='Landsat 5',
        level='L2',
        bands=SIX,
        units='reflectance',
        scale=2.75e-5,
        evidence='LT05',
    ),
    'Landsat 5, level 2': Layout(
        lambda f: folder_of(
            f, 'LT05_L2SP_192023_20100510_20200823_02_T1', ['SR_B1', 'SR_B2', 'SR_B3', 'ST_B6']
        ),
        sensor='Landsat 5',
        level='L2',
        bands=['blue', 'green', 'red', 'lwir'],
        units='reflectance',
        scale=2.75e-5,
        evidence='LT05',
    ),
    'Landsat 7, level 1, sun at 30 degrees': Layout(
        lambda f: mtl(
            folder_of(f, 'LE07_L1TP_192023_20100510_20200823_02_T1', ['B3', 'B6_VCID_1', 'B8']), ETM
        ),
        sensor='Landsat 7',
        level='L1',
        bands=['red', 'pan', 'lwir'],
        units='reflectance',
        scale=2e-3,
        evidence='MTL',
    ),
    'Landsat 9 of Earth Engine': Layout(
        lambda f: stack(
            f, 'LC09_193023_20230310', dark(4), ['SR_B4', 'SR_B3', 'SR_B2', 'SR_B6'], resolution=30.0
        ),
        sensor='Landsat 9',
        level='L2',
        bands=['red', 'green', 'blue', 'swir16'],
        units='reflectance',
        scale=2.75e-5,
        evidence='LC09',
    ),
    'Landsat stack called Blue to SWIR2': Layout(
        lambda f: stack(
            f, f'{LANDSAT}_sr', dark(6), ['Blue', 'Green', 'Red', 'NIR', 'SWIR1', 'SWIR2'], resolution=30.0
        ),
        sensor='Landsat 9',
        level='L2',
        bands=['blue', 'green', 'red', 'nir', 'swir16', 'swir22'],
        units='reflectance',
        scale=2.75e-5,
        evidence='LC09',
    ),
    'Landsat 5 of Earth Engine, 8 bits': Layout(
        lambda f: stack(
            f,
            'LT05_192023_20100510',
            pixels(7, dtype='uint8'),
            [f'B{n}' for n in range(1, 8)],
            resolution=30.0,
        ),
        sensor='Landsat 5',
        bands=['blue', 'green', 'red', 'nir08', 'swir16', 'lwir', 'swir22'],
        units='8-bit',
        evidence='LT05',
    ),
    'Landsat of odc-stac': Layout(
        lambda f: cube(
            dark()[0], SIX, resolution=30.0, platform='landsat-8', **{'landsat:correction': 'L2SP'}
        ),
        sensor='Landsat 8',
        level='L2',
        bands=SIX,
        units='reflectance',
        scale=2.75e-5,
        evidence='platform',
    ),
    'PlanetScope, 4 bands': Layout(
        lambda f: stack(f, f'{PS}_SR_clip', dark(4), resolution=3.0, photometric='MINISBLACK'),
        sensor='PlanetScope',
        level='surface reflectance',
        bands=['blue', 'green', 'red', 'nir'],
        units='reflectance',
        scale=1e-4,
        evidence='PlanetScope',
    ),
    'PlanetScope, 8 bands': Layout(
        lambda f: stack(f, f'{PS}_SR_8b', dark(8), resolution=3.0, photometric='MINISBLACK'),
        sensor='PlanetScope',
        level='surface reflectance',
        bands=['coastal', 'blue', 'green_i', 'green', 'yellow', 'red', 'rededge', 'nir'],
        units='reflectance',
        scale=1e-4,
        evidence='name',
    ),
    'PlanetScope, a folder with radiance and metadata': Layout(
        planet_radiance,
        sensor='PlanetScope',
        level='top of atmosphere',
        bands=['blue', 'green', 'red', 'nir'],
        units='reflectance',
        scale=1e-5,
        evidence='name',
    ),
    'PlanetScope, visual': Layout(
        lambda f: stack(
            f,
            '20230601_101112_55_2474_3B_Visual',
            pixels(3, dtype='uint8'),
            resolution=3.0,
            photometric='RGB',
        ),
        sensor='PlanetScope',
        bands=RGB,
        units='8-bit',
        evidence='name',
    ),
    'PlanetScope by a word, four numbered bands and 3 m': Layout(
        lambda f: stack(
            f,
            'planet',
            pixels(4, dtype='uint8'),
            ['B1', 'B2', 'B3', 'B4'],
            resolution=3.0,
            photometric='MINISBLACK',
        ),
        sensor='PlanetScope',
        bands=['blue', 'green', 'red', 'nir'],
        units='8-bit',
        evidence='planet',
    ),
    'PlanetScope, exported with other colours': Layout(
        lambda f: stack(
            f,
            f'{PS}_SR',
            dark(4),
            resolution=3.0,
            photometric='MINISBLACK',
            colors=['red', 'green', 'blue', 'undefined'],
        ),
        sensor='PlanetScope',
        level='surface reflectance',
        bands=[*RGB, 'nir'],
        units='reflectance',
        scale=1e-4,
        evidence='name',
    ),
    'NAIP': Layout(
        lambda f: (
            stack(
                f / 'naip',
                'm_3807708_se_18_060_20160101',
                pixels(4, dtype='uint8'),
                resolution=0.6,
                photometric='MINISBLACK',
            ).parent
        ),
        sensor='NAIP',
        bands=[*RGB, 'nir'],
        units='8-bit',
        evidence='name',
    ),
    'ortho, photometric RGB': Layout(
        lambda f: (
            stack(f / 'ortho', 'town', pixels(3, dtype='uint8'), resolution=0.1, photometric='RGB').parent
        ),
        bands=RGB,
        units='8-bit',
    ),
    'ortho of Earth Engine, colours stated': Layout(
        lambda f: stack(
            f, 'ortho', pixels(4, dtype='uint8'), ['b1', 'b2', 'b3', 'b4'], resolution=0.6, photometric='RGB'
        ),
        bands=[*RGB, 'band4'],
        units='8-bit',
    ),
    'numbered bands, colours stated in another order': Layout(
        lambda f: stack(
            f,
            'x',
            pixels(3, dtype='uint8'),
            ['B1', 'B2', 'B3'],
            resolution=0.6,
            photometric='MINISBLACK',
            colors=['blue', 'green', 'red'],
        ),
        bands=['blue', 'green', 'red'],
        units='8-bit',
    ),
    'Band 1 (Red)': Layout(
        lambda f: stack(f, 'x', dark(3), ['Band 1 (Red)', 'Band 2 (Green)', 'Band 3 (NIR)'], resolution=0.5),
        bands=['red', 'green', 'nir'],
    ),
    'vis-red': Layout(
        lambda f: stack(
            f,
            'x',
            pixels(3, dtype='uint8'),
            ['vis-blue', 'vis-green', 'vis-red'],
            resolution=0.5,
            photometric='MINISBLACK',
        ),
        bands=['blue', 'green', 'red'],
        units='8-bit',
    ),
    'Band_1 of ArcGIS, colours stated': Layout(
        lambda f: stack(
            f,
            'x',
            pixels(3, dtype='uint8'),
            ['Band_1', 'Band_2', 'Band_3'],
            resolution=0.5,
            photometric='RGB',
        ),
        bands=RGB,
        units='8-bit',
    ),
    'wavelengths': Layout(
        lambda f: stack(f, 'x', dark(3), ['B3 (660 nm)', 'B2 (560 nm)', 'B4 (830 nm)'], resolution=30.0),
        sensor='Landsat 5',
        bands=['red', 'green', 'nir08'],
        evidence='wavelengths',
    ),
    'Sentinel-1 in dB': Layout(
        lambda f: stack(
            f,
            'S1A_IW_GRDH_1SDV_20230613T165043',
            -dark(2, dtype='float32') / 200,
            ['Sigma0_VV_db', 'Sigma0_VH_db'],
        ),
        sensor='Sentinel-1',
        bands=['VV', 'VH'],
        units='dB',
        evidence='S1A',
    ),
    'Sentinel-1, a folder of polarisations': Layout(
        lambda f: folder_of(
            f,
            'S1A_IW_20230613T165043_DVP_RTC10_G_gpuned_1234',
            ['VV', 'VH'],
            lambda n: dark(n, dtype='float32'),
            resolution=10,
        ),
        sensor='Sentinel-1',
        bands=['VV', 'VH'],
        units='dB',
        evidence='S1A',
    ),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_what_a_product_is(tmp_path, layout):
    make, sensor, level, bands, units, offset, scale, word = LAYOUTS[layout]
    scene = checked_offset(open_scene(make(tmp_path)))
    told = describe(scene)
    assert told['question'] is None
    assert (told['sensor'], told['processing_level'], told['offset']) == (sensor, level, offset)
    assert list(scene.bands) == bands
    first = scene.bands[bands[0]]
    assert first.units == units
    assert first.scale == (None if scale is None else pytest.approx(scale))
    if offset:
        assert first.offset == pytest.approx(offset * first.scale)
    assert word in ' '.join(told['evidence'])


# name: (how it is made, what the question says)
QUESTIONS = {
    'four numbered bands at 3 m': (
        lambda f: stack(f, 'x', dark(4), ['B1', 'B2', 'B3', 'B4'], resolution=3.0, photometric='MINISBLACK'),
        'B1, B2, B3, B4 are of several sensors',
    ),
    'four numbered bands at 10 m': (
        lambda f: stack(f, 'x', dark(4), ['B1', 'B2', 'B3', 'B4'], photometric='MINISBLACK'),
        'several sensors',
    ),
    'seven numbered bands at 30 m': (
        lambda f: stack(f, 'x', dark(7), [f'B{n}' for n in range(1, 8)], resolution=30.0),
        'several sensors',
    ),
    'two digits at 30 m': (
        lambda f: stack(f, 'x', dark(4), ['B02', 'B03', 'B04', 'B05'], resolution=30.0),
        'several sensors',
    ),
    'Blue to SWIR2 at 30 m': (
        lambda f: stack(f, 'x', dark(6), ['Blue', 'Green', 'Red', 'NIR', 'SWIR1', 'SWIR2'], resolution=30.0),
        'of other scales',
    ),
    'a name of Landsat and bands of Sentinel-2': (
        lambda f: stack(f, 'LC08_L2SP_193023_20230310', dark(10), TEN, resolution=30.0),
        'evidence of the sensor disagrees',
    ),
    'a name of Sentinel-2 and bands of Landsat': (
        lambda f: stack(f, L2A, dark(3), ['SR_B4', 'SR_B5', 'SR_B6'], resolution=30.0),
        'evidence of the sensor disagrees',
    ),
    'attributes that say otherwise': (
        lambda f: stack(f, LANDSAT, dark(3), ['Blue', 'Green', 'Red'], tags={'platform': 'sentinel-2b'}),
        'evidence of the sensor disagrees',
    ),
    'Sentinel-2 without a sign of its offset': (lambda f: stack(f, 'x', bright(10), TEN), '--offset none or'),
    'Earth Search, too bright to tell': (
        lambda f: named(f, 'S2A_33UUU_20230216_0_L2A', bright),
        '--offset none or',
    ),
    'harmonised, and its pixels say otherwise': (
        lambda f: stack(f, 'T33UUU_20230216T102101_harmonised', lifted(10), TEN),
        'called harmonised, but',
    ),
    'of 2018 without a baseline, and its pixels say Collection 1': (
        lambda f: named(f, 'T33UUU_20180216T102101', lifted),
        'still in the numbers',
    ),
}


@pytest.mark.parametrize('layout', QUESTIONS)
def test_what_is_asked(tmp_path, layout):
    make, words = QUESTIONS[layout]
    path = make(tmp_path)
    question = checked_offset(open_scene(path)).question
    assert words in question
    assert '\n' not in question
    if '--sensor' in question:
        scene = open_scene(path)
        assert not {'B02', 'B03', 'B04'} & set(scene.bands)
        assert scene.sensor is None
    else:
        with pytest.raises(UsageError, match='--offset'):
            settle_offset(open_scene(path))
        for said, added in (('none', 0.0), (-1000, -0.1)):
            scene = settle_offset(open_scene(path, offset=said))
            assert (scene.question, next(iter(scene.bands.values())).offset) == (None, pytest.approx(added))


@pytest.mark.parametrize(
    ('sensor', 'bands', 'level', 'scale'),
    [
        ('sentinel-2-l2a', ['B01', 'B02', 'B03', 'B04'], 'L2A', 1e-4),
        ('landsat-8-l2', ['coastal', 'blue', 'green', 'red'], 'L2', 2.75e-5),
        ('Landsat 5', ['blue', 'green', 'red', 'nir08'], None, None),
        ('planetscope-sr', ['blue', 'green', 'red', 'nir'], 'surface reflectance', 1e-4),
        ('naip', [*RGB, 'nir'], None, None),
        ('rgb', [*RGB, 'nir'], None, None),
    ],
)
def test_the_user_says_the_sensor(tmp_path, sensor, bands, level, scale):
    path = stack(tmp_path, 'x', dark(4), ['B1', 'B2', 'B3', 'B4'], resolution=3.0, photometric='MINISBLACK')
    scene = open_scene(path, sensor=sensor)
    assert (list(scene.bands), scene.processing_level, scene.question) == (bands, level, None)
    assert next(iter(scene.bands.values())).scale == scale
    assert '--sensor says so' in scene.evidence


def test_the_user_names_the_bands(tmp_path):
    path = stack(tmp_path, 'x', dark(4), ['B1', 'B2', 'B3', 'B4'], resolution=3.0, photometric='MINISBLACK')
    scene = open_scene(path, bands=['blue', 'green', 'red', 'nir'])
    assert (list(scene.bands), scene.sensor, scene.question) == (['blue', 'green', 'red', 'nir'], None, None)
    assert open_scene(path, bands=['B02', 'B03', 'B04', 'B08']).sensor == 'Sentinel-2'
    landsat = stack(tmp_path, 'LC08_L2SP_193023_20230310', dark(3), resolution=30.0)
    assert list(open_scene(landsat, bands=['B4', 'B3', 'B2']).bands) == RGB


def test_bands_of_another_sensor_are_not_found_by_sentinel2s_names(tmp_path):
    path = folder_of(tmp_path, LANDSAT, ['SR_B2', 'SR_B3', 'SR_B4', 'SR_B5'])
    scene = open_scene(path)
    assert scene.missing(['red', 'nir', 'B04', 'B08']) == ['B04', 'B08']
    with pytest.raises(BandError):
        scene.band('B02')


@pytest.mark.parametrize('text', ['sentinel-3', 'landsat-8-l2a', 'naip-sr', ''])
def test_sensors_that_there_are_not(text):
    with pytest.raises(UsageError, match='--sensor'):
        parse_sensor(text)


@pytest.mark.parametrize('name', SENSORS)
def test_every_sensor_by_name(name):
    assert parse_sensor(name.lower().replace(' ', '-')) == (name, None)


@pytest.mark.parametrize('text', ['-900', 'yes', 500])
def test_offsets_that_there_are_not(tmp_path, text):
    path = stack(tmp_path, 'x', dark(3), ['B02', 'B03', 'B04'])
    with pytest.raises(UsageError, match='--offset'):
        open_scene(path, offset=text)


@pytest.mark.parametrize(
    ('text', 'number', 'common'),
    [
        ('B04', '4', None),
        ('b8a', '8A', None),
        ('SR_B10', '10', None),
        ('OLI_B2', '2', None),
        ('Band 1 (Red)', '1', 'red'),
        ('Band_3', '3', None),
        ('vis-red', None, 'red'),
        ('Red Edge 2', None, 'rededge2'),
        ('Red (665 nm)', None, 'red'),
        ('SWIR 1', None, 'swir16'),
        ('Near Infrared', None, 'nir'),
        ('Coastal Aerosol', None, 'coastal'),
        ('green_i', None, 'green_i'),
        ('B6_VCID_1', '6_VCID_1', None),
        ('surface_reflectance_blue', None, 'blue'),
        ('NDVI', None, None),
        ('redundant', None, None),
        (None, None, None),
    ],
)
def test_spellings(text, number, common):
    assert (spell(text).number, spell(text).common) == (number, common)


def test_a_folder_of_several_images_is_refused(tmp_path):
    for name in ('a', 'b'):
        write_tiff(tmp_path / f'{name}.tif', pixels(3, dtype='uint8'))
    with pytest.raises(SceneError, match='2 images and no band files; give one'):
        open_scene(tmp_path)


def test_pixels_are_looked_at_in_windows_only(tmp_path):
    path = stack(tmp_path, 'x', dark(3), ['B02', 'B04', 'B11'])
    scene, read = open_scene(path), []
    raster = scene.band('B02').raster
    plain = raster.read
    raster.read = lambda indexes, rows, cols: read.append((rows, cols)) or plain(indexes, rows, cols)
    settle_offset(scene)
    assert 0 < len(read) <= 27
    assert all(rows.stop - rows.start <= 192 for rows, _ in read)


def test_what_dask_computes_is_looked_at_only_where_nothing_states_the_offset(tmp_path):
    source = cube(lifted()[0]).chunk({'y': 64})
    assert settle_offset(open_scene(source)).offset.value == -1000
    stated = cube(lifted()[0], **{'s2:processing_baseline': '02.09'}).chunk({'y': 64})
    assert settle_offset(open_scene(stated)).offset.value == 0
    fractions = cube(lifted()[0] / 1e4, dtype='float64', **{'s2:processing_baseline': '05.09'}).chunk(
        {'y': 64}
    )
    band = settle_offset(open_scene(fractions)).band('B04')
    assert (band.scale, band.offset) == (1.0, pytest.approx(-0.1))


def test_reflectances_that_have_lost_the_offset_already_stay():
    source = cube(dark()[0] / 1e4, dtype='float32')
    scene = settle_offset(open_scene(source))
    assert (scene.offset.value, scene.band('B04').scale) == (0, None)
    assert any('it is out already' in note for note in scene.notes)
    with pytest.raises(UsageError, match=r'0\.1 is taken off'):
        settle_offset(open_scene(cube(bright()[0] / 1e4, dtype='float32')))


def test_a_palette_is_named_where_bands_are_missed(tmp_path):
    path = stack(tmp_path, 'a', dark(1, 0, 9, 'uint8'), colors=('palette',))
    scene = open_scene(path)
    with pytest.raises(BandError, match=r'colours come from a palette.*expand rgb'):
        check_bands(scene, load_model('aerial-rgb').card)


def test_readme_of_the_table_names_every_layout():
    page = Path(__file__).resolve().parents[2] / 'docs' / 'sensors.md'
    text = page.read_text()
    for sensor in SENSORS:
        assert sensor.split()[0] in text
