"""Map tags of OpenStreetMap to categories by a table of rules in YAML, which users may replace."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from geores.errors import UsageError
from geores.questions.forms import QuestionError, check_category

__all__ = ['TagMapping', 'TagRule', 'load_mapping']

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
        """Categories of an object in the order of the rules; empty if it has none.

        Args:
            kind: kind of its geometry, 'area' or 'line'.
            tags: tags of the object.
            fclass: class name of the object in an extract without tags.
            code: number of that class.
        """
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
        raise UsageError(f'mapping {name} is not YAML: {" ".join(str(error).split())}') from error
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
