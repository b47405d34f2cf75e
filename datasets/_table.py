"""Tables of labels, as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from geores.errors import DatasetError

__all__ = ['read_rows']


def read_rows(path: Path, columns: Sequence[str], lacking: str) -> list[dict[str, str]]:
    """Rows of a CSV file, by the names of its columns; it may start with a byte order mark.

    Args:
        path: to read.
        columns: that it has to have.
        lacking: what to say where there is no such file.

    Raises:
        DatasetError: the file or a column is missing.
    """
    if not path.is_file():
        raise DatasetError(f'{path.absolute()}: {lacking}')
    with path.open(newline='', encoding='utf-8-sig') as file:
        reader = csv.DictReader(file)
        for column in columns:
            if column not in (reader.fieldnames or ()):
                raise DatasetError(f'{path}: column {column!r} is missing')
        return list(reader)
