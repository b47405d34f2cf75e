"""Mean and standard deviation of each band over the official training part."""

from collections.abc import Sequence
from typing import Literal

from geores.errors import UsageError

__all__ = ['Interpolation', 'official_statistics']

Interpolation = Literal['nearest', 'bilinear', 'native']

# Those of the published models (ConfigILM, BENv2_utils, '120_nearest' and 'no_interpolation'): patches
# brought to 120 x 120 pixels by repeating. Sentinel-1: decibels, over BigEarthNet v1.
_NEAREST = {
    'B01': (361.0767822265625, 575.0687255859375),
    'B02': (438.3720703125, 607.02685546875),
    'B03': (614.0556640625, 603.2968139648438),
    'B04': (588.4096069335938, 684.56884765625),
    'B05': (942.8433227539062, 738.4326782226562),
    'B06': (1769.931640625, 1100.4560546875),
    'B07': (2049.551513671875, 1275.805419921875),
    'B08': (2193.2919921875, 1369.3717041015625),
    'B8A': (2235.556640625, 1356.5440673828125),
    'B09': (2241.455322265625, 1316.393310546875),
    'B11': (1568.226806640625, 1070.1612548828125),
    'B12': (997.7324829101562, 813.5276489257812),
    'VV': (-12.643863677978516, 5.133493900299072),
    'VH': (-19.352558135986328, 5.590505599975586),
}
# '120_bilinear', where it differs: bands of 20 and 60 m.
_BILINEAR = {
    'B01': (360.64678955, 563.17340088),
    'B05': (942.74768066, 727.57843018),
    'B06': (1769.84863281, 1087.42883301),
    'B07': (2049.47583008, 1261.43029785),
    'B8A': (2235.48681641, 1342.49047852),
    'B09': (2241.10595703, 1294.35546875),
    'B11': (1568.21154785, 1063.91979980),
    'B12': (997.71508789, 806.88464355),
}


def official_statistics(
    bands: Sequence[str], interpolation: Interpolation = 'nearest'
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of bands, in digital numbers (Sentinel-2) and dB (Sentinel-1).

    Args:
        bands: Names as in BigEarthNet.
        interpolation: How coarser bands are brought to 10 m.

    Raises:
        UsageError: A band or the interpolation is unknown.
    """
    if interpolation not in {'nearest', 'bilinear', 'native'}:
        raise UsageError(f'no statistics of interpolation {interpolation!r}')
    table = _NEAREST | (_BILINEAR if interpolation == 'bilinear' else {})
    unknown = [band for band in bands if band not in table]
    if unknown:
        raise UsageError(f'no statistics of band {unknown[0]!r}; known are {", ".join(table)}')
    return [table[band][0] for band in bands], [table[band][1] for band in bands]
