"""The input files of a dataset, by name and checksum."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geores.errors import ReadError, UsageError
from geores.osm import load_mapping
from geores.question_sets.layout import TileLayout
from geores.question_sets.options import MakeOptions
from geores.scenes import open_scene
from geores.scenes.gdal import is_remote

__all__ = ['Inputs', 'describe_inputs']

CHUNK = 2**20


@dataclass(frozen=True)
class Inputs:
    """Input files by role, each with its name and sha256 (for remote files a digest of the header)."""

    scenes: list[dict[str, str]]
    osm: list[dict[str, str]]
    mapping: dict[str, str]
    mask: list[dict[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values without folders, so that they are equal on every machine."""
        return {'scenes': self.scenes, 'osm': self.osm, 'mapping': self.mapping, 'mask': self.mask}

    def key(self, options: MakeOptions, layouts: Sequence[TileLayout]) -> dict[str, Any]:
        """Everything that decides the files of the tiles: the key of the journal."""
        return {
            **self.to_dict(),
            'options': options.deciding(),
            'grids': [[str(one.grid.crs), list(one.grid.affine)[:6], list(one.shape)] for one in layouts],
            'units': [
                {name: asdict(conversion) for name, conversion in one.conversions.items()} for one in layouts
            ],
            'geores-version': version('geores'),
        }


def describe_inputs(scenes: Sequence[str], osm: Sequence[str], options: MakeOptions) -> Inputs:
    """Compute the checksums of all inputs.

    Raises:
        UsageError: if there are no inputs, or one is missing.
        ReadError: if an input cannot be read.
    """
    if not scenes:
        raise UsageError('no scene given: name at least one raster')
    if not osm:
        raise UsageError('no OpenStreetMap file given: name at least one with --osm')
    mapping = load_mapping(options.mapping)
    rasters = []
    for scene in scenes:
        with open_scene(scene, bands=options.bands, allow_vrt=options.allow_vrt) as opened:
            rasters += [
                _digest(raster.path, raster.fingerprint if is_remote(raster.path) else None)
                for raster in opened.rasters
            ]
    return Inputs(
        rasters,
        [_digest(path) for path in osm],
        {'name': mapping.name, 'sha256': mapping.digest},
        [] if options.mask is None else [_digest(options.mask)],
    )


def _digest(path: str, known: str | None = None) -> dict[str, str]:
    name = Path(path).name
    if known is not None:
        return {'name': name, 'fingerprint': known}
    digest = hashlib.sha256()
    try:
        with Path(path).open('rb') as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except FileNotFoundError as error:
        raise UsageError(f'{path} is not there') from error
    except OSError as error:
        raise ReadError(f'{path} cannot be read: {error.strerror}') from error
    return {'name': name, 'sha256': digest.hexdigest()}
