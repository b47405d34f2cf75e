"""Read the released tables of reBEN (labels, splits, Sentinel-1 partners) and the official statistics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geores.bigearthnet.labels import LabelOrder, labels_in
from geores.card_values import DataSource
from geores.errors import DatasetError, UsageError
from geores.io.tables import check_cells

__all__ = [
    'METADATA',
    'RELEASE',
    'SNOW_METADATA',
    'Interpolation',
    'SplitName',
    'check_column',
    'check_partners',
    'find_metadata',
    'multi_hot_labels',
    'official_statistics',
    'read_metadata',
]

METADATA: Final = 'metadata.parquet'
SNOW_METADATA: Final = 'metadata_for_patches_with_snow_cloud_or_shadow.parquet'
RELEASE: Final = DataSource(
    name='BigEarthNet v2.0',
    licence='Community Data License Agreement, permissive 1.0',
    places=(
        'Austria', 'Belgium', 'Finland', 'Ireland', 'Kosovo',
        'Lithuania', 'Luxembourg', 'Portugal', 'Serbia', 'Switzerland',
    ),
    also=('reBEN', 'BigEarthNet', 'BigEarthNet-v2'),
    note='labels from CORINE Land Cover 2018; contains modified Copernicus Sentinel data',
)  # fmt: skip
"""The data set, for cards of models that it trained."""
SplitName = Literal['train', 'val', 'validation', 'test', 'all']

_NEEDED = ('patch_id', 'labels', 'split')
_FLAGS = ('contains_seasonal_snow', 'contains_cloud_or_shadow')
_SPLITS = ('train', 'validation', 'test')

Interpolation = Literal['nearest', 'bilinear', 'native']
# (mean, standard deviation) as used by the published models (ConfigILM, BENv2_utils, '120_nearest' and
# 'no_interpolation'), for patches brought to 120 x 120 pixels by repeating. Those of Sentinel-1 are in
# decibels and were computed on BigEarthNet v1.
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
# '120_bilinear' differs for the bands of 20 and 60 m only.
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


def find_metadata(root: Path | str, metadata: Path | str | None = None) -> Path:
    """Find the table of clean patches.

    Args:
        root: folder of the patches; the table is searched for there and in its parent folder.
        metadata: the table itself, or the folder that holds it, if it is elsewhere.

    Raises:
        DatasetError: if it is not there; says where was looked.
    """
    given = Path(root if metadata is None else metadata)
    looked = [given / METADATA, given.absolute().parent / METADATA]
    if metadata is not None:
        looked = [given / METADATA if given.is_dir() else given]
    for path in looked:
        if path.is_file():
            return path
    raise DatasetError(
        f'no {METADATA}: looked for {" and ".join(map(str, looked))}; download it beside the patches, '
        'or say where it is with metadata'
    )


def read_metadata(path: Path | str, split: SplitName = 'all', *, snow_and_clouds: bool = False) -> pa.Table:
    """Read rows of the released tables.

    Args:
        path: path of `metadata.parquet`.
        split: 'train', 'val' (or 'validation'), 'test', or 'all'.
        snow_and_clouds: take patches with seasonal snow, clouds or shadows too; their table stands beside the
            other.

    Returns:
        At least the columns `patch_id`, `labels`, `split`, `contains_seasonal_snow` and
        `contains_cloud_or_shadow`; `s1_name` and `country` where the table has them. In the order of
        the files.

    Raises:
        DatasetError: if a table or a column is missing, a table cannot be read, or nothing is left.
        UsageError: if there is no such split.
    """
    if split not in get_args(SplitName):
        raise UsageError(f'split has to be one of {", ".join(get_args(SplitName))}, not {split!r}')
    path = Path(path)
    table = _read(path)
    if snow_and_clouds:
        table = _joined(table, path.with_name(SNOW_METADATA))
    else:
        table = table.filter(pc.invert(pc.or_(table[_FLAGS[0]], table[_FLAGS[1]])))
    odd = pc.unique(table['split'].filter(pc.invert(pc.is_in(table['split'], pa.array(_SPLITS)))))
    if len(odd):
        raise DatasetError(f'{path}: column split holds {odd[0].as_py()!r}, which is none of {_SPLITS}')
    if split != 'all':
        name = 'validation' if split == 'val' else split
        table = table.filter(pc.equal(table['split'], name))
    if not len(table):
        raise DatasetError(f'{path}: has no patch of split {split!r}')
    return table


def multi_hot_labels(table: pa.Table, order: LabelOrder = 'lexicographic') -> NDArray[np.uint8]:
    """Turn the labels of all rows into a multi-hot matrix.

    Returns:
        (N, 19), 0 or 1.

    Raises:
        DatasetError: if a label is none of the 19, or a row has none; says which and of which patch.
    """
    names = labels_in(order)
    lists = table['labels'].combine_chunks()
    counts = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    if not counts.all():
        raise DatasetError(f'patch {table["patch_id"][int(counts.argmin())]} has no label')
    rows = np.repeat(np.arange(len(table)), counts)
    flat = lists.flatten()
    columns = pc.index_in(flat, value_set=pa.array(names, flat.type))
    if columns.null_count:
        place = int(np.flatnonzero(columns.is_null().to_numpy(zero_copy_only=False))[0])
        patch, label = table['patch_id'][int(rows[place])], flat[place]
        raise DatasetError(f'patch {patch}: label {str(label)!r} is none of the 19 of BigEarthNet v2.0')
    matrix = np.zeros((len(table), len(names)), np.uint8)
    matrix[rows, columns.to_numpy()] = 1
    return matrix


def check_column(table: pa.Table, name: str, path: Path) -> None:
    """Check that a table has a column.

    Raises:
        DatasetError: if the column is missing.
    """
    if name not in table.column_names:
        raise DatasetError(
            f'{path}: column {name!r} is missing; it has {", ".join(table.column_names)}: take the '
            'released file'
        )


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise DatasetError(f'{path}: no such table of patches')
    check_cells(path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f'{path}: the table cannot be read: {error}') from error
    for name in (*_NEEDED, *_FLAGS):
        check_column(table, name, path)
    _check_types(table, path)
    _check_twice(table, path)
    wanted = [name for name in (*_NEEDED, *_FLAGS, 's1_name', 'country') if name in table.column_names]
    return table.select(wanted)


def _check_types(table: pa.Table, path: Path) -> None:
    for names, holds, kind in (
        (('patch_id', 'split'), _is_text, 'text'),
        (('labels',), _is_texts, 'lists of text'),
        (_FLAGS, pa.types.is_boolean, 'true or false'),
    ):
        for name in names:
            if holds(table.schema.field(name).type) and table[name].null_count:
                row = int(np.flatnonzero(table[name].is_null().to_numpy())[0]) + 1
                raise DatasetError(
                    f'{path}: column {name!r} has to hold {kind} in every row, and row {row} has none'
                )
            if not holds(table.schema.field(name).type):
                raise DatasetError(f'{path}: column {name!r} has to hold {kind} in every row')


def _check_twice(table: pa.Table, path: Path) -> None:
    """Check that no patch stands in two rows: it would count twice."""
    names = table['patch_id']
    if pc.count_distinct(names).as_py() < len(names):
        counts = pc.value_counts(names)
        twice = counts.filter(pc.greater(counts.field('counts'), 1))[0]['values'].as_py()
        rows = np.flatnonzero(pc.equal(names, twice).to_numpy()) + 1
        raise DatasetError(
            f'{path}: patch {twice} is named twice, in rows {rows[0]} and {rows[1]}: drop one of them'
        )


def check_partners(table: pa.Table, path: Path) -> None:
    """Check that every patch of Sentinel-2 names one of Sentinel-1.

    Raises:
        DatasetError: if the column `s1_name` is missing, or a patch has none.
    """
    check_column(table, 's1_name', path)
    names = table['s1_name']
    if names.null_count:
        row = int(np.flatnonzero(names.is_null().to_numpy())[0])
        raise DatasetError(
            f'{path}: patch {table["patch_id"][row]} has no s1_name, and Sentinel-1 is asked for'
        )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_texts(kind: pa.DataType) -> bool:
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type))


def _joined(table: pa.Table, beside: Path) -> pa.Table:
    other = _read(beside)
    shared: Sequence[Any] = [name for name in table.column_names if name in other.column_names]
    return pa.concat_tables([table.select(shared), other.select(shared)], promote_options='permissive')


def official_statistics(
    bands: Sequence[str], interpolation: Interpolation = 'nearest'
) -> tuple[list[float], list[float]]:
    """Official mean and standard deviation of bands over the training set.

    They are in digital numbers for Sentinel-2 and in dB for Sentinel-1.

    Args:
        bands: names as in BigEarthNet.
        interpolation: how coarser bands are resampled to 10 m.

    Raises:
        UsageError: if a band or the interpolation is unknown.
    """
    if interpolation not in {'nearest', 'bilinear', 'native'}:
        raise UsageError(f'no statistics of interpolation {interpolation!r}')
    table = _NEAREST | (_BILINEAR if interpolation == 'bilinear' else {})
    unknown = [band for band in bands if band not in table]
    if unknown:
        raise UsageError(f'no statistics of band {unknown[0]!r}; known are {", ".join(table)}')
    return [table[band][0] for band in bands], [table[band][1] for band in bands]
