"""Options that are declared once: on the command line, in Python and on pages."""

import inspect
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import geores
from geores.classification.options import AskOptions, ClassifyOptions
from geores.cli.option_sets import fill_tables, option_table, with_options
from geores.errors import UsageError
from geores.options import AuditOptions, EvaluateOptions, NamedOptions, SplitOptions, option, takes
from geores.training.finetune_options import FinetuneOptions

PAGE = Path(__file__).parents[2] / 'docs/commands.md'
KINDS = (ClassifyOptions, AskOptions, FinetuneOptions, EvaluateOptions, SplitOptions, AuditOptions)


@dataclass(frozen=True)
class Options(NamedOptions):
    size: int | None = option(None, 'Pixels [all].')
    bands: list[str] | None = option(None, 'Names.', written='names')
    values: list[int] | None = option(None, 'Numbers.', written='numbers')
    shares: tuple[float, ...] = option((0.5, 0.25), 'Shares.', written='decimals')
    limit: int = option(2**30, 'Bytes.', written='size')
    box: tuple[float, ...] | None = option(None, 'Edges.', written='box')
    mask: list[str] | None = option(None, 'Files.', written='again')
    names: dict[str, str] | None = option(None, 'Pairs.', written='pairs')
    fast: bool = option(False, 'Be quick | or not.')


app = typer.Typer(rich_markup_mode=None)
seen = []


@app.command()
@with_options(Options)
def work(scene: str, *, options: Options, out: str = 'x') -> None:
    seen.append((scene, options, out))


def run(*args):
    seen.clear()
    result = CliRunner().invoke(app, args)
    return seen[0] if seen else result


def test_defaults():
    assert run('a') == ('a', Options(), 'x')


def test_what_is_written_is_read():
    given = '--size 3 --bands B02,B03 --values 1,-2 --shares 1,0.5 --limit 2G --box 1 2 3 4'
    more = '--mask a --mask b --names x=y --fast --out y'
    expected = Options(
        size=3,
        bands=['B02', 'B03'],
        values=[1, -2],
        shares=(1.0, 0.5),
        limit=2**31,
        box=(1.0, 2.0, 3.0, 4.0),
        mask=['a', 'b'],
        names={'x': 'y'},
        fast=True,
    )
    assert run('a', *given.split(), *more.split()) == ('a', expected, 'y')


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        ('--values 1,b', '--values takes whole numbers'),
        ('--shares a', '--shares takes numbers separated by commas, such as 0.5,0.25'),
        ('--limit big', '8G'),
        ('--names x', '--names takes OLD=NEW'),
    ],
)
def test_what_cannot_be_read(given, said):
    failed = run('a', *given.split())
    assert isinstance(failed.exception, UsageError)
    assert said in str(failed.exception)


def test_help_and_table():
    told = CliRunner().invoke(app, ['--help']).output
    assert 'Pixels [all].' in told
    assert '--no-fast' not in told
    rows = option_table(Options).splitlines()
    assert rows[2] == '| `--size` |  | Pixels [all]. |'
    assert '| `--limit` | `1G` | Bytes. |' in rows
    assert rows[-1] == '| `--fast` |  | Be quick \\| or not. |'


def test_a_function_takes_them():
    @takes(Options)
    def work(scene: str, *, size: int = 1, **options: object) -> object:
        """Work.

        Args:
            scene: a path.
            **options: options of `Options`,
                which are many.

        Returns:
            What was given.
        """
        return Options.from_options(options)

    names = list(inspect.signature(work).parameters)
    assert names == ['scene', 'size', 'bands', 'values', 'shares', 'limit', 'box', 'mask', 'names', 'fast']
    assert '**options' not in work.__doc__
    assert 'which are many' not in work.__doc__
    assert '            limit: Bytes.\n' in work.__doc__
    assert '        Returns:' in work.__doc__
    assert work('a', limit=3) == Options(limit=3)
    with pytest.raises(UsageError, match=r"option 'sise' is unknown: options are size"):
        work('a', sise=3)


@pytest.mark.parametrize('kind', KINDS)
def test_every_option_has_help(kind):
    for one in fields(kind):
        assert one.metadata['help'].endswith('.'), one.name


@pytest.mark.parametrize(
    ('function', 'kind'),
    [
        (geores.classify, ClassifyOptions),
        (geores.classify_many, ClassifyOptions),
        (geores.ask, AskOptions),
        (geores.finetune, FinetuneOptions),
        (geores.evaluate, EvaluateOptions),
    ],
)
def test_python_says_all_of_them(function, kind):
    parameters = inspect.signature(function).parameters
    for one in fields(kind):
        assert parameters[one.name].default == one.default
        assert f'{one.name}: {one.metadata["help"]}' in function.__doc__


def test_tables_of_the_page_are_those_of_the_options():
    page = PAGE.read_text(encoding='utf-8')
    assert fill_tables(page) == page, 'run python .ci/option_tables.py docs/commands.md'
    assert page.count('<!-- options of ') == len(KINDS)
