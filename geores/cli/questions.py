"""`geores questions`: make questions and answers about imagery, and describe sets of them."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli import common
from geores.cli.common import figures_table, listed, numbers, plain_console, progress_bar
from geores.errors import UsageError

if TYPE_CHECKING:
    from geores.question_sets.from_labels import LabelQuestionSet
    from geores.question_sets.make import QuestionSet
    from geores.question_sets.stats import Bias, QuestionStats

__all__ = ['app', 'from_labels', 'list_questions', 'make', 'stats']

Option = typer.Option
Box = tuple[float, float, float, float]
Pair = tuple[float, float]

SHOWN = 6
"""Answers per question type that the table of `stats` shows."""

app = typer.Typer(
    help='Make questions and answers about imagery, and describe sets of them.',
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(name='from-labels')
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
    questions: Annotated[int, Option(help='Most questions per image.')] = 25,
    seed: Annotated[int, Option(help='Of all draws.')] = 0,
    hierarchy: Annotated[
        str | None, Option(help='What labels decide: clc43, reben19, multilabel17, eurosat10 or a YAML file.')
    ] = None,
    mode: Annotated[str, Option(help='corrected, or faithful to RSVQAxBEN.')] = 'corrected',
    balance: Annotated[
        str | None,
        Option(
            help='Yes and no evenly: questions (of each, over all images), answers (of each image) '
            'or types (not balanced) [questions].'
        ),
    ] = None,
    kinds: Annotated[
        str | None, Option(help='Of questions, by commas: objects, classes, land-cover [all].')
    ] = None,
    style: Annotated[str | None, Option(help="Wordings: english or released [the mode's].")] = None,
    images: Annotated[bool, Option(help='Copy the images into the folder.')] = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace questions in --out.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Make questions and answers from labels alone, in the layout of RSVQA."""
    from geores.question_sets.from_labels import LabelOptions, questions_from_labels

    chosen = listed(kinds)
    options = LabelOptions(
        hierarchy=hierarchy,
        questions=questions,
        seed=seed,
        mode=mode,  # type: ignore[arg-type]
        balance=balance,  # type: ignore[arg-type]
        kinds=None if chosen is None else tuple(chosen),
        style=style,  # type: ignore[arg-type]
        images=images,
    )
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
    tile: Annotated[int, Option(help='Pixels of a tile.')] = 256,
    questions: Annotated[int, Option(help='Questions per tile.')] = 100,
    seed: Annotated[int, Option(help='Gives other questions.')] = 0,
    mode: Annotated[str, Option(help='corrected, or faithful to the published generator.')] = 'corrected',
    balance: Annotated[
        str,
        Option(
            help='What comes equally often: questions (answers of each, over all tiles), answers (in each '
            "tile) or types; or weights of types such as 'presence=2,count=1'."
        ),
    ] = 'questions',
    mapping: Annotated[str | None, Option(help='YAML from tags to categories [the one that ships].')] = None,
    min_share: Annotated[float, Option(help='Least share of an object inside for it to count.')] = 0.5,
    next_to: Annotated[
        float | None, Option(help='Metres on the ground that are next to [a tenth of a tile].')
    ] = None,
    sizes: Annotated[
        Pair | None,
        Option(
            metavar='MEDIUM LARGE',
            help='Square metres from which on [100 500 below 2 m per pixel, 3000 10000].',
        ),
    ] = None,
    bands: Annotated[str | None, Option(help='Names of the bands in file order, by commas.')] = None,
    sensor: common.Sensor = None,
    stretch: Annotated[
        Pair | None, Option(metavar='LOW HIGH', help='Numbers shown black and white [percentiles 2 and 98].')
    ] = None,
    resolution: Annotated[float | None, Option(help="Metres per pixel [the scene's].")] = None,
    bbox: Annotated[Box | None, Option(metavar='W S E N', help='Part of the scene, in its CRS.')] = None,
    bbox_crs: Annotated[str | None, Option(help='CRS of --bbox, such as EPSG:4326.')] = None,
    mask: Annotated[str | None, Option(help='Raster of what to leave out: SCL, or any but 0.')] = None,
    mask_values: Annotated[str | None, Option(help='Its values that mask, by commas.')] = None,
    min_valid: Annotated[float, Option(help='Tiles with a smaller share of valid pixels are dropped.')] = 1.0,
    fractions: Annotated[
        str | None,
        Option(help='Of train, val, test; 1 for no split [0.7,0.15,0.15; no split of too few tiles].'),
    ] = None,
    block_size: Annotated[float | None, Option(help='Metres of a block of the split [four tiles].')] = None,
    buffer: Annotated[float | None, Option(help='Metres between parts [half a tile].')] = None,
    preview: Annotated[int, Option(help='Pictures of tiles to make.')] = 0,
    jobs: Annotated[int | None, Option(help='Processes [the cores].')] = None,
    resume: common.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace the dataset in --out.')] = False,
    allow_vrt: Annotated[bool, Option('--allow-vrt', help='Open GDAL virtual rasters.')] = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object on one line.')] = False,
) -> None:
    """Cut scenes into tiles and ask questions of each, with answers from OpenStreetMap.

    A run that was stopped continues when the command is given again.
    """
    from geores.question_sets.layout import MakeOptions
    from geores.question_sets.make import make_questions

    options = MakeOptions(
        tile=tile,
        questions=questions,
        seed=seed,
        mode=mode,
        balance=balance,
        mapping=mapping,
        min_share=min_share,
        next_to=next_to,
        sizes=sizes,
        bands=listed(bands),
        sensor=sensor,
        stretch=stretch,
        resolution=resolution,
        bbox=bbox,
        bbox_crs=bbox_crs,
        mask=mask,
        mask_values=numbers(mask_values, '--mask-values'),
        min_valid=min_valid,
        fractions=None if fractions is None else _fractions(fractions),
        block_size=block_size,
        buffer=buffer,
        allow_vrt=allow_vrt,
    )
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


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(','))
    except ValueError as error:
        raise UsageError(f"fractions are numbers such as '0.7,0.15,0.15', not {text!r}") from error


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
