"""The registry of networks: a name and keyword arguments give a module."""

import difflib
from collections.abc import Callable

from torch import nn

from geores.errors import UsageError
from geores.plugins import ARCHITECTURES, Plugin, find_plugins

Builder = Callable[..., nn.Module]

_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Make a function or class known as an architecture.

    Its keyword arguments go into cards as JSON, so they have to be plain values, and the same
    arguments have to give the same modules under the same names.

    Args:
        name: name under which `create` finds it.

    Returns:
        A decorator that leaves the builder as it is.

    Raises:
        UsageError: if the name is taken.
    """

    def keep(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise UsageError(f'architecture {name!r} is registered already: choose another name')
        _BUILDERS[name] = builder
        return builder

    return keep


def architectures() -> list[str]:
    """List the names that `create` takes, sorted; those of other packages (`geores.plugins`) among them."""
    return sorted(_BUILDERS.keys() | _plugged())


def create(architecture: str, **kwargs: object) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        architecture: a name out of `architectures`.
        **kwargs: what the architecture takes; for ResNets `in_chans` (bands) and `num_classes`.

    Returns:
        The network, float32, in training mode.

    Raises:
        UsageError: if the architecture is unknown (the nearest name is suggested), cannot be imported
            from the package that offers it, or does not take one of the arguments.
    """
    builder = _find(architecture)
    try:
        return builder(**kwargs)
    except UsageError:
        raise
    except Exception as error:  # whatever a builder makes of odd arguments
        reason = ' '.join(str(error).split())
        raise UsageError(f'architecture {architecture!r} cannot be built: {reason}') from error


def _find(architecture: str) -> Builder:
    if architecture in _BUILDERS:
        return _BUILDERS[architecture]
    plugged = _plugged()
    if architecture in plugged:
        builder: Builder = plugged[architecture].load()
        # The module that was just imported may have called `register` itself.
        return _BUILDERS.setdefault(architecture, builder)
    near = difflib.get_close_matches(architecture, [*_BUILDERS, *plugged], n=1)
    hint = f': did you mean {near[0]!r}?' if near else ''
    raise UsageError(f'no architecture is named {architecture!r}{hint}')


def _plugged() -> dict[str, Plugin]:
    return {plugin.name: plugin for plugin in find_plugins(ARCHITECTURES)[0]}
