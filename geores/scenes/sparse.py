"""Blocks that a GeoTIFF declares but does not hold, as where its writer was stopped."""

import numpy as np
from rasterio import DatasetReader
from rasterio.windows import Window

__all__ = ['held_pixels']


def held_pixels(dataset: DatasetReader, index: int, window: Window, values: np.ndarray) -> np.ndarray | None:
    """Find the pixels of a GeoTIFF's band that are in the file; GDAL reads zeros for all others.

    Args:
        dataset: The file.
        index: 1-based index of a band without nodata.
        window: Which was read.
        values: What was read (rows, cols).

    Returns:
        True where the file holds a pixel (rows, cols), or None when it holds all.
    """
    height, width = dataset.block_shapes[index - 1]
    tops, bottoms = _blocks(int(window.row_off), values.shape[0], height)
    lefts, rights = _blocks(int(window.col_off), values.shape[1], width)
    held = None
    # Only a block of nothing but zeros is asked for: asking costs more than looking.
    for row, col in np.argwhere(values[np.ix_(tops, lefts)] == 0):
        top, left = tops[row], lefts[col]
        bottom, right = bottoms[row], rights[col]
        if values[top:bottom, left:right].any():
            continue
        block = f'{(window.col_off + left) // width}_{(window.row_off + top) // height}'
        if dataset.get_tag_item(f'BLOCK_OFFSET_{block}', 'TIFF', bidx=index) is None:
            held = np.ones(values.shape, bool) if held is None else held
            held[top:bottom, left:right] = False
    return held


def _blocks(offset: int, length: int, step: int) -> tuple[list[int], list[int]]:
    """Where blocks start and end within a window, the first and last of them cut by its edges."""
    edges = [0, *range(step - offset % step, length, step), length]
    return (edges[:-1], edges[1:]) if length else ([], [])
