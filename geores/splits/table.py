"""Split a table by the name of a method, and count rows and labels per part: `geores split`."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geores.errors import DatasetError, SceneError
from geores.io.whole_files import check_free, whole_files
from geores.options import SplitOptions
from geores.splits.assignment import DROPPED, LEFT_OUT, PARTS, PartCounts, Partition, part_name, split_id
from geores.splits.blocks import squares
from geores.splits.buffer import apply_buffer, drop_copies, spacing
from geores.splits.files import check_format, reben_split, write_frame
from geores.splits.geographic import geographic_split, regions_of
from geores.splits.source import Source, footprints_of, group_images
from geores.splits.stratified import LabelMatrix, digest, label_matrix

if TYPE_CHECKING:
    import pandas as pd

__all__ = ['SplitBalance', 'SplitResult', 'make_split', 'split_balance']

BEFORE = 'split_before'
ENOUGH = 20
"""Number of blocks or clusters that a default leaves, where there are so many places."""


@dataclass(frozen=True)
class SplitBalance:
    """Number of rows and labels per part.

    Attributes:
        sizes: number of rows per part, dropped rows included.
        labels: number of rows with a label, per label and part.
    """

    sizes: dict[str, int]
    labels: dict[str, dict[str, int]]

    def share(self, part: str) -> float:
        """Share of a part among the rows that are not dropped."""
        kept = sum(count for name, count in self.sizes.items() if name != DROPPED)
        return self.sizes[part] / kept if kept else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        shares = {part: round(self.share(part), 6) for part in PARTS}
        return {'sizes': self.sizes, 'fractions': shares, 'labels': self.labels}


def split_balance(names: NDArray[np.object_], labels: LabelMatrix | None) -> SplitBalance:
    """Count rows and labels per part.

    Args:
        names: (N,) part of each row.
        labels: labels of the rows.
    """
    parts = (*PARTS, DROPPED)
    masks = {part: names == part for part in parts}
    counts: dict[str, dict[str, int]] = {}
    if labels is not None:
        by_part = {part: labels.values[mask].sum(axis=0) for part, mask in masks.items()}
        counts = {
            name: {part: int(by_part[part][place]) for part in parts}
            for place, name in enumerate(labels.names)
        }
    return SplitBalance(PartCounts((part, int(mask.sum())) for part, mask in masks.items()), counts)


@dataclass(frozen=True)
class SplitResult:
    """Result of splitting a table.

    Attributes:
        source: the rows that were split.
        parts: part of each row.
        options: options of the split.
        balance: number of rows and labels per part.
        notes: notes for the user.
    """

    source: Source
    parts: Partition
    options: SplitOptions
    balance: SplitBalance
    notes: tuple[str, ...]

    @property
    def frame(self) -> 'pd.DataFrame':
        """The rows with a column `split`; an existing one becomes `split_before` (or `_2` ...)."""
        frame = self.source.frame
        if 'split' in frame.columns:
            names = chain([BEFORE], (f'{BEFORE}_{number}' for number in count(2)))
            frame = frame.rename(columns={'split': next(one for one in names if one not in frame.columns)})
        return frame.assign(split=self.parts.names)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the rows with their parts.

        Raises:
            OutputError: if it is there already or cannot be written there.
            WriteError: if writing failed.
        """
        check_format(path, self.source.frame)
        check_free([path], overwrite=overwrite)
        record = {'split_id': self.parts.id, 'options': asdict(self.options), 'geores': version('geores')}
        with whole_files([path]) as (partial,):
            write_frame(self.frame, partial, json.dumps(record))

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {
            'input': self.source.name,
            'split_id': self.parts.id,
            'rows': len(self.parts.codes),
            'groups': int(self.parts.groups.max(initial=-1)) + 1,
            **self.balance.to_dict(),
            'options': asdict(self.options),
            'notes': list(self.notes),
        }


def make_split(source: Source, options: SplitOptions) -> SplitResult:
    """Split a table by a method.

    Raises:
        DatasetError: if an option or a column is invalid, there are fewer places than parts, or the buffer
            leaves a part empty.
    """
    options.check()
    options, defaults = _with_defaults(source, options)
    values = None if options.stratify is None else source.column(options.stratify, '--stratify')
    labels = None if values is None else label_matrix(values, options.stratify or '')
    ids = source.ids or _content_ids(source)
    together = None if options.images is None else _image_groups(source, Path(options.images))
    if options.method == 'reben':
        parts = _reben(source, ids, options.buffer, together)
    else:
        parts = geographic_split(
            source.places,
            options.method,
            options.fractions,
            labels=None if labels is None else labels.values,
            buffer=options.buffer,
            seed=options.seed,
            ids=ids,
            block_size=options.block_size,
            block_crs=options.block_crs,
            cluster_count=options.clusters,
            regions=_regions(source, options) if options.method == 'regions' else None,
            together=together,
        )
    return SplitResult(
        source,
        parts,
        options,
        split_balance(parts.names, labels),
        (*defaults, *_notes(source, parts, options)),
    )


