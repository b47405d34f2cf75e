"""Options of a command, by name."""

from dataclasses import dataclass, fields
from typing import Any, Self

from geores.errors import UsageError


@dataclass(frozen=True)
class NamedOptions:
    """Base of the options of a command: a frozen dataclass."""

    @classmethod
    def of(cls, options: dict[str, Any]) -> Self:
        """Options by name; an unknown one is a `UsageError`."""
        known = [field.name for field in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise UsageError(f'option {unknown[0]!r} is unknown: options are {", ".join(known)}')
        return cls(**options)
