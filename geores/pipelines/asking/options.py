"""What a user can ask of `ask`."""

from dataclasses import fields
from typing import Any

from geores.errors import UsageError
from geores.pipelines.options import ClassifyOptions

__all__ = ['look_options']

_OTHER = (
    *('threshold', 'compile', 'stride', 'linear_s1'),
    *('probabilities', 'polygons', 'min_area', 'simplify', 'colours'),
)
"""Options of a classification that mean nothing here."""


def look_options(options: dict[str, Any]) -> tuple[ClassifyOptions, int | None]:
    """Options of looking at a scene, and how many tiles count as evidence.

    Args:
        options: By name.

    Raises:
        UsageError: One is unknown or out of range.
    """
    known = [field.name for field in fields(ClassifyOptions) if field.name not in _OTHER]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f'option {unknown[0]!r} is unknown: options are {", ".join(known)}')
    chosen = dict(options)
    top_k = chosen.pop('top_k', None)
    if top_k is not None and top_k < 1:
        raise UsageError(f'top-k must be at least 1, not {top_k}')
    return ClassifyOptions.of(chosen), top_k
