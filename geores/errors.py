"""Every error that geores raises on purpose.

Each is also one of Python's own kinds, so that callers can catch either. A message says in one line
what is wrong, in which file or argument, and what to do about it. The command line ends with exit
code 2 for `UsageError` and its subclasses (the user's to mend) and 1 for every other `GeoresError`.
Messages show addresses without what gives access to the file behind them (`without_secrets`), and text from
files without what would steer a terminal (`printable`).

Classifying and looking at scenes works with what `pip install geores` brings; training, asking and the
reBEN formats need more. What is missing is said in one line that names the extra.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Final

__all__ = [
    'EXTRAS',
    'BandError',
    'BundleError',
    'DatasetError',
    'GeoresError',
    'InputChangedError',
    'JournalError',
    'MissingExtraError',
    'ModelNotFoundError',
    'OutputError',
    'ReadError',
    'SceneError',
    'UsageError',
    'WriteError',
    'import_extra',
    'missing_extra',
    'printable',
    'without_secrets',
]


class GeoresError(Exception):
    """Base of all errors of geores: its message is one line, without secrets and control characters."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(_shown(arg) if isinstance(arg, str) else arg for arg in args))


def _shown(text: str) -> str:
    """A message as people see it: what other libraries say may go over several lines."""
    return printable(without_secrets(re.sub(r'\s*\n\s*', ' ', text.strip())))


class UsageError(GeoresError, ValueError):
    """An argument or an input file is not usable as given: the user's to mend."""


class SceneError(UsageError, OSError):
    """A scene cannot be opened: missing, not a raster, or of a driver that is not allowed."""


class BandError(UsageError, LookupError):
    """A band that is needed is not in the scene."""


class BundleError(UsageError):
    """A model bundle is incomplete, contradicts itself, or is not a bundle at all."""


class ModelNotFoundError(UsageError, LookupError):
    """No bundle of that name or path exists."""


class DatasetError(UsageError):
    """A dataset's folder, table or split is not as its adapter expects."""


class OutputError(UsageError, OSError):
    """An output exists already, would be too large, or cannot be written where it should go."""


class JournalError(UsageError):
    """Work in progress belongs to other inputs, weights or options."""


class ReadError(GeoresError, OSError):
    """Pixels could not be read; carries the path and the window."""


class InputChangedError(ReadError):
    """An input was changed while it was read: what was computed would be a mixture, and is dropped."""


class WriteError(GeoresError, OSError):
    """Results could not be written, as on a full disk."""


# Control characters of ASCII and of Latin-1 but for the end of a line and the tab; marks that turn the
# direction of writing, so that a name reads as another; ends of lines of Unicode; halves of characters.
_STEERING: Final = re.compile(
    '[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]'
)

_URL: Final = re.compile(
    r"""
    (?P<kept>[a-z][a-z0-9+.-]*://)
    (?:[^/\s'"?\#]*@)?                           # user and password
    (?P<place>[^\s'"?\#]*)
    (?:[?\#][^\s'"]*?(?=[:,;.)\]]*(?:[\s'"]|$)))?  # query, without the sentence's own punctuation
    """,
    re.IGNORECASE | re.VERBOSE,
)
_VIRTUAL: Final = re.compile(r"""(/vsi\w+)\?[^\s'"]*""")


def without_secrets(text: str) -> str:
    """Cut user, password, query and fragment off every URL in a text.

    Signed addresses keep their tokens in the query, under names that differ from host to host, so that
    none of it is kept. GDAL's own ``/vsicurl?...``, all query, is cut likewise.

    >>> without_secrets('https://me:key@host/a.tif?sig=abc: no such file')
    'https://host/a.tif: no such file'
    """
    return _VIRTUAL.sub(r'\1', _URL.sub(r'\g<kept>\g<place>', text))


def printable(text: str) -> str:
    r"""Write the characters of a text that would steer a terminal, or hide what it says, as escapes.

    >>> printable('wood\x1b[2J')
    'wood\\x1b[2J'
    """
    return _STEERING.sub(lambda found: found[0].encode('unicode_escape').decode(), text)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Ask whether the most similar of some names was meant; nothing where none is similar.

    >>> did_you_mean('resnet81', ['resnet18', 'vit'])
    "did you mean 'resnet18'?"
    """
    near = get_close_matches(name, list(names), n=1)
    return f'did you mean {near[0]!r}?' if near else ''


EXTRAS: Final = {
    'dask': 'dask',
    'distributed': 'dask',
    'huggingface_hub': 'hub',
    'jsonargparse': 'train',
    'lightning': 'train',
    'lmdb': 'reben',
    'onnx': 'onnx',
    'onnxruntime': 'onnx',
    'openvino': 'fast',
    'osmium': 'osm',
    's2cloudless': 'clouds',
    'segmentation_models_pytorch': 'segmentation',
    'sklearn': 'train',
    'tokenizers': 'vqa',
    'torchgeo': 'train',
    'torchmetrics': 'train',
    'transformers': 'vqa',
}
"""Module -> the extra that installs it."""


class MissingExtraError(UsageError, ImportError):
    """What was asked for needs a package that is not installed; the message names its extra."""

    def __init__(self, module: str, need: str | None = None) -> None:
        need = need or f'this needs the package {module}, which is not installed'
        super().__init__(f'{need}: pip install "geores[{EXTRAS[module]}]"')
        self.name = module


def missing_extra(error: ImportError) -> MissingExtraError | None:
    """Say which extra a failed import needs.

    Args:
        error: what an import raised.

    Returns:
        The error to raise instead, or None where no extra of geores brings the module.
    """
    module = (error.name or '').partition('.')[0]
    if not isinstance(error, ModuleNotFoundError) or module not in EXTRAS:
        return None
    return MissingExtraError(module)


def import_extra(module: str, need: str | None = None) -> ModuleType:
    """Import a module that an extra brings, or say which extra does.

    Args:
        module: name of the module, within one of `EXTRAS`.
        need: what needs it, as the message says it; None says that this does.

    Raises:
        MissingExtraError: if it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition('.')[0], need) from error
