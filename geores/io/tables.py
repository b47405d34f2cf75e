"""Read tables and vector files as people hand them on: in any usual encoding, with or without style tables.

What is decided here holds for every table: how text is decoded, which columns separate, that no key is
missing or stands in two rows, and which layers of a vector file hold data.
"""

import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geores.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    'PARQUET',
    'check_keys',
    'decode',
    'read_rows',
    'read_text_table',
    'read_vector',
    'vector_layers',
]

_logger = logging.getLogger(__name__)

PARQUET = frozenset({'.parquet', '.geoparquet', '.pq'})
"""Endings of files that geopandas and pyarrow read: GDAL's own driver for them needs libraries that few
have."""

_MARKS = (
    (b'\xff\xfe\x00\x00', 'utf-32'),
    (b'\x00\x00\xfe\xff', 'utf-32'),
    (b'\xff\xfe', 'utf-16'),
    (b'\xfe\xff', 'utf-16'),
    (b'\xef\xbb\xbf', 'utf-8-sig'),
)
"""Byte order marks; that of UTF-32 begins like one of UTF-16."""
_SEPARATORS = ',;\t|'
_STYLES = frozenset({'layer_styles', 'qgis_projects'})
"""Tables of QGIS inside vector files: looks and projects, no data."""
_WINDOWS = frozenset({0, 3, 87})
"""Language drivers of dBASE files that stand for Windows-1252, or for nothing."""
_LANGUAGE_DRIVER = 29
"""Offset of the language driver in the header of a dBASE file, in bytes."""


