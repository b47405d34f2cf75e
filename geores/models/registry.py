"""The registry of networks (a name and keyword arguments give a module), and the networks of timm in it.

Those are built by what shapes them and nothing else, with any number of bands: all ResNets; the
EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation and with ReLU6), small networks that are
quick on CPUs, of which those named `tf_` pad as TensorFlow does and take weights that were trained there;
and what published models of BigEarthNet v2 use beside ResNets. Transformers and mixers count tokens from
the size of their input, so that they take `img_size`.
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from functools import cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.overrides import TorchFunctionMode

from geores.errors import UsageError
from geores.plugins import ARCHITECTURES, Plugin, find_plugins

Builder = Callable[..., nn.Module]

_BUILDERS: dict[str, Builder] = {}

OWN = 'geores.'
"""Start of the modules whose architectures are known not to have a name of timm's."""


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
        home = getattr(builder, 'func', builder).__module__
        if name in _BUILDERS or (not home.startswith(OWN) and name in timm_builders()):
            raise UsageError(f'architecture {name!r} is registered already: choose another name')
        _BUILDERS[name] = builder
        return builder

    return keep


def architectures() -> list[str]:
    """List the names that `create` takes, sorted; those of other packages (`geores.plugins`) among them."""
    return sorted({*_BUILDERS, *timm_builders(), *_plugged()})


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
        raise UsageError(f'architecture {architecture!r} cannot be built: {error}') from error


def _find(architecture: str) -> Builder:
    if architecture in _BUILDERS:
        return _BUILDERS[architecture]
    if architecture in timm_builders():
        return timm_builders()[architecture]
    plugged = _plugged()
    if architecture in plugged:
        builder: Builder = plugged[architecture].load()
        # The module that was just imported may have called `register` itself.
        return _BUILDERS.setdefault(architecture, builder)
    near = difflib.get_close_matches(architecture, [*_BUILDERS, *timm_builders(), *plugged], n=1)
    hint = f': did you mean {near[0]!r}?' if near else ''
    raise UsageError(f'no architecture is named {architecture!r}{hint}')


def _plugged() -> dict[str, Plugin]:
    return {plugin.name: plugin for plugin in find_plugins(ARCHITECTURES)[0]}


_DROPS = frozenset({'drop_rate', 'drop_path_rate'})
_SIZED = _DROPS | {'img_size'}

_PUBLISHED_ARGUMENTS = {
    'convmixer_768_32': frozenset({'drop_rate'}),
    'convnextv2_base': _DROPS,
    'mixer_b16_224': _SIZED,
    'mobilenetv4_hybrid_medium': _DROPS,
    'mobilevit_s': _DROPS,
    'rdnet_base': _DROPS,
    'vit_base_patch8_224': _SIZED,
}

SIZED = frozenset(name for name, arguments in _PUBLISHED_ARGUMENTS.items() if 'img_size' in arguments)
"""Networks that are built for one size of input."""


def create_timm(
    name: str,
    arguments: Set[str],
    *,
    in_chans: int = 3,
    num_classes: int = 1000,
    pretrained: bool = False,
    **kwargs: Any,  # noqa: ANN401
) -> nn.Module:
    """Build a network of timm.

    A card is data from elsewhere: timm's own switches (`checkpoint_path`, `pretrained_cfg` ...) could
    make it read a pickle or the network, so only what shapes the network passes.

    Args:
        name: timm's name.
        arguments: names of further arguments that pass.
        in_chans: number of bands.
        num_classes: number of labels; 0 gives pooled features.
        pretrained: take timm's weights, from the network.
        **kwargs: further arguments.

    Raises:
        UsageError: if an argument is not one that passes.
    """
    timm = import_timm()

    unknown = sorted(kwargs.keys() - arguments)
    if unknown:
        raise UsageError(f'architecture {name!r} takes no argument {unknown[0]!r}')
    network = timm.create_model(
        name, pretrained=pretrained, in_chans=in_chans, num_classes=num_classes, **kwargs
    )
    if not isinstance(network, nn.Module):
        raise UsageError(f'architecture {name!r} gave no module')
    return network


def _lite(name: str, *, stem_stride: int = 2, **kwargs: Any) -> nn.Module:  # noqa: ANN401
    """Build one; a `stem_stride` of 1 looks at small tiles twice as finely."""
    if stem_stride not in {1, 2}:
        raise UsageError(f'stem_stride has to be 1 or 2, not {stem_stride!r}')
    network = create_timm(name, _DROPS, **kwargs)
    stem: Any = network.conv_stem
    stem.stride = (stem_stride, stem_stride)
    return network


@cache
def timm_builders() -> dict[str, Builder]:
    """The networks of timm by name; timm is imported here and not before, for that takes long."""
    timm = import_timm()

    shapes = frozenset(inspect.signature(timm.models.resnet.ResNet).parameters) - {'block', 'layers'}
    found: dict[str, Builder] = {
        name: partial(create_timm, name, shapes) for name in timm.list_models(module='resnet')
    }
    found |= {name: partial(_lite, name) for name in timm.list_models('*efficientnet_lite*')}
    # Older versions lack some of those that were published.
    published = {name: taken for name, taken in _PUBLISHED_ARGUMENTS.items() if timm.is_model(name)}
    return found | {name: partial(create_timm, name, taken) for name, taken in published.items()}


@contextmanager
def without_memory() -> Iterator[None]:
    """Networks that are made in the block have shapes alone: they take no memory, and nothing is drawn."""
    with torch.device('meta'), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Makes and leaves tensors as they are where random numbers would fill them.

    On the meta device there is nothing to fill, and torch would import its compiler to see that, for seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **{key: value for key, value in kwargs.items() if key != 'generator'})
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, '__module__', None) == nn.init.__name__:
            return args[0] if args else kwargs['tensor']
        return func(*args, **kwargs)


_COMPILER, _UTILS = 'torch._dynamo', 'torch._dynamo.utils'


@cache
def import_timm() -> ModuleType:
    """Import timm without torch's compiler.

    torchvision and timm take two names from the compiler as they are imported, which takes longer than torch
    itself does. Stand-ins give them the same when something is compiled, or a region pooled.
    """
    with _compiler_later():
        return importlib.import_module('timm')


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
