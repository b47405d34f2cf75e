"""A sample of a map, and the files that hold it."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd

from geores.errors import UsageError
from geores.io.whole_files import check_free, whole_files
from geores.pipelines.accuracy.design import Design, side_file

__all__ = ['Sample', 'check_sample']

LAYER = 'sample'


@dataclass(frozen=True)
class Sample:
    """A sample and how it was drawn.

    Attributes:
        points: columns ``id``, ``stratum``, ``map_class``, ``x``, ``y``, an empty ``reference`` to be
            filled in, and ``geometry``; in random order, so that the order tells nothing of the map.
        design: strata, areas and options.
    """

    points: gpd.GeoDataFrame
    design: Design

    def save(self, path: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write the points as a GeoPackage, and the design in a JSON file of the same name.

        Args:
            path: of the GeoPackage.
            overwrite: replace what is there, labels included.

        Returns:
            Paths under ``sample`` and ``design``.

        Raises:
            OutputError: a file of that name exists, or cannot be written there.
            WriteError: writing failed, as on a full disk; no file is left half written.
        """
        points, design = check_sample(path, overwrite=overwrite)
        with whole_files([points, design]) as (partial, record):
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', "'crs' was not provided")
                self.points.to_file(partial, driver='GPKG', layer=LAYER, engine='pyogrio')
            record.write_text(json.dumps(self.design.to_dict(), indent=1) + '\n')
        return {'sample': points, 'design': design}


def check_sample(path: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Paths of a sample's points and design; `OutputError` or `UsageError` where they cannot be written."""
    points = Path(path)
    if points.suffix.lower() != '.gpkg':
        raise UsageError(f'{points} must end in .gpkg: a sample is a GeoPackage')
    paths = (points, side_file(points))
    check_free(list(paths), overwrite=overwrite)
    return paths
