"""Read tables of text as people hand them on, and list files without those of systems and editors.

What is decided here holds for every table: how text is decoded, what separates columns, and that no key is
missing or stands in two rows. Vector files are read by `geores.scenes.vectors`.
"""

import csv
import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geores.errors import DatasetError, printable

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    'check_cells',
    'check_keys',
    'csv_cell',
    'csv_frame',
    'decode',
    'is_hidden',
    'read_rows',
    'read_text_table',
    'visible_files',
]

_LEFT_BEHIND = frozenset(
    {'thumbs.db', 'desktop.ini', '__macosx', '@eadir', '$recycle.bin', 'system volume information', 'icon\r'}
)
"""Names in lower case, of files and folders, that no person gives to data."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is nothing to read.

    Such are names that begin with a dot (`.ipynb_checkpoints`, `._image.jpg` and `.DS_Store` of macOS) or
    `~$` (files that an office program holds open), and what Windows, macOS and network storage add
    (`Thumbs.db`, `__MACOSX`).
    """
    return name.startswith(('.', '~$')) or name.lower() in _LEFT_BEHIND


def visible_files(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder that match a pattern, sorted; neither they nor folders on the way to them are hidden.

    Args:
        folder: folder, which may be hidden itself.
        pattern: pattern of `Path.glob`, such as '*/*'.
    """
    found = folder.glob(pattern)
    return sorted(path for path in found if not any(map(is_hidden, path.relative_to(folder).parts)))


_logger = logging.getLogger(__name__)

_MARKS = (
    (b'\xff\xfe\x00\x00', 'utf-32'),
    (b'\x00\x00\xfe\xff', 'utf-32'),
    (b'\xff\xfe', 'utf-16'),
    (b'\xfe\xff', 'utf-16'),
    (b'\xef\xbb\xbf', 'utf-8-sig'),
)
"""Byte order marks; that of UTF-32 begins like one of UTF-16."""
_SEPARATORS = ',;\t|'


def decode(path: Path) -> str:
    """Read a text file in UTF-8, in UTF-16 or UTF-32 with a byte order mark, or else in Windows-1252.

    Excel writes Windows-1252 as "CSV", so it is read, but a log message says so: in another code page the
    same bytes are other letters.

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


MOST_CELLS = 2**28
"""Most cells of a Parquet file that is read whole: 10 million rows of 26 columns."""


def check_cells(path: Path) -> None:
    """Refuse a Parquet file that tells of more cells than fit into memory, before any is decoded.

    A column of one value takes a few bytes in the file, whatever its length.

    Raises:
        DatasetError: if it holds too many; other faults are left to who reads it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return
    if footer.num_rows * footer.num_columns > MOST_CELLS:
        raise DatasetError(
            f'{path}: has {footer.num_rows:,} rows of {footer.num_columns} columns, more than {MOST_CELLS:,} '
            'cells, and is read whole: divide it'
        )


def _separator(text: str) -> str:
    """The separator that the line of headings has most of; a comma if it has none."""
    head = re.search(r'[^\r\n]*\S[^\r\n]*', text)
    return max(_SEPARATORS, key=(head[0] if head else '').count)


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
            there are columns, or a key is missing or stands in two rows.
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
    content = io.BytesIO(text.encode())  # a quarter of what StringIO takes
    del text
    frame = pd.read_csv(content, sep=separator, dtype=str, keep_default_na=False)
    del content
    names, columns = [_without_guard(str(name)) for name in frame.columns], []
    for name in list(frame.columns):  # one after the other, so that texts of numbers go early
        column = frame.pop(name).map(_without_guard).astype(object)
        columns.append(_numbers(column.where(column != '', None)))
    table = pd.concat(columns, axis=1) if columns else frame
    table.columns = pd.Index(names)
    return table


_FORMULA = re.compile(r'[=+\-@\t\r]')
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)', re.IGNORECASE)
_GUARDED = re.compile(r"'(?='*[=+\-@\t\r])")


def csv_cell(value: object) -> object:
    """Guard a text that a spreadsheet would take for a formula by an apostrophe; escape control characters.

    `read_text_table` takes the apostrophe off again. Numbers stay.

    Example:
        >>> csv_cell('=1+1'), csv_cell('-3.5'), csv_cell('wood')
        ("'=1+1", '-3.5', 'wood')
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    formula = _FORMULA.match(text.lstrip("'")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


def csv_frame(frame: 'pd.DataFrame') -> 'pd.DataFrame':
    """Guard all texts of a table that goes into a CSV file, those of its index and headings too."""
    texts = [name for name in frame.columns if _holds_text(frame[name].dtype)]
    frame = frame.assign(**{name: frame[name].map(csv_cell) for name in texts}).rename(columns=csv_cell)
    return frame.rename(index=csv_cell) if _holds_text(frame.index.dtype) else frame


def _holds_text(dtype: Any) -> bool:  # noqa: ANN401 - of numpy, pandas or geopandas
    return dtype.kind == 'O' and str(dtype) != 'geometry'


def _without_guard(text: str) -> str:
    return _GUARDED.sub('', text, count=1) if text.startswith("'") else text


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
