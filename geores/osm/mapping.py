"""Map tags of OpenStreetMap to categories by a table of rules, and read objects from vector files by it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import yaml  # type: ignore[import-untyped,unused-ignore]
from pyproj import Transformer
from pyproj.exceptions import ProjError

from geores.errors import ReadError, UsageError
from geores.osm.features import OSMObject
from geores.questions.forms import QuestionError, check_category
from geores.scenes.vectors import list_layers, read_vector

__all__ = ['TagMapping', 'TagRule', 'load_mapping', 'read_table']

KINDS = ('area', 'line')
FIELDS = {'category', 'layer', 'kind', 'tags', 'except', 'fclass', 'code'}

Values = frozenset[str] | None
"""Values of a key; None for any but ``no``."""


@dataclass(frozen=True)
class TagRule:
    """The objects that belong to one category.

    Attributes:
        category: singular noun phrase, such as 'water area'.
        layer: group of categories, such as 'building' or 'land'.
        kind: kind of geometry, 'area' or 'line'.
        tags: values by key; any of them makes an object belong to the category.
        excluded: values by key that exclude an object, whatever its other tags.
        classes: class names in extracts that give each object one class instead of tags.
        codes: numbers of these classes, used if there is no class name.
    """

    category: str
    layer: str
    kind: str
    tags: Mapping[str, Values]
    excluded: Mapping[str, Values]
    classes: frozenset[str]
    codes: frozenset[int]

    def is_kind_of(self, other: 'TagRule') -> bool:
        """Whether everything that matches the tags of this rule matches those of another rule too."""
        wider = [
            key in other.tags and (other.tags[key] is None or (values or {''}) <= (other.tags[key] or set()))
            for key, values in self.tags.items()
        ]
        return bool(wider) and all(wider)

    def holds(self, tags: Mapping[str, str], fclass: str | None, code: int | None) -> bool:
        """Whether an object with the right kind of geometry belongs to the category."""
        if any(_among(tags.get(key), values) for key, values in self.excluded.items()):
            return False
        if any(_among(tags.get(key), values) for key, values in self.tags.items()):
            return True
        if fclass is not None:
            return fclass in self.classes
        return code is not None and code in self.codes


@dataclass(frozen=True)
class TagMapping:
    """All rules in the order of the file.

    Attributes:
        rules: one rule per category.
        digest: sha256 of the file.
        name: name of the file.
    """

    rules: tuple[TagRule, ...]
    digest: str
    name: str

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """All keys of tags that the rules use."""
        return tuple(sorted({key for rule in self.rules for key in rule.tags}))

    @cached_property
    def layers(self) -> dict[str, str]:
        """The layer of each category."""
        return {rule.category: rule.layer for rule in self.rules}

    @cached_property
    def contained(self) -> frozenset[tuple[str, str]]:
        """Pairs of categories of which the first is a kind of the second, as a house is a building."""
        return frozenset(
            (inner.category, outer.category)
            for inner in self.rules
            for outer in self.rules
            if inner is not outer and inner.kind == outer.kind and inner.is_kind_of(outer)
        )

    def categories(
        self, kind: str, tags: Mapping[str, str], fclass: str | None = None, code: int | None = None
    ) -> tuple[str, ...]:
        """Categories of an object in the order of the rules; empty if it has none."""
        used = tuple((key, value) for key, value in tags.items() if key in self._keys)
        query = (kind, used, fclass, code)
        if query not in self._known:
            self._known[query] = tuple(
                rule.category
                for rule in self.rules
                if rule.kind == kind and rule.holds(dict(used), fclass, code)
            )
        return self._known[query]

    @cached_property
    def _keys(self) -> frozenset[str]:
        return frozenset(key for rule in self.rules for key in (*rule.tags, *rule.excluded))

    @cached_property
    def _known(self) -> dict[object, tuple[str, ...]]:
        """Cache of categories, because many objects of a file have the same tags."""
        return {}


def load_mapping(path: str | Path | None = None) -> TagMapping:
    """Load a mapping from a file, or the shipped one.

    Raises:
        UsageError: if the file cannot be read, or is not a table of rules.
    """
    if path is None:
        content = resources.files('geores.osm').joinpath('mapping.yaml').read_bytes()
        return _parsed(content, 'mapping.yaml')
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f'mapping {path} cannot be read: {error.strerror}') from error
    return _parsed(content, str(path))


def _parsed(content: bytes, name: str) -> TagMapping:
    try:
        data = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # such as of a date that is none
        raise UsageError(f'mapping {name} is not YAML: {error}') from error
    rules = data.get('rules') if isinstance(data, dict) else None
    if not isinstance(rules, list) or not rules:
        raise UsageError(f"mapping {name} has no list 'rules': each rule is a category with its tags")
    parsed = tuple(_rule(rule, f'mapping {name}, rule {number}') for number, rule in enumerate(rules, 1))
    names = [rule.category for rule in parsed]
    twice = sorted({category for category in names if names.count(category) > 1})
    if twice:
        raise UsageError(f'mapping {name} has {twice[0]!r} twice: put its tags into one rule')
    return TagMapping(parsed, sha256(content).hexdigest(), Path(name).name)


def _rule(data: object, where: str) -> TagRule:
    if not isinstance(data, dict):
        raise UsageError(f'{where} is no table of category, layer, kind and tags')
    unknown = sorted(map(str, data.keys() - FIELDS))
    if unknown:
        raise UsageError(f'{where} has {unknown[0]!r}; it may have {", ".join(sorted(FIELDS))}')
    category, layer = (_text(data.get(field), f'{where}: {field}') for field in ('category', 'layer'))
    try:
        check_category(category)
    except QuestionError as error:
        raise UsageError(f'{where}: {error}') from error
    kind = data.get('kind')
    if kind not in KINDS:
        raise UsageError(f"{where} ({category}): kind has to be 'area' or 'line', not {kind!r}")
    codes = data.get('code', [])
    if not isinstance(codes, list) or not all(isinstance(code, int) for code in codes):
        raise UsageError(f'{where} ({category}): code has to be a list of whole numbers')
    return TagRule(
        category=category,
        layer=layer,
        kind=kind,
        tags=_tags(data.get('tags', {}), f'{where} ({category}): tags'),
        excluded=_tags(data.get('except', {}), f'{where} ({category}): except'),
        classes=_values(data.get('fclass', []), f'{where} ({category}): fclass') or frozenset(),
        codes=frozenset(codes),
    )


def _tags(data: object, where: str) -> dict[str, Values]:
    if not isinstance(data, dict):
        raise UsageError(f'{where} has to be a table of keys with lists of values')
    return {
        _text(key, where): None if values is True else _values(values, f'{where} {key}')
        for key, values in data.items()
    }


def _values(data: object, where: str) -> frozenset[str]:
    if not isinstance(data, list) or not all(isinstance(value, str) for value in data):
        raise UsageError(f'{where} has to be a list of texts (quote yes and no), or true for any value')
    return frozenset(data)


def _text(value: Any, where: str) -> str:  # noqa: ANN401 - whatever the file holds
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f'{where} has to be a text that is not empty')
    return value.strip()


def _among(value: str | None, values: Values) -> bool:
    if value is None:
        return False
    return value != 'no' if values is None else value in values


Box = tuple[float, float, float, float]

WIDE = 30.0
"""Side of a box in degrees from which on it is too distorted by projections to filter by its bounds."""
IDS = ('osm_id', '@id', 'osm_way_id', 'full_id', 'osmid', 'id')
TAGS = ('tags', 'other_tags', 'all_tags')
TYPES = {'n': 'node', 'w': 'way', 'r': 'relation', 'node': 'node', 'way': 'way', 'relation': 'relation'}
_HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*"((?:[^"\\]|\\.)*)"')
_ID = re.compile(r'(?:(node|way|relation|[nwr])[/_ ]?)?(-?\d+)(?:\.0+)?')


def read_table(path: Path, box: Box, mapping: TagMapping) -> Iterator[OSMObject]:
    """Objects in all layers of a vector file that have a category.

    Categories come from columns `fclass` and `code` (as in Geofabrik's extracts), from columns named like
    keys of tags, or from a column `tags` or `other_tags` (a mapping, JSON or hstore).

    Args:
        path: file to read.
        box: west, south, east, north in degrees; only objects that meet it are read.
        mapping: mapping from tags to categories.

    Raises:
        UsageError: if the file has no CRS, or no column that says what the objects are.
        ReadError: if the file cannot be read.
    """
    frames = list(_frames(path, box))
    named = [frame for frame in frames if _telling(frame, mapping)]
    if not named:
        columns = sorted({str(name) for frame in frames for name in frame.columns} - {'geometry'})
        has, keys = ', '.join(columns) or 'none', ', '.join(mapping.keys)
        raise UsageError(
            f'{path} does not say what its objects are: a column fclass, code, tags or other_tags, or '
            f'columns named like tags ({keys}) are needed; it has {has}'
        )
    for frame in named:
        yield from _found(frame, mapping)


def _frames(path: Path, box: Box) -> Iterator[gpd.GeoDataFrame]:
    try:
        for layer in list_layers(path):
            if layer.has_geometry:
                frame = read_vector(path, layer=layer.name, bounds=_window(layer.crs, box))
                if isinstance(frame, gpd.GeoDataFrame):
                    yield _lonlat(frame, path, box)
    except UsageError:
        raise
    except Exception as error:
        raise ReadError(f'{path} cannot be read: {error}') from error


def _window(crs: str | None, box: Box) -> Box | None:
    """The box in the CRS of a layer; None if it cannot be projected, so that the whole layer is read."""
    if crs is None:
        return None
    try:
        edges = Transformer.from_crs('EPSG:4326', crs, always_xy=True).transform_bounds(*box)
    except ProjError:
        return None
    west, south, east, north = edges
    wide = box[2] - box[0] > WIDE or box[3] - box[1] > WIDE
    return None if wide or not np.isfinite(edges).all() else (west, south, east, north)


def _lonlat(frame: gpd.GeoDataFrame, path: Path, box: Box) -> gpd.GeoDataFrame:
    if frame.crs is None:
        raise UsageError(f'{path} has no CRS: state it in the file, else its objects have no place')
    frame = frame[frame.geometry.notna() & ~frame.geometry.is_empty].to_crs('EPSG:4326')
    west, south, east, north = (frame.geometry.bounds[name] for name in ('minx', 'miny', 'maxx', 'maxy'))
    return frame[(west <= box[2]) & (east >= box[0]) & (south <= box[3]) & (north >= box[1])]


def _telling(frame: gpd.GeoDataFrame, mapping: TagMapping) -> list[str]:
    known = {'fclass', 'code', *TAGS, *mapping.keys}
    return [name for name in frame.columns if name in known]


def _found(frame: gpd.GeoDataFrame, mapping: TagMapping) -> Iterator[OSMObject]:
    keys = [name for name in frame.columns if name in mapping.keys]
    stores = [name for name in TAGS if name in frame.columns]
    id_columns = [name for name in IDS if name in frame.columns]
    geometry = frame.geometry.to_numpy()
    rows = frame.drop(columns=frame.geometry.name).to_dict('records')
    for number, (row, shape) in enumerate(zip(rows, geometry, strict=True)):
        kind = _kind(shape)
        if kind is None:
            continue
        tags = {key: str(row[key]) for key in keys if _there(row[key])}
        for store in stores:
            tags |= _row_tags(row[store])
        fclass, code = _cell_text(row.get('fclass')), _whole(row.get('code'))
        if fclass == 'building' and _there(row.get('type')) and 'building' not in tags:
            tags['building'] = str(row['type'])  # Geofabrik's layer of buildings
        categories = mapping.categories(kind, tags, fclass, code)
        if categories:
            yield OSMObject(_id(row, id_columns, number), kind, categories, shape)


def _kind(shape: shapely.Geometry) -> str | None:
    name = shape.geom_type
    return 'area' if name.endswith('Polygon') else 'line' if name.endswith('LineString') else None


def _id(row: dict[str, Any], columns: list[str], number: int) -> str:
    """Id of a row with its type if the file tells it, otherwise 'osm/', or 'row/' without an id."""
    for column in columns:
        match = _ID.fullmatch(str(row[column]).strip()) if _there(row[column]) else None
        if match is not None:
            stated = match[1] or str(row.get('osm_type') or row.get('element') or '').lower()
            kind = TYPES.get(stated, 'way' if column == 'osm_way_id' else 'osm')
            return f'{kind}/{match[2]}'
    return f'row/{number}'


def _row_tags(value: object) -> dict[str, str]:
    """Tags in a cell: a mapping, pairs, JSON, or hstore text."""
    if isinstance(value, dict):
        return {str(key): str(text) for key, text in value.items() if text is not None}
    if isinstance(value, str) and value.lstrip().startswith('{'):
        try:
            data = json.loads(value)
        except (ValueError, RecursionError):
            return {}
        return _row_tags(data)
    if isinstance(value, str):
        return {_plain(key): _plain(text) for key, text in _HSTORE.findall(value)}
    if value is not None and hasattr(value, '__iter__'):  # a map of Parquet comes as pairs
        return {str(pair[0]): str(pair[1]) for pair in value if len(pair) == 2}
    return {}


def _plain(text: str) -> str:
    return re.sub(r'\\(.)', r'\1', text)


def _there(value: Any) -> bool:  # noqa: ANN401 - whatever a column holds
    return value is not None and not (pd.api.types.is_scalar(value) and bool(pd.isna(value))) and value != ''


def _cell_text(value: object) -> str | None:
    return str(value) if _there(value) else None


def _whole(value: object) -> int | None:
    try:
        return int(float(str(value))) if _there(value) else None
    except (ValueError, OverflowError):
        return None