def decode(path: Path) -> str:
    """Read a text file in UTF-8, in UTF-16 or UTF-32 with a byte order mark, or else in Windows-1252.

    Excel writes Windows-1252 as "CSV", so it is read, but a log message says so: in another code page the
    same bytes are other letters.

    Args:
        path: file to read.

    Raises:
        DatasetError: if the text has none of these encodings.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), 'utf-8')
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != 'utf-8':
            raise DatasetError(
                f'{path}: begins like {encoding.upper()} and is none: save it as UTF-8'
            ) from error
        try:
            text = data.decode('cp1252')
        except UnicodeDecodeError:
            raise DatasetError(
                f'{path}: the text is neither UTF-8 nor Windows-1252 (byte {data[error.start]:#04x} at '
                f'{error.start}): save it as UTF-8'
            ) from None
        if '\0' not in text:
            _logger.warning(
                '%s: not UTF-8, so read as Windows-1252: save it as UTF-8 if letters are wrong', path
            )
    if '\0' in text:
        raise DatasetError(f'{path}: is no text, or UTF-16 without a byte order mark: save it as UTF-8')
    return text


def _separator(text: str) -> str:
    """The separator that the line of headings has most of; a comma if it has none."""
    head = next((line for line in text.splitlines() if line.strip()), '')
    return max(_SEPARATORS, key=head.count)


def read_rows(
    path: Path, columns: Sequence[str], lacking: str, keys: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Read the rows of a CSV file as dictionaries. Columns may be separated by commas, semicolons or tabs.

    Args:
        path: file to read.
        columns: names of required columns.
        lacking: message for a missing file.
        keys: columns that must not be empty, and that together tell the rows apart.

    Raises:
        DatasetError: if the file or a column is missing, its encoding is unknown, a row has more cells than
        there are
            columns, or a key is missing or stands in two rows.
    """
    if not path.is_file():
        raise DatasetError(f'{path.absolute()}: {lacking}')
    text = decode(path)
    reader = csv.DictReader(io.StringIO(text, newline=''), delimiter=_separator(text), skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    for column in columns:
        if column not in names:
            raise DatasetError(f'{path}: column {column!r} is missing; it has {", ".join(names) or "none"}')
    rows, lines = [], []
    try:
        for row in reader:
            if None in row:
                raise DatasetError(
                    f'{path}: row {reader.line_num} has more cells than there are columns: quote a cell that '
                    'holds a separator'
                )
            if any(value and value.strip() for value in row.values()):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DatasetError(f'{path}: row {reader.line_num} cannot be read: {error}') from error
    check_keys(path, {key: [row[key] for row in rows] for key in keys}, lines)
    return rows


def check_keys(
    path: Path | str, keys: Mapping[str, Iterable[Any]], lines: Sequence[int] | None = None
) -> None:
    """Check that every row of a table has a key, and none that of another row.

    Args:
        path: file of the table, for messages.
        keys: columns whose values together tell the rows apart, by name.
        lines: number of each row in the file; rows are counted from 1 by default.

    Raises:
        DatasetError: says which row, and which key.
    """
    seen: dict[tuple[str, ...], int] = {}
    for place, values in enumerate(zip(*keys.values(), strict=True)):
        number = place + 1 if lines is None else lines[place]
        key = tuple(_text(value) for value in values)
        for name, text in zip(keys, key, strict=True):
            if not text:
                raise DatasetError(f'{path}: row {number} has no {name}: fill it in, or drop the row')
        if key in seen:
            raise DatasetError(
                f'{path}: {"/".join(key)} is named twice, in rows {seen[key]} and {number}: drop one of them'
            )
        seen[key] = number


def _text(value: object) -> str:
    missing = value is None or value != value or str(value) == '<NA>'
    return '' if missing else str(value).strip()


def read_text_table(path: Path, separator: str | None = None) -> 'pd.DataFrame':
    """Read a CSV without loss: an id such as 007 and a country code such as NA stay text.

    Args:
        path: file to read.
        separator: separator of columns; by default that of the line of headings.

    Returns:
        The table. A column is numeric only if writing its numbers gives the same text; empty cells are None.

    Raises:
        DatasetError: if the encoding is unknown.
    """
    import pandas as pd

    text = decode(path)
    separator = separator or _separator(text)
    frame = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    frame = frame.astype(object).where(frame != '', None)
    return frame.assign(**{name: _numbers(frame[name]) for name in frame.columns})


def _numbers(column: 'pd.Series') -> 'pd.Series':
    texts = column.dropna()
    for kind in (int, float):
        if texts.empty or (kind is int and len(texts) < len(column)):  # whole numbers have no gaps
            continue
        try:
            if all(str(kind(text)) == text for text in texts):
                return column.astype(kind)
        except ValueError:  # it is no number
            continue
    return column


def vector_layers(path: Path | str) -> list[str]:
    """Names of the layers of a vector file that hold data.

    These are those with geometries, if any has some; tables of styles are never among them.

    Args:
        path: file that GDAL reads, or Parquet, which has one layer without a name ('').

    Raises:
        Exception: whatever GDAL makes of a file that is no vector file.
    """
    import pyogrio

    if Path(path).suffix.lower() in PARQUET:
        return ['']
    found = [(str(name), kind) for name, kind in pyogrio.list_layers(path) if str(name) not in _STYLES]
    return [name for name, kind in found if kind is not None] or [name for name, _ in found]


def read_vector(path: Path | str, layer: str | None = None, **options: Any) -> 'pd.DataFrame':  # noqa: ANN401
    """Read a layer of a vector file: a GeoDataFrame where it has geometries.

    GeoParquet is read by geopandas. A Shapefile that states no encoding is read as UTF-8 if it is valid
    UTF-8: GDAL would take it as ISO 8859-1.

    Args:
        path: file to read.
        layer: name of the layer; the first that holds data by default.
        **options: further arguments of `geopandas.read_file`, such as `bbox`.

    Raises:
        Exception: whatever readers make of a file of another kind.
    """
    import geopandas as gpd

    path = Path(path)
    frame: pd.DataFrame
    if path.suffix.lower() in PARQUET:
        return _read_parquet(path)
    layer = layer or next(iter(vector_layers(path)), None)
    if path.suffix.lower() == '.shp' and not any(
        path.with_suffix(suffix).is_file() for suffix in ('.cpg', '.CPG')
    ):
        for encoding in ('utf-8', *(['cp1252'] if _language_driver(path) in _WINDOWS else [])):
            try:
                frame = gpd.read_file(path, layer=layer, encoding=encoding, **options)
            except UnicodeDecodeError:
                continue
            return frame
    frame = gpd.read_file(path, layer=layer, **options)
    return frame


def _language_driver(path: Path) -> int | None:
    """The byte by which a dBASE file names its encoding; None without such a file."""
    for suffix in ('.dbf', '.DBF'):
        if path.with_suffix(suffix).is_file():
            with path.with_suffix(suffix).open('rb') as file:
                head = file.read(_LANGUAGE_DRIVER + 1)
            return head[_LANGUAGE_DRIVER] if len(head) > _LANGUAGE_DRIVER else None
    return None


def _read_parquet(path: Path) -> 'pd.DataFrame':
    import geopandas as gpd
    import pandas as pd
    import pyarrow.parquet as pq

    if b'geo' in (pq.read_schema(path).metadata or {}):
        frame: pd.DataFrame = gpd.read_parquet(path)
        return frame
    return pd.read_parquet(path)
