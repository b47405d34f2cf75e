"""Patches that the released tables name, against those that are there."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geores.bigearthnet.metadata import METADATA, SNOW_METADATA, find_metadata, read_metadata
from geores.bigearthnet.patch_id import MAP_SUFFIX, modality
from geores.errors import DatasetError
from geores.pipelines.converting.sources import Fault

__all__ = ['copy_tables', 'missing_patches', 'tables_for']


def tables_for(root: Path, metadata: Path | None) -> Path | None:
    """The table of clean patches, or None where there is none and none was named.

    Args:
        root: Where the patches are.
        metadata: The table or its folder, if it was named.

    Raises:
        DatasetError: If the table that was named is not there.
    """
    try:
        return find_metadata(root, metadata)
    except DatasetError:
        if metadata is not None:
            raise
        return None


def missing_patches(
    names: Sequence[str], table: Path, *, only_present: bool = False
) -> tuple[list[Fault], int]:
    """Patches of the tables that are not there, of the kinds of which there are any.

    Args:
        names: Of the patches that are there.
        table: Path of `metadata.parquet`; the table of patches with snow and clouds beside it counts too.
        only_present: Leave out rows of which nothing is there, as of a part of the data set.

    Returns:
        The missing patches, and the number of rows that were left out.

    Raises:
        DatasetError: If a table cannot be read, or every row would be left out.
    """
    here, kinds = set(names), {modality(name) for name in names}
    rows = read_metadata(table, snow_and_clouds=table.with_name(SNOW_METADATA).is_file())
    total = len(rows)
    rows = rows.filter(_present(rows, here)) if only_present else rows
    if not len(rows):
        raise DatasetError(f'{table}: names none of the {len(here):,} patches that are here')
    ids = rows['patch_id'].to_pylist()
    named = ids if 's2' in kinds else []
    if 's1' in kinds and 's1_name' in rows.column_names:
        named = named + rows['s1_name'].to_pylist()
    if 'map' in kinds:
        named = named + [f'{patch}{MAP_SUFFIX}' for patch in ids]
    reason = f'is named in {table.name}, and is not here'
    return [Fault(name, reason) for name in sorted(set(named) - here)], total - len(rows)


def copy_tables(table: Path, folder: Path, present: Sequence[str] | None = None) -> None:
    """Put the tables beside the patches, where `geores.datasets.ReBEN` looks for them.

    Args:
        table: Path of `metadata.parquet`.
        folder: To copy to.
        present: Patches that are there, for only those rows of which something is; None for all rows.
    """
    for path, name in ((table, METADATA), (table.with_name(SNOW_METADATA), SNOW_METADATA)):
        if not path.is_file():
            continue
        if present is None:
            shutil.copyfile(path, folder / name)
        else:
            rows = pq.read_table(path)
            pq.write_table(rows.filter(_present(rows, set(present))), folder / name)


def _present(rows: pa.Table, here: set[str]) -> pa.Array:
    """Of which rows a patch of any kind is there."""
    ids = rows['patch_id'].to_pylist()
    partners = rows['s1_name'].to_pylist() if 's1_name' in rows.column_names else ids
    return pa.array([
        not here.isdisjoint((patch, partner, f'{patch}{MAP_SUFFIX}'))
        for patch, partner in zip(ids, partners, strict=True)
    ], pa.bool_())  # fmt: skip
