"""How a check fails."""

from typing import Any

__all__ = ['require', 'sequence_of_names']


def require(holds: object, broken: str, remedy: str) -> None:
    """Raise `AssertionError` with both sentences where something does not hold.

    Args:
        holds: Whatever is true or false.
        broken: What is wrong.
        remedy: What to do about it.
    """
    if not holds:
        raise AssertionError(f'{broken}: {remedy}')


def sequence_of_names(owner: object, name: str, meaning: str) -> tuple[str, ...]:
    """An attribute that has to hold one or more names, each once.

    Args:
        owner: Of the attribute.
        name: Of the attribute.
        meaning: What the names are, for the remedy.
    """
    kind = type(owner).__name__
    values: Any = getattr(owner, name, None)
    remedy = f'give it the {meaning} as a tuple of different names, in order'
    require(values is not None, f'{kind} has no attribute {name!r}', remedy)
    listed = isinstance(values, (tuple, list)) and len(values) > 0
    require(
        listed and all(isinstance(one, str) and one for one in values), f'{kind}.{name} is {values!r}', remedy
    )
    require(len(set(values)) == len(values), f'{kind}.{name} holds a name twice ({values!r})', remedy)
    return tuple(values)
