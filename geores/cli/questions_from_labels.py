"""`geores questions from-labels`: questions and answers from the labels of images."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli.common import listed, progress_bar

if TYPE_CHECKING:
    from geores.pipelines.questions_from_labels import LabelQuestionSet

__all__ = ['from_labels']

Option = typer.Option


def from_labels(
    data: Annotated[
        Path,
        typer.Argument(
            metavar='DATA',
            help='Folder with multilabels.csv or labels.csv, or with a folder a class; or a Parquet table.',
        ),
    ],
    out: Annotated[Path, Option(help='Folder for the questions.')],
    questions: Annotated[int, Option(help='Most questions an image.')] = 25,
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
    as_json: Annotated[bool, Option('--json', help='One JSON object.')] = False,
) -> None:
    """Make questions and answers from labels alone, in the layout of RSVQA."""
    from geores.pipelines.questions_from_labels import LabelOptions, questions_from_labels

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
    with progress_bar(data.name, shown=not as_json, unit='images') as progress:
        made = questions_from_labels(data, out, options, overwrite=overwrite, progress=progress)
    print(json.dumps(asdict(made))) if as_json else _print_label_set(made)


def _print_label_set(made: 'LabelQuestionSet') -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    types = ', '.join(f'{number:,} {name}' for name, number in made.types.items())
    console.print(
        f'{made.questions:,} questions about {made.images:,} images ({types}) by the scheme {made.scheme}: '
        f'{made.answers["yes"]:,} yes, {made.answers["no"]:,} no, {made.answers["others"]:,} other answers',
        soft_wrap=True,
    )
    console.print(f'questions: {made.folder}', soft_wrap=True)
