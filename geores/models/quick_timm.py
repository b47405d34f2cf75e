"""timm, imported without torch's compiler.

torchvision and timm take two names from the compiler as they are imported, which takes longer than torch
itself does. Stand-ins give them the same when something is compiled, or a region pooled.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch._compile import _disable_dynamo

__all__ = ['timm']

_COMPILER, _UTILS = 'torch._dynamo', 'torch._dynamo.utils'


@contextmanager
def _compiler_later() -> Iterator[None]:
    """Stand in for the compiler until the end of the block, or until more of it is asked for."""
    if _COMPILER in sys.modules:
        yield
        return
    stands_in = {name: _stand_in(name) for name in (_COMPILER, _UTILS)}
    compiler: Any = stands_in[_COMPILER]
    compiler.disable = _disable
    utils: Any = stands_in[_UTILS]
    utils.is_compile_supported = _is_compile_supported
    compiler.utils = utils
    sys.modules.update(stands_in)
    try:
        yield
    finally:
        _remove(stands_in.values())


def _stand_in(name: str) -> ModuleType:
    module: Any = ModuleType(name)

    def load(attribute: str) -> Any:  # noqa: ANN401 - whatever the compiler has
        # `inspect` and the import system ask these of every module; a package alone has a path.
        if attribute.startswith('__') and (attribute, name) != ('__path__', _COMPILER):
            raise AttributeError(attribute)
        held: list[Any] = [sys.modules.get(one) for one in (_COMPILER, _UTILS)]
        _remove(one for one in held if hasattr(one, 'stands_in'))
        return getattr(importlib.import_module(name), attribute)

    module.stands_in = True
    module.__getattr__ = load
    return module  # type: ignore[no-any-return]


def _remove(modules: Iterable[Any]) -> None:
    """Take modules away where they stand in, if they were not taken away already."""
    for module in modules:
        name = module.__name__
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _disable(function: Callable[..., Any] | None = None, recursive: bool = True, **_: Any) -> Any:  # noqa: ANN401
    """As torch marks its own functions: the compiler is imported when one is called."""
    return _disable_dynamo(function, recursive)


def _is_compile_supported(device: str) -> Any:  # noqa: ANN401 - a truth value
    return importlib.import_module(_UTILS).is_compile_supported(device)


with _compiler_later():
    import timm
