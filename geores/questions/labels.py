"""Schemes of labels: what the labels of an image say about the classes and objects in it.

A scheme is a YAML file (`schemes/` ships those of known datasets). It holds the names of labels in
questions, the levels of classes above them, and the categories of RSVQA whose presence they decide. Each
class and category has a rule; if the rule does not decide, the labels leave open whether the class is
present, and it is not asked about.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from geores.errors import UsageError
from geores.questions.forms import LandCover, QuestionError, check_category, check_class

__all__ = [
    'LabelScheme',
    'PresenceRule',
    'SchemeError',
    'load_scheme',
    'plain_scheme',
    'scheme_for',
    'shipped_schemes',
]

OWN = ''
"""The level of the labels themselves."""


class SchemeError(UsageError):
    """A scheme of labels is invalid, or does not fit the labels."""


@dataclass(frozen=True)
class PresenceRule:
    """When the labels of an image decide that something is present or absent.

    Attributes:
        yes_with: present if the image has one of these labels.
        no_without: absent if the image has none of these labels.
        no_with: absent if the image has one of these labels and none of `yes_with`.
    """

    yes_with: frozenset[str] = frozenset()
    no_without: frozenset[str] = frozenset()
    no_with: frozenset[str] = frozenset()

    def decide(self, labels: Collection[str]) -> bool | None:
        """Whether it is present; None if the labels do not decide."""
        if not self.yes_with.isdisjoint(labels):
            return True
        if not self.no_with.isdisjoint(labels):
            return False
        return False if self.no_without and self.no_without.isdisjoint(labels) else None


@dataclass(frozen=True)
class LabelScheme:
    """How the labels of a dataset become questions.

    Attributes:
        name: name of the scheme.
        labels: name of each label in questions.
        levels: rules for the classes of each level; ``''`` is the level of the labels themselves.
        objects: rules for categories of `geores.questions.forms.Objects`.
        single: whether an image has exactly one label, which says nothing about what else it shows.
    """

    name: str
    labels: Mapping[str, str]
    levels: Mapping[str, Mapping[str, PresenceRule]]
    objects: Mapping[str, PresenceRule] = field(default_factory=dict)
    single: bool = False

    def classes(self, labels: Collection[str], level: str) -> dict[str, bool | None]:
        """Whether each class of a level is present; None if undecided.

        A name that stands for different classes on two levels ("water bodies" in CORINE) is undecided
        unless they are all present or all absent.
        """
        return {name: self._decide(name, labels) for name in self.levels[level]}

    def _decide(self, name: str, labels: Collection[str]) -> bool | None:
        found = {rules[name].decide(labels) for rules in self.levels.values() if name in rules}
        return found.pop() if len(found) == 1 else None

    def categories(self, labels: Collection[str]) -> dict[str, bool]:
        """Whether each category is present, for the categories that the labels decide."""
        answers = {category: rule.decide(labels) for category, rule in self.objects.items()}
        return {category: answer for category, answer in answers.items() if answer is not None}

    def check(self, labels: Collection[str]) -> None:
        """Raise `SchemeError` if a label is not in the scheme."""
        if unknown := set(labels) - set(self.labels):
            raise SchemeError(f'the scheme {self.name} has no label {min(unknown)!r}')


def plain_scheme(labels: Collection[str], single: bool = False) -> LabelScheme:
    """The scheme of labels about which only their names are known."""
    called = {label: _called(label) for label in sorted(labels)}
    return LabelScheme('plain', called, {OWN: _own_rules(called, single)}, single=single)


def shipped_schemes() -> dict[str, LabelScheme]:
    """The schemes that ship with geores, by name."""
    return dict(_shipped())


@cache
def _shipped() -> dict[str, LabelScheme]:
    folder = files('geores.questions') / 'schemes'
    found = sorted(
        (file for file in folder.iterdir() if file.name.endswith('.yaml')), key=lambda file: file.name
    )
    schemes = [_scheme(file.read_text(encoding='utf-8'), file.name) for file in found]
    return {scheme.name: scheme for scheme in schemes}


def scheme_for(labels: Collection[str], single: bool = False) -> LabelScheme:
    """The shipped scheme that has all these labels, or else the plain scheme."""
    for scheme in _shipped().values():
        if scheme.single == single and set(labels) <= set(scheme.labels):
            return scheme
    return plain_scheme(labels, single)


def load_scheme(source: str | Path) -> LabelScheme:
    """Load a shipped scheme by its name, or a scheme from a YAML file.

    Raises:
        SchemeError: if there is no such scheme or file, or the file is not a scheme.
    """
    if str(source) in _shipped():
        return _shipped()[str(source)]
    try:
        text = Path(source).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise SchemeError(f'{source}: no such scheme; name a YAML file or {", ".join(_shipped())}') from error
    return _scheme(text, str(source))


def _scheme(text: str, source: str) -> LabelScheme:
    try:
        record = yaml.safe_load(text)
        return _from_record(record)
    except (yaml.YAMLError, QuestionError, SchemeError, TypeError, KeyError, AttributeError) as error:
        why = f'no {error}' if isinstance(error, KeyError) else ' '.join(str(error).split())
        raise SchemeError(f'{source}: not a scheme of labels: {why}') from error


def _from_record(record: Mapping[str, Any]) -> LabelScheme:
    if unknown := set(record) - {'name', 'single', 'labels', 'levels', 'objects'}:
        raise SchemeError(f'unknown key {min(unknown)!r}')
    called = {str(label): str(name) for label, name in record['labels'].items()}
    single = bool(record.get('single', False))
    levels = {
        level: {name: _rule(rule, called) for name, rule in rules.items()}
        for level, rules in (record.get('levels') or {}).items()
    }
    objects = {name: _rule(rule, called) for name, rule in (record.get('objects') or {}).items()}
    for name in objects:
        check_category(name)
    levels[OWN] = _own_rules(called, single)
    for level in levels:
        LandCover(level)
    for name in (name for rules in levels.values() for name in rules):
        check_class(name)
    return LabelScheme(str(record['name']), called, levels, objects, single)


def _rule(record: object, labels: Collection[str]) -> PresenceRule:
    parts = {'yes_with': record, 'no_without': record} if isinstance(record, list) else record
    if not isinstance(parts, Mapping) or not all(isinstance(part, list) for part in parts.values()):
        raise SchemeError(
            f'a rule is a list of labels, or such lists by yes_with, no_without, no_with: {record}'
        )
    if unknown := {label for part in parts.values() for label in part} - set(labels):
        raise SchemeError(f'a rule names {min(map(str, unknown))!r}, which is no label')
    return PresenceRule(**{name: frozenset(part) for name, part in parts.items()})


def _own_rules(called: Mapping[str, str], single: bool) -> dict[str, PresenceRule]:
    nothing: frozenset[str] = frozenset()
    return {
        name: PresenceRule(frozenset([label]), nothing if single else frozenset([label]))
        for label, name in called.items()
    }


def _called(label: str) -> str:
    """Name of a label in questions: lower case, separate words, no "and" or "or"."""
    spaced = ''.join(
        f' {c}' if c.isupper() and p.islower() else c for p, c in zip(f' {label}', label, strict=False)
    )
    words = spaced.replace('_', ' ').replace('-', ' ').lower().split()
    name = ' '.join(words).replace(' and ', '/').replace(' or ', '/')
    check_class(name)
    return name
