"""Why nothing of a scene was classified."""

from typing import TYPE_CHECKING

import numpy as np

from geores.inference.reader import GridReader
from geores.inference.units import sample_tiles

if TYPE_CHECKING:
    from geores.pipelines.job import Job
    from geores.pipelines.scored import Scored

__all__ = ['blank_note']

SIDE = 8
"""Tiles along each axis that are looked at."""
SHOWN = 3


def blank_note(job: 'Job', result: 'Scored') -> str | None:
    """Say why, where not one tile was classified; None where one was.

    Args:
        job: That was run.
        result: What came of it.
    """
    scores = (result.table.read('scores', rows, cols) for rows, cols in result.blocks())
    if not all(np.isnan(block[..., 0]).all() for block in scores):
        return None
    empty = [names for names in _sources(job) if _is_empty(job, names)]
    if empty:
        said = [f'{", ".join(names)} in {job.scene.band(names[0]).raster.path}' for names in empty]
        more = [f'{len(said) - SHOWN} more'] if len(said) > SHOWN else []
        return f'nothing was classified: a sample has no valid pixel of {" and ".join(said[:SHOWN] + more)}'
    return (
        f'nothing was classified: in no tile {job.options.min_valid:.0%} of the pixels are valid (min_valid) '
        'in every band; nodata, a mask and what lies outside an area of interest are not'
    )


def _sources(job: 'Job') -> list[list[str]]:
    """The model's bands, those of one raster together."""
    groups: dict[int, list[str]] = {}
    for name in job.predictor.model.card.bands:
        groups.setdefault(id(job.scene.band(name).raster), []).append(name)
    return list(groups.values())


def _is_empty(job: 'Job', names: list[str]) -> bool:
    """Whether a sample of these bands alone, without mask and area, has no valid pixel."""
    resampling = job.predictor.model.card.resampling
    reader = GridReader(job.scene, names, job.target.grid, resampling=resampling)
    _, valid = sample_tiles(reader, job.plan, side=SIDE, strict=False)
    return not valid.any()
