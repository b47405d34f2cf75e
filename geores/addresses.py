"""Addresses as they may be shown and kept: without what gives access to the file behind them."""

import re
from typing import Final

__all__ = ['without_secrets']

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
