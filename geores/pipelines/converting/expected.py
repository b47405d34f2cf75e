"""Patches that the released tables name, against those that are there."""

import shutil
from collections.abc import Sequence
from pathlib import Path

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


def missing_patches(names: Sequence[str], table: Path) -> list[Fault]:
    """Patches of the tables that are not there, of the kinds of which there are any.

    Args:
        names: Of the patches that are there.
        table: Path of `metadata.parquet`; the table of patches with snow and clouds beside it counts too.

    Raises:
        DatasetError: If a table cannot be read.
    """
    here, kinds = set(names), {modality(name) for name in names}
    rows = read_metadata(table, snow_and_clouds=table.with_name(SNOW_METADATA).is_file())
    ids = rows['patch_id'].to_pylist()
    named = ids if 's2' in kinds else []
    if 's1' in kinds and 's1_name' in rows.column_names:
        named = named + rows['s1_name'].to_pylist()
    if 'map' in kinds:
        named = named + [f'{patch}{MAP_SUFFIX}' for patch in ids]
    reason = f'is named in {table.name}, and is not here'
    return [Fault(name, reason) for name in sorted(set(named) - here)]


def copy_tables(table: Path, folder: Path) -> None:
    """Put the tables beside the patches, where `geores.datasets.ReBEN` looks for them.

    Args:
        table: Path of `metadata.parquet`.
        folder: To copy to.
    """
    shutil.copyfile(table, folder / METADATA)
    beside = table.with_name(SNOW_METADATA)
    if beside.is_file():
        shutil.copyfile(beside, folder / SNOW_METADATA)
