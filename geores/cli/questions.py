"""`geores questions`: make questions and answers about imagery, and describe sets of them."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli import common
from geores.cli.common import figures_table, plain_console, progress_bar
from geores.cli.option_sets import with_options
from geores.errors import UsageError
from geores.question_sets.options import LabelOptions, MakeOptions

if TYPE_CHECKING:
    from geores.question_sets.from_labels import LabelQuestionSet
    from geores.question_sets.make import QuestionSet
    from geores.question_sets.stats import Bias, QuestionStats

__all__ = ['app', 'from_labels', 'list_questions', 'make', 'stats']

Option = typer.Option

SHOWN = 6
"""Answers per question type that the table of `stats` shows."""

app = typer.Typer(
    help='Make questions and answers about imagery, and describe sets of them.',
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(name='from-labels')
@with_options(LabelOptions)
def from_labels(
    data: Annotated[
        Path,
        typer.Argument(
            metavar='DATA',
            help='Folder with multilabels.csv or labels.csv, or with one folder per class; '
            'or a Parquet table.',
        ),
    ],
    out: Annotated[Path, Option('--out', '-o', help='Folder for the questions.')],
    *,
    options: LabelOptions,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace questions in --out.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Make questions and answers from labels alone, in the layout of RSVQA."""
    from geores.question_sets.from_labels import questions_from_labels

    with progress_bar(data.name, shown=not as_json, quiet=quiet, unit='images') as progress:
        made = questions_from_labels(data, out, options, overwrite=overwrite, progress=progress)
    print(json.dumps(asdict(made))) if as_json else _print_label_set(made)


def _print_label_set(made: 'LabelQuestionSet') -> None:
    """Print numbers of questions and answers, and where they lie."""
    console = plain_console()
    types = ', '.join(f'{number:,} {name}' for name, number in made.types.items())
    console.print(
        f'{made.questions:,} questions about {made.images:,} images ({types}) by the scheme {made.scheme}: '
        f'{made.answers["yes"]:,} yes, {made.answers["no"]:,} no, {made.answers["others"]:,} other answers',
        soft_wrap=True,
    )
    console.print(f'questions: {made.folder}', soft_wrap=True)


