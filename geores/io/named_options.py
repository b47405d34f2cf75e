"""The base of the options of a command."""

from dataclasses import dataclass, fields
from typing import Any, Self

from geores.errors import UsageError


@dataclass(frozen=True)
class NamedOptions:
    """Base of the options of a command: a frozen dataclass."""

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Self:
        """Make options from their values by name.

        Args:
            options: name -> value; those that are left out have their default.

        Raises:
            UsageError: if a name is unknown.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise UsageError(f'option {unknown[0]!r} is unknown: options are {", ".join(known)}')
        return cls(**options)