def _with_defaults(source: Source, options: SplitOptions) -> tuple[SplitOptions, tuple[str, ...]]:
    """Fill in what the data suggest where it is not given, and say so."""
    spots = np.unique(np.rint(source.places * 1e5), axis=0) / 1e5
    if options.method in ('blocks', 'hexagons') and options.block_size is None:
        shapes = footprints_of(source)
        side = 0.0 if shapes is None else float(np.sqrt(np.median(shapely.area(shapes))))
        apart = spacing(spots)
        step = max(side, apart if math.isfinite(apart) else 0.0, 1.0)
        sizes = [float(f'{times * step:.2g}') for times in (4, 3, 2, 1)]
        fits = (one for one in sizes if len(np.unique(squares(spots, one), axis=0)) >= ENOUGH)
        size = next(fits, sizes[-1])
        what = 'the side of a footprint' if side >= apart else 'the distance between neighbours'
        note = f'block size {size:g} m: about {size / step:.0f} times {what}; --block-size sets another'
        return replace(options, block_size=size), (note,)
    if options.method == 'clusters' and options.clusters is None:
        count = max(min(ENOUGH, len(spots) // 2), 1)
        return replace(options, clusters=count), (f'{count} clusters; --clusters sets another number',)
    return options, ()


def _image_groups(source: Source, folder: Path) -> list[int]:
    """Group of each row: near duplicates share one, and a row without an image has its own."""
    if source.ids is None:
        raise DatasetError(f'{source.name} has no column of ids, by which images are found: name it by --id')
    found = group_images(folder, source.ids)
    return [found.get(row, len(source.ids) + row) for row in range(len(source.ids))]


def _reben(source: Source, ids: Sequence[str], buffer: float, together: Sequence[int] | None) -> Partition:
    column = 'patch_id' if 'patch_id' in source.frame.columns else source.id_column
    if column is None:
        raise DatasetError(f'{source.name} has no column patch_id, which method reben needs')
    names = reben_split(source.frame[column])
    names = np.array([part_name(name) for name in names], object)
    codes = np.select([names == part for part in PARTS], range(len(PARTS)), LEFT_OUT).astype(np.int8)
    codes = apply_buffer(source.places, codes, buffer)
    codes = codes if together is None else drop_copies(together, codes)
    parts = Partition(codes, np.full(len(codes), LEFT_OUT), '')
    title = f'reben{f"-buffer{buffer:g}m" if buffer else ""}'
    return Partition(codes, parts.groups, split_id(title, ids, parts.names.tolist()))


def _content_ids(source: Source) -> list[str]:
    """Name rows without ids by a hash of their content; equal rows are interchangeable."""
    frame = source.frame
    columns = sorted(frame.columns, key=str)
    cells = zip(*([str(value) for value in frame[name]] for name in columns), strict=True)
    seen: dict[str, int] = {}
    names = []
    for row in cells:
        name = digest('\t'.join(row))[:20]
        seen[name] = seen.get(name, 0) + 1
        names.append(f'{name}-{seen[name]}')
    return names


def _regions(source: Source, options: SplitOptions) -> list[Any]:
    import geopandas as gpd

    from geores.scenes.vectors import read_vector

    if options.regions is None:
        return source.column(options.region_column or '', '--region-column')
    try:
        polygons = read_vector(options.regions)
    except SceneError as error:
        raise DatasetError(f'{options.regions} cannot be read as regions: {error}') from error
    if not isinstance(polygons, gpd.GeoDataFrame):
        raise DatasetError(f'{options.regions} holds no polygons')
    return list(regions_of(source.places, polygons, options.region_column))


def _notes(source: Source, parts: Partition, options: SplitOptions) -> tuple[str, ...]:
    notes = list(source.notes)
    if source.ids is None:
        notes.append('no column tells the rows apart: they are known by all that they hold')
    if source.path is not None and source.path.is_dir() and options.images is None:
        notes.append('images are not compared: --images keeps near duplicates in one part')
    outside = int((parts.groups < 0).sum()) if options.method == 'regions' else 0
    near = parts.counts[DROPPED] - outside
    if outside:
        notes.append(f'{outside:,} rows lie in no region and are dropped')
    if near and options.images is not None:
        notes.append(
            f'{near:,} rows are dropped: within {options.buffer:g} m of another part, or with a copy there'
        )
    elif near:
        notes.append(
            f'{near:,} rows nearer than {options.buffer:g} m to another part are dropped: training rows near '
            'val or test rows, val rows near test rows'
        )
    if 'split' in source.frame.columns:
        before = np.array([part_name(str(name)) for name in source.frame['split']], object)
        same = int((before == parts.names).sum())
        notes.append(
            f'the input has a split, kept as {BEFORE}: {same:,} of {len(parts.codes):,} rows are in the same '
            'part'
        )
    return tuple(notes)
