"""Splits that are given: tables of ids with the part of each row, and the official split of reBEN.

Each Sentinel-2 tile is cut into three concentric squares: the outer ring trains, the middle one validates,
the inner square tests. Neighbouring tiles overlap in their outer rings only. No seed, no sampling.
Rule: migration V1_2 of the reBEN pipeline, `insert_new_tile_border_split`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from geores.card_values import SplitParameters
from geores.errors import DatasetError, OutputError
from geores.io.tables import check_keys, csv_frame, read_text_table
from geores.splits.assignment import DROPPED, PARTS, part_name, split_id
from geores.splits.buffer import lonlat
from geores.splits.stratified import Split

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    'SplitFile',
    'check_format',
    'check_suffix',
    'id_column',
    'is_patch_id',
    'read_split',
    'reben_rings',
    'reben_split',
    'write_frame',
]

_OFFICIAL = ('train', 'validation', 'test')
"""Names of the parts in the tables of the release, in the order of the rings."""

_PATTERN = r'^S2[AB]_MSIL2A_[0-9]{8}T[0-9]{6}_N9999_R[0-9]{3}_T[0-9A-Z]{5}_[0-9]{2}_[0-9]{2}$'
_TILE, _PATCH, _LAST = 109_800.0, 1200.0, 90


def reben_rings(columns: ArrayLike, rows: ArrayLike) -> NDArray[np.int8]:
    """Find the official part of patches by their position in a tile.

    Let s be the side of the tile and d the distance of the patch centre from its border. A patch trains if
    d < s (2 - √2) / 4, validates if d < s / 4, and tests otherwise. The areas are 1/2, 1/4 and 1/4.

    Args:
        columns: columns of the patches from west to east, 0 to 90.
        rows: rows of the patches from north to south, 0 to 90.

    Returns:
        Index of the part of each patch: 0 of train, 1 of val, 2 of test.
    """
    middles = np.stack([np.asarray(columns), np.asarray(rows)]) * _PATCH + _PATCH / 2
    inward = np.minimum(middles, _TILE - middles).min(axis=0)
    borders = np.array([_TILE * (2 - np.sqrt(2)) / 4, _TILE / 4])
    return np.asarray(np.searchsorted(borders, inward, side='right'), np.int8)


def reben_split(ids: Any) -> NDArray[np.object_]:  # noqa: ANN401 - anything that pyarrow takes as strings
    """Find the official part of reBEN patches.

    Args:
        ids: (N,) patch ids, such as S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57.

    Returns:
        (N,): 'train', 'validation' or 'test', as the official table says it.

    Raises:
        DatasetError: if one is no patch id; says which.
    """
    names = _strings(ids)
    fits = pc.fill_null(pc.match_substring_regex(names, _PATTERN), False)
    columns, rows = (
        pc.if_else(fits, pc.utf8_slice_codeunits(names, start, stop), '99')
        for start, stop in ((-5, -3), (-2, None))
    )
    places = [np.asarray(one.cast(pa.int8())) for one in (columns, rows)]
    bad = (places[0] > _LAST) | (places[1] > _LAST)
    if bad.any():
        raise DatasetError(
            f'{names[int(bad.argmax())].as_py()!r} is no reBEN patch id, such as '
            'S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57: give the column of patch ids'
        )
    parts: NDArray[np.object_] = np.array(_OFFICIAL, object)[reben_rings(*places)]
    return parts


def is_patch_id(ids: Any) -> bool:  # noqa: ANN401
    """Whether all names have the form of a reBEN patch id.

    Args:
        ids: (N,).
    """
    names = _strings(ids)
    return len(names) > 0 and bool(
        pc.all(pc.fill_null(pc.match_substring_regex(names, _PATTERN), False)).as_py()
    )


def _strings(ids: Any) -> pa.Array:  # noqa: ANN401
    names = pa.array(ids, from_pandas=True) if not isinstance(ids, pa.Array | pa.ChunkedArray) else ids
    if isinstance(names, pa.ChunkedArray):
        names = names.combine_chunks()
    return names.cast(pa.large_string())


_ID_COLUMNS = (
    'id',
    'patch_id',
    'osm_id',
    'tile_id',
    'image_id',
    's1_name',
    'name',
    'file',
    'filename',
    'path',
)

_DRIVERS = {'.gpkg': 'GPKG', '.geojson': 'GeoJSON'}


@dataclass(frozen=True)
class SplitFile:
    """A split that was read from a file.

    Attributes:
        parts: part of each id: 'train', 'val', 'test' or 'dropped'.
        id: id of the split: the name of the file and a hash of its content.
    """

    parts: dict[str, str]
    id: str

    def for_ids(self, ids: Sequence[str]) -> Split:
        """Look up the parts of samples by their ids.

        Ids in the file may lack the extension or the folder of the sample ids, as long as they stay unique.

        Raises:
            DatasetError: if a sample is not in the file, or none is to train on.
        """
        names = ids if self.parts.keys() >= set(ids) else _shortened(ids, self.parts)
        missing = [one for one, name in zip(ids, names, strict=True) if name not in self.parts]
        if missing:
            raise DatasetError(
                f'split {self.id}: {len(missing):,} of {len(ids):,} samples are not in the file, such as '
                f'{missing[0]!r}: its column of ids has to hold the ids of the samples'
            )
        rows: dict[str, list[int]] = {part: [] for part in (*PARTS, DROPPED)}
        for index, name in enumerate(names):
            rows[self.parts[name]].append(index)
        if not rows['train']:
            raise DatasetError(f'split {self.id}: none of {len(ids):,} samples is in train')
        method = SplitParameters(method='file')
        return Split(rows['train'], rows['val'], self.id, tuple(rows['test']), method)


def _shortened(ids: Sequence[str], known: dict[str, str]) -> list[str]:
    """Shorten ids in the first way by which the file knows all of them."""
    ways: tuple[Callable[[PurePosixPath], str], ...] = (
        lambda path: str(path.with_suffix('')),
        lambda path: path.name,
        lambda path: path.stem,
    )
    for way in ways:
        names = [way(PurePosixPath(one)) for one in ids]
        if known.keys() >= set(names) and len(set(names)) == len(names):
            return names
    return list(ids)


def id_column(frame: 'pd.DataFrame') -> str | None:
    """Find the id column of a table: the first of the usual names without gaps and repeats."""
    columns = {str(one).lower(): str(one) for one in reversed(list(frame.columns))}
    for name in _ID_COLUMNS:
        found = columns.get(name)
        if found is not None and frame[found].notna().all() and frame[found].is_unique:
            return found
    return None


def _first_id(frame: 'pd.DataFrame') -> str | None:
    """The first column of a usual name for ids, gaps and repeats or not."""
    columns = {str(one).lower(): str(one) for one in reversed(list(frame.columns))}
    return next((columns[name] for name in _ID_COLUMNS if name in columns), None)


def read_split(path: str | Path) -> SplitFile:
    """Read a table with ids and a column `split`, such as `geores split` writes.

    Raises:
        DatasetError: if it cannot be read, lacks ids or the column `split`, or holds another part.
    """
    frame = _load(Path(path))
    column = id_column(frame) or _first_id(frame)
    if 'split' not in frame.columns or column is None:
        raise DatasetError(f'{path}: a split has a column of ids (such as id) without repeats, and split')
    lines = range(2, len(frame) + 2) if Path(path).suffix.lower() == '.csv' else None  # below the headings
    for keys in ({column: frame[column]}, {column: frame[column], 'split': frame['split']}):
        check_keys(f'{path}: a split has a column of ids without gaps and repeats', keys, lines)
    names = [part_name(name) for name in frame['split'].astype(str)]
    parts = dict(zip(frame[column].astype(str), names, strict=True))
    odd = sorted(set(parts.values()) - {*PARTS, DROPPED})
    if odd:
        raise DatasetError(f'{path}: split is one of {", ".join((*PARTS, DROPPED))}, not {odd[0]!r}')
    return SplitFile(parts, split_id(Path(path).stem, list(parts), list(parts.values())))


def _load(path: Path) -> 'pd.DataFrame':
    import pandas as pd

    from geores.scenes.vectors import read_vector

    if not path.is_file():
        raise DatasetError(f'{path}: no such file of a split')
    try:
        return read_text_table(path) if path.suffix.lower() == '.csv' else pd.DataFrame(read_vector(path))
    except DatasetError:
        raise
    except Exception as error:  # whatever readers make of another file
        raise DatasetError(f'{path}: cannot be read as a split: {error}') from error


def check_format(path: Path, frame: 'pd.DataFrame') -> None:
    """Check that a table can be written to a path, before any work is done.

    Raises:
        OutputError: if the ending is unknown, or needs geometries that there are not.
    """
    check_suffix(path)
    if path.suffix in _DRIVERS and getattr(frame, 'geometry', None) is None:
        raise OutputError(f'{path}: the rows have no geometry; write .parquet or .csv')


def check_suffix(path: Path) -> None:
    """Check the extension of an output path.

    Raises:
        OutputError: if the ending is unknown.
    """
    if path.suffix not in {'.parquet', '.csv', *_DRIVERS}:
        raise OutputError(f'{path}: a split is written as .parquet, .csv, .gpkg or .geojson')


def write_frame(frame: 'pd.DataFrame', path: Path, record: str) -> None:
    """Write a table in the format of the extension; Parquet also stores a record of how it was made.

    Args:
        frame: table, with or without geometries.
        path: .parquet, .csv, .gpkg or .geojson.
        record: JSON on how the table was made, for the metadata of Parquet.
    """
    if path.suffix == '.csv':
        csv_frame(_located(_flat(frame))).to_csv(path, index=False)
    elif path.suffix in _DRIVERS:
        _flat(frame).to_file(path, driver=_DRIVERS[path.suffix], layer='split')  # type: ignore[operator]
    else:
        _write_parquet(frame, path, record)


def _flat(frame: 'pd.DataFrame') -> 'pd.DataFrame':
    """Turn lists into JSON text, which `read_source` parses: these formats have no lists."""
    lists = [
        name
        for name in frame.columns
        if frame[name].map(lambda one: isinstance(one, list | np.ndarray)).any()
    ]
    return frame.assign(**{name: frame[name].map(lambda one: json.dumps(list(one))) for name in lists})


def _located(frame: 'pd.DataFrame') -> 'pd.DataFrame':
    """Add columns lon and lat of the centres, by which `read_source` places the rows of a CSV."""
    if getattr(frame, 'geometry', None) is None or {'lon', 'lat'} & set(frame.columns):
        return frame
    places = lonlat(frame)
    return frame.assign(lon=places[:, 0], lat=places[:, 1])


def _write_parquet(frame: 'pd.DataFrame', path: Path, record: str) -> None:
    import geopandas as gpd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(frame, gpd.GeoDataFrame):
        frame.to_parquet(path, index=False)
        table = pq.read_table(path)
    else:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = (table.schema.metadata or {}) | {b'geores': record.encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression='zstd')