@app.command(name='make')
@with_options(MakeOptions)
def make(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar='SCENE...',
            help='GeoTIFF, folder of bands or Sentinel-2 product; a blank GeoTIFF where there is only OSM.',
        ),
    ],
    osm: Annotated[
        list[str],
        Option(help='.osm.pbf, GeoPackage, GeoParquet, Shapefile, GeoJSON or Overpass JSON (repeatable).'),
    ],
    out: Annotated[Path, Option('--out', '-o', help='Folder for the dataset.')],
    *,
    options: MakeOptions,
    preview: Annotated[int, Option(help='Pictures of tiles to make.')] = 0,
    jobs: Annotated[int | None, Option(help='Processes [the cores].')] = None,
    resume: common.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace the dataset in --out.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object on one line.')] = False,
) -> None:
    """Cut scenes into tiles and ask questions of each, with answers from OpenStreetMap.

    A run that was stopped continues when the command is given again.
    """
    from geores.question_sets.make import make_questions

    if jobs is not None and jobs < 1:
        raise UsageError(f'jobs has to be at least 1, not {jobs}')
    if preview < 0:
        raise UsageError(f'preview has to be 0 or more, not {preview}')
    with progress_bar(out.name, shown=not as_json, quiet=quiet) as progress:
        made = make_questions(
            scenes,
            osm,
            out,
            options,
            jobs=jobs or common.cores(),
            preview=preview,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    _print_json(made) if as_json else _print_set(made)


def _print_json(made: 'QuestionSet') -> None:
    record = {
        'out': str(made.folder),
        'tiles': made.tiles,
        'questions': made.questions,
        'dropped': made.dropped,
        'notes': list(made.notes),
    }
    print(json.dumps(record), flush=True)


def _print_set(made: 'QuestionSet') -> None:
    """Print notes, a table of questions per type, tiles per part, and where the dataset lies."""
    for note in made.notes:
        print(f'note: {note}', file=sys.stderr)
    console = plain_console()
    table = figures_table('type', 'questions', title=f'{sum(made.questions.values()):,} questions')
    for kind, count in sorted(made.questions.items()):
        table.add_row(kind, f'{count:,}')
    console.print(table)
    kept = ', '.join(
        f'{made.tiles[part]:,} {part}' for part in ('train', 'val', 'test') if part in made.tiles
    )
    dropped = ', '.join(f'{count:,} {why}' for why, count in sorted(made.dropped.items()))
    console.print(f'tiles: {kept}{f"; left out: {dropped}" if dropped else ""}', soft_wrap=True)
    console.print(f'dataset: {made.folder} (ODbL: see ATTRIBUTION.txt)', soft_wrap=True)


@app.command(name='stats')
def stats(
    folder: Annotated[Path, typer.Argument(metavar='DIR', help='Folder of questions in the RSVQA layout.')],
    encoding: Annotated[
        str, Option(help='How numbers are counted: raw, lr or hr (the bins of RSVQA), or auto.')
    ] = 'auto',
    plot: Annotated[Path | None, Option(metavar='FILE', help='Draw them: PNG, PDF, SVG.')] = None,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Describe questions: types, answers, and how much the question alone gives away."""
    from geores.question_sets.stats import describe_questions, plot_stats

    found, used = describe_questions(folder, encoding)
    if plot is not None:
        plot_stats(found, plot)
    if as_json:
        print(json.dumps({'folder': str(folder), 'encoding': used} | found.to_dict()))
        return
    _print_stats(folder, found, used)
    if plot is not None:
        print(f'plot: {plot}')


@app.command(name='list')
def list_questions(
    data: Annotated[list[Path], typer.Argument(metavar='DATA...', help='Folder in the layout of RSVQA.')],
    out: Annotated[Path, Option('--out', '-o', metavar='FILE', help='JSON lines to write.')],
    split: Annotated[str, Option(help='all, or an official part: train, val, test or test_phili.')] = 'all',
    paraphrases: Annotated[int, Option(help='Most other wordings of each question.')] = 0,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace FILE.')] = False,
) -> None:
    """Write the questions that a system is to answer, for geores evaluate --predictions."""
    from geores.evaluation.prediction_file import write_questions

    asked, reworded = write_questions(data, out, split=split, paraphrases=paraphrases, overwrite=overwrite)
    print(
        f'{out}: {asked:,} questions, and {reworded:,} of these in other words'
        if reworded
        else f'{out}: {asked:,} questions'
    )


def _print_stats(folder: Path, found: 'QuestionStats', encoding: str) -> None:
    from rich.table import Table

    console = plain_console()
    fewest, mean, most = found.per_image
    console.print(
        f'{folder}: {found.questions:,} questions ({found.texts:,} different texts) about {found.images:,} '
        f'images, {fewest} to {most} each (mean {mean:.1f}); numbers counted as {encoding}',
        soft_wrap=True,
    )
    answers = Table('type', 'questions', 'share', 'texts', 'answers')
    for name, kind in found.types.items():
        shown = [
            f'{text} {number / kind.questions:.1%}' for text, number in list(kind.answers.items())[:SHOWN]
        ]
        more = [f'{len(kind.answers) - SHOWN:,} more'] if len(kind.answers) > SHOWN else []
        answers.add_row(
            name, f'{kind.questions:,}', f'{kind.share:.1%}', f'{kind.texts:,}', ', '.join(shown + more)
        )
    console.print(answers)
    bias = Table(
        'accuracy without the image',
        'of the type',
        'left out',
        'of the question',
        'left out',
        title='Answering with the commonest answer (left out: that of other images)',
        title_justify='left',
    )
    for name, kind in found.types.items():
        bias.add_row(name, *_bias_cells(kind.bias))
    bias.add_row('all questions', *_bias_cells(found.bias))
    bias.add_row('mean of types', *_bias_cells(found.mean_bias))
    console.print(bias)


def _bias_cells(bias: 'Bias') -> list[str]:
    figures = (bias.type_resubstitution, bias.type_left_out, bias.text_resubstitution, bias.text_left_out)
    return [f'{figure:.1%}' for figure in figures]
