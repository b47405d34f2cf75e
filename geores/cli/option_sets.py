"""Options of commands as dataclasses declare them, on the command line and in tables of pages."""

import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from geores.cli.common import listed, numbers, parse_size
from geores.options import NamedOptions

__all__ = ['option_table', 'with_options']

_WRITTEN: dict[str, Any] = {'again': list[str], 'box': tuple[float, float, float, float]}


def with_options(
    kind: type[NamedOptions], *, into: str = 'options'
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a dataclass in place of one parameter, which gets the dataclass.

    Args:
        kind: dataclass of the options.
        into: parameter of the command that is replaced.
    """
    hints = get_type_hints(kind)
    offered = fields(kind)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:  # noqa: ANN401 - typer gives what the signature below says
            values = {one.name: _read(one, given.pop(one.name)) for one in offered}
            command(**given, **{into: kind.from_options(values)})

        signature, parameters = inspect.signature(command), []
        for parameter in signature.parameters.values():
            if parameter.name == into:
                parameters += [_parameter(one, hints[one.name]) for one in offered]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def option_table(kind: type[NamedOptions]) -> str:
    """A table of options in Markdown: the flag, its default and its help.

    Args:
        kind: dataclass of the options.
    """
    rows = ['| option | default | meaning |', '|---|---|---|']
    for one in fields(kind):
        default = '' if one.default in (None, False) else f'`{_shown(one)}`'
        rows.append(f'| `{_flag(one)}` | {default} | {one.metadata["help"]} |')
    return '\n'.join(rows) + '\n'


def _flag(one: Field[Any]) -> str:
    return '--' + one.name.replace('_', '-')


def _parameter(one: Field[Any], hint: Any) -> inspect.Parameter:  # noqa: ANN401 - a type
    """What typer reads an option from."""
    written = one.metadata['written']
    flags = [_flag(one)] if hint is bool else []  # without --no-...
    info = typer.Option(*flags, help=one.metadata['help'], metavar=one.metadata['metavar'])
    kind = _WRITTEN.get(written, str) if written else _plain_type(hint)
    optional = kind | None if one.default is None else kind
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=_shown(one),
        annotation=Annotated[optional, info],
    )


def _plain_type(hint: Any) -> Any:  # noqa: ANN401 - types
    """The type of a value that the command line reads: the first of several, and text for choices."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [str if get_origin(part) is Literal else part for part in parts if part is not NoneType]
    return kinds[0]


def _shown(one: Field[Any]) -> Any:  # noqa: ANN401 - a default
    """The default of an option as the command line writes it."""
    default: Any = one.default
    if one.metadata['written'] == 'size':
        return f'{int(default) // 2**30}G'
    return default


def _read(one: Field[Any], value: Any) -> Any:  # noqa: ANN401 - of any type
    """The value of an option from what the command line gives."""
    match one.metadata['written']:
        case 'names':
            return listed(value)
        case 'numbers':
            return numbers(value, _flag(one))
        case 'size':
            return parse_size(value)
        case 'again':
            return value or None
    return value
