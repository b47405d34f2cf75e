"""`geores merge`: the shards of a classification to its results."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from geores.cli.printing import print_earlier, print_json, print_result

__all__ = ['merge']

Option = typer.Option


def merge(
    folder: Annotated[
        Path, typer.Argument(metavar='DIR', help='Folder of results in which all shards lie (--out).')
    ],
    overwrite: Annotated[bool, Option('--overwrite', help='Replace results in DIR.')] = False,
    mixed: Annotated[
        bool, Option('--mixed', help='Shards may have been computed on machines of different kinds.')
    ] = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object per line, one per scene.')] = False,
) -> None:
    """Put the shards of geores classify --shard together: the same files as those of one run."""
    from geores.classification.merge import merge as merge_shards

    show = print_json if as_json else print_result
    with closing(merge_shards(folder, overwrite=overwrite, mixed=mixed)) as outcomes:
        for outcome in outcomes:
            if outcome.result is not None:
                show(outcome.result, folder)
            elif outcome.earlier is not None:
                print_earlier(outcome.name, outcome.earlier, folder, as_json=as_json)
            else:
                print(f'geores: error: {" ".join(str(outcome.error).split())}', file=sys.stderr)
