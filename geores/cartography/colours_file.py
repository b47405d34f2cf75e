"""Colours that users bring: a file of labels and '#rrggbb'."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from geores.cartography.colour import parse_colour
from geores.errors import UsageError

__all__ = ['read_colours']

MOST_BYTES = 2**22
KINDS = '.json, .yaml or .csv'


def read_colours(path: str | Path) -> dict[str, str]:
    """Read colours of labels.

    Args:
        path: JSON or YAML with `label: '#rrggbb'`, or CSV with a label and a colour a line.

    Returns:
        Label -> '#rrggbb'.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f'{path} is too large for a file of colours')
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'{path} cannot be read as a file of colours: {error}') from error
    found = _parse(path, text)
    if not found:
        raise UsageError(f"{path} holds no colours: write lines such as water: '#419bdf'")
    colours = {}
    for label, colour in found.items():
        try:
            colours[str(label)] = parse_colour(colour)
        except UsageError as error:
            raise UsageError(f'{path}, label {label!r}: {error}') from error
    return colours


def _parse(path: Path, text: str) -> Mapping[Any, Any]:
    suffix = path.suffix.lower()
    if suffix == '.csv':
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
        if rows and rows[0][1:2] and not rows[0][1].startswith('#'):
            rows = rows[1:]  # a line of headings
        if wrong := [row for row in rows if len(row) != 2]:
            raise UsageError(f'{path}: {",".join(wrong[0])!r} is no line of a label and a colour')
        return dict(rows)
    if suffix not in ('.json', '.yaml', '.yml'):
        raise UsageError(f'{path}: colours are read from {KINDS}')
    try:
        found = json.loads(text) if suffix == '.json' else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f'{path} cannot be read: {" ".join(str(error).split())}') from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} has to map labels to colours, such as water: '#419bdf'")
    return found
