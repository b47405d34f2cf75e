"""What other installed packages add: tasks, datamodules, networks and bundles.

They declare entry points, and none of them is imported before it is used:

* `geores.tasks`: class name = a Lightning task, `geores.datasets`: class name = a Lightning datamodule,
  both known to `geores train` by that name;
* `geores.architectures`: name = a function or class that builds a network from plain arguments;
* `geores.models`: any name = a package that is a bundle, or a folder of bundles.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, distributions, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from geores.errors import UsageError

__all__ = ['ARCHITECTURES', 'DATASETS', 'MODELS', 'OURS', 'TASKS', 'Plugin', 'bundle_folders', 'find_plugins']

TASKS = 'geores.tasks'
DATASETS = 'geores.datasets'
ARCHITECTURES = 'geores.architectures'
MODELS = 'geores.models'
OURS = 'geores'

_CARD = 'card.json'


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed package.

    Attributes:
        group: one of the four.
        name: name under which it is known.
        value: what it names: `module:object`, or a package.
        point: the entry point as Python's own library gives it.
    """

    group: str
    name: str
    value: str
    point: EntryPoint = field(repr=False, compare=False)

    @property
    def project(self) -> str:
        """Name of the package that declares it."""
        dist = self.point.dist
        return (dist and dist.name) or 'an unknown package'

    @cached_property
    def package(self) -> str:
        """Name and version of the package that declares it."""
        dist = self.point.dist
        return f'{self.project} {dist.version}' if dist else self.project

    def load(self) -> Any:  # noqa: ANN401 - whatever the package offers
        """Import what it names.

        Raises:
            UsageError: if that fails, whatever the package does; the package is named.
        """
        try:
            return self.point.load()
        except (Exception, SystemExit) as error:
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise UsageError(self.complaint(f'cannot be imported ({reason})')) from error

    def complaint(self, problem: str) -> str:
        """Make a sentence on what is wrong with it."""
        return (
            f'package {self.package}: its entry point {self.name!r} of {self.group} ({self.value}) '
            f'{problem}: update or uninstall that package'
        )


def find_plugins(group: str) -> tuple[list[Plugin], list[str]]:
    """Find what packages declare in a group, from their metadata alone.

    Returns:
        Plugins of different names, geores' own first, then by package and name; and one sentence on
        each that is hidden by another of its name.
    """
    found = {Plugin(group, point.name, point.value, point) for point in _points(group)}
    known: dict[str, Plugin] = {}
    problems = []
    for plugin in sorted(found, key=lambda one: (one.project != OURS, one.package, one.name, one.value)):
        if plugin.name in known:
            other = known[plugin.name].package
            problems.append(plugin.complaint(f'is hidden by the one of that name in {other}'))
        else:
            known[plugin.name] = plugin
    return list(known.values()), problems


def _points(group: str) -> list[EntryPoint]:
    try:
        return list(entry_points(group=group))
    except Exception:  # one package's damaged metadata, which must not hide those of the others
        return [point for point in _one_by_one() if point.group == group]


def _one_by_one() -> Iterator[EntryPoint]:
    for distribution in distributions():
        try:
            yield from distribution.entry_points
        except Exception:  # noqa: S112 - pip and Python complain of it elsewhere
            continue


def bundle_folders() -> tuple[dict[str, tuple[Path, str]], list[str]]:
    """Find bundles that other packages hold, without importing these packages.

    Returns:
        Name -> (folder, package that holds it), and one sentence on each entry point without a
        bundle and each bundle that another of its name hides.
    """
    declared, problems = find_plugins(MODELS)
    known: dict[str, tuple[Path, str]] = {}
    for plugin in declared:
        folders = list(_bundles(_folders(plugin.value)))
        if not folders:
            problems.append(plugin.complaint(f'holds no bundle, which is a folder with {_CARD}'))
        for folder in folders:
            if folder.name in known:
                other = known[folder.name][1]
                problems.append(plugin.complaint(f'holds {folder.name!r}, which {other} has too'))
            else:
                known[folder.name] = (folder, plugin.package)
    return known, problems


def _folders(package: str) -> list[Path]:
    """Folders of a package. Only its topmost parent is looked up, which imports nothing."""
    top, *inner = package.split('.')
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return []
    roots = spec.submodule_search_locations if spec else None
    return list(dict.fromkeys(Path(root, *inner) for root in roots or ()))


def _bundles(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        cards = [folder / _CARD] if (folder / _CARD).is_file() else sorted(folder.glob(f'*/{_CARD}'))
        yield from (card.parent for card in cards)
