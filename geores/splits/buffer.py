"""A strip of ground between parts, in which nothing is used."""

import numpy as np
from numpy.typing import NDArray

from geores.errors import DatasetError
from geores.splits.ground import Lonlat, near
from geores.splits.parts import LEFT_OUT, PARTS

__all__ = ['check_buffer', 'keep_apart']

_GUARDED = (PARTS.index('test'), PARTS.index('validation'), PARTS.index('train'))


def keep_apart(places: Lonlat, codes: NDArray[np.int8], buffer: float) -> NDArray[np.int8]:
    """Drop rows whose middle is nearer than a buffer to one of another part.

    Test rows all stay. Validation rows near a test row are dropped, then training rows near a test row or
    near a validation row that stayed. A pair exactly as far apart as the buffer stays.

    Args:
        places: (N, 2) longitudes and latitudes.
        codes: (N,): part of each row, -1 for none.
        buffer: metres along the ellipsoid between the middles of rows.

    Returns:
        (N,): as before, and -1 for rows that are dropped.

    Raises:
        DatasetError: the buffer is no length, or leaves a part without rows.
    """
    check_buffer(buffer)
    kept = codes.copy()
    if buffer == 0:
        return kept
    for rank, part in enumerate(_GUARDED[1:], start=1):
        mine = np.flatnonzero(kept == part)
        others = np.isin(kept, _GUARDED[:rank])
        kept[mine[near(places[mine], places[others], buffer)]] = LEFT_OUT
    left = {name: int((kept == part).sum()) for part, name in enumerate(PARTS) if (codes == part).any()}
    if not all(left.values()):
        told = ', '.join(f'{count:,} {name}' for name, count in left.items())
        raise DatasetError(
            f'a buffer of {buffer:g} m leaves a part without rows: {told} would remain of {len(codes):,}; '
            'choose a smaller buffer or larger blocks'
        )
    return kept


def check_buffer(buffer: float) -> None:
    """Refuse a buffer that is no length.

    Args:
        buffer: metres.

    Raises:
        DatasetError: it is below 0 or no number.
    """
    if not 0 <= buffer < np.inf:
        raise DatasetError(f'buffer has to be 0 metres or more, not {buffer}')
