"""Every error that geores raises on purpose.

Each is also one of Python's own kinds, so that callers can catch either. A message says in one line
what is wrong, in which file or argument, and what to do about it. The command line ends with exit
code 2 for `UsageError` and its subclasses (the user's to mend) and 1 for every other `GeoresError`.
Messages show addresses without what gives access to the file behind them (`without_secrets`), and text from
files without what would steer a terminal (`printable`).
"""

import re
from typing import Final

__all__ = [
    'BandError',
    'BundleError',
    'DatasetError',
    'GeoresError',
    'InputChangedError',
    'JournalError',
    'ModelNotFoundError',
    'OutputError',
    'ReadError',
    'SceneError',
    'UsageError',
    'WriteError',
    'printable',
    'without_secrets',
]


class GeoresError(Exception):
    """Base of all errors of geores; its message holds no secrets of addresses, and no control characters."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(without_secrets(arg)) if isinstance(arg, str) else arg for arg in args))


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
