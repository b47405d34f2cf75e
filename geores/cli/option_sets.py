"""Options of commands as dataclasses declare them, on the command line and in tables of pages."""

import inspect
import re
from collections.abc import Callable
from dataclasses import Field, fields
from functools import wraps
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from geores.cli.common import listed, numbers, parse_size
from geores.errors import UsageError
from geores.options import NamedOptions

__all__ = ['fill_tables', 'option_table', 'with_options']

_WRITTEN: dict[str, Any] = {
    'again': list[str],
    'box': tuple[float, float, float, float],
    'pair': tuple[float, float],
}


def with_options(
    kind: type[NamedOptions], *, into: str = 'options'
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a dataclass in place of one parameter, which gets the dataclass."""
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
    """A table of options in Markdown: the flag, its default and its help."""
    rows = ['| option | default | meaning |', '|---|---|---|']
    for one in fields(kind):
        default = '' if one.default in (None, False) else f'`{_shown(one)}`'
        rows.append(f'| `{_flag(one)}` | {default} | {_cell(one)} |')
    return '\n'.join(rows) + '\n'


def _cell(one: Field[Any]) -> str:
    """The help as a cell: bars would end it."""
    return str(one.metadata['help']).replace('|', '\\|')


def fill_tables(page: str) -> str:
    """Write the tables of options anew that a page holds.

    Args:
        page: Markdown; a line `<!-- options of MODULE:CLASS -->` stands before each table.
    """

    def table(match: re.Match[str]) -> str:
        module, _, name = match[2].partition(':')
        return f'{match[1]}\n' + option_table(getattr(import_module(module), name))

    return re.sub(r'(<!-- options of ([\w.:]+) -->\n)\n?(?:\|.*\n)*', table, page)


def _flag(one: Field[Any]) -> str:
    return '--' + one.name.replace('_', '-')


def _parameter(one: Field[Any], hint: Any) -> inspect.Parameter:  # noqa: ANN401 - a type
    """What typer reads an option from."""
    written = one.metadata['written']
    flags = [_flag(one)] if hint is bool and not one.default else []  # without --no-...
    info = typer.Option(*flags, help=one.metadata['help'], metavar=one.metadata['metavar'])
    kind = _WRITTEN.get(written, str) if written else _plain_type(hint)
    optional = kind | None if one.default is None else kind
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=_shown(one), annotation=Annotated[optional, info]
    )


def _plain_type(hint: Any) -> Any:  # noqa: ANN401 - types
    """The type of a value that the command line reads: the first of several, and text for choices."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [str if get_origin(part) is Literal else part for part in parts if part is not NoneType]
    return kinds[0]


def _shown(one: Field[Any]) -> Any:  # noqa: ANN401 - a default
    """The default of an option as the command line writes it."""
    default: Any = one.default
    if one.metadata['written'] == 'decimals' and default is not None:
        return ','.join(f'{number:g}' for number in default)
    if one.metadata['written'] == 'names' and default is not None:
        return ','.join(default)
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
        case 'decimals':
            return _decimals(value, one)
        case 'pairs':
            return _pairs(value, one)
        case 'size':
            return parse_size(value)
        case 'again':
            return value or None
    return value


def _decimals(text: str | None, one: Field[Any]) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(number) for number in listed(text) or [])
    except ValueError as error:
        example = '' if one.default is None else f', such as {_shown(one)}'
        raise UsageError(f'{_flag(one)} takes numbers separated by commas{example}, not {text!r}') from error


def _pairs(text: str | None, one: Field[Any]) -> dict[str, str] | None:
    """Pairs of names such as ``lake=water,wood=forest``."""
    pairs = {}
    for pair in listed(text) or []:
        old, _, new = (part.strip() for part in pair.partition('='))
        if not old or not new or '=' in new:
            raise UsageError(f'{_flag(one)} takes OLD=NEW separated by commas, not {text!r}')
        pairs[old] = new
    return pairs or None
