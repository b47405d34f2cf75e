"""Why nothing of a scene was classified."""

from geores.inference.prepared import PreparedScene
from geores.inference.reader import GridReader
from geores.inference.units import sample_tiles

__all__ = ['blank_note']

SIDE = 8
"""Tiles along each axis that are looked at."""
SHOWN = 3


def blank_note(prepared: PreparedScene, valid_share: float, min_valid: float) -> str | None:
    """Say why, where nothing was classified; None where something was.

    Args:
        prepared: The scene that was worked through.
        valid_share: Share of it that was classified.
        min_valid: Share of a tile's pixels that had to be valid.
    """
    if valid_share > 0:
        return None
    empty = [names for names in _sources(prepared) if _is_empty(prepared, names)]
    if empty:
        bands = prepared.scene.band
        said = [f'{", ".join(names)} in {bands(names[0]).raster.path}' for names in empty]
        more = [f'{len(said) - SHOWN} more'] if len(said) > SHOWN else []
        listed = ' and '.join(said[:SHOWN] + more)
        return f'nothing was classified: a sample has no valid pixel of {listed}'
    if prepared.card.task == 'segmentation':
        return (
            'nothing was classified: no pixel is valid in every band; nodata, a mask and what lies outside '
            'an area of interest are not'
        )
    return (
        f'nothing was classified: in no tile {min_valid:.0%} of the pixels are valid (min_valid) '
        'in every band; nodata, a mask and what lies outside an area of interest are not'
    )


def _sources(prepared: PreparedScene) -> list[list[str]]:
    """The model's bands, those of one raster together."""
    groups: dict[int, list[str]] = {}
    for name in prepared.card.bands:
        groups.setdefault(id(prepared.scene.band(name).raster), []).append(name)
    return list(groups.values())


def _is_empty(prepared: PreparedScene, names: list[str]) -> bool:
    """Whether a sample of these bands alone, without mask and area, has no valid pixel."""
    layout = prepared.layout
    reader = GridReader(prepared.scene, names, layout.target.grid, resampling=prepared.card.resampling)
    _, valid = sample_tiles(reader, layout.samples, side=SIDE, strict=False)
    return not valid.any()
