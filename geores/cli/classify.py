"""`geores classify`: scenes of any size to label maps. `geores merge`: its shards to the results."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.classification.options import ClassifyOptions
from geores.cli import common
from geores.cli.common import keeping, listed, progress_bar
from geores.cli.option_sets import with_options
from geores.cli.printing import print_earlier, print_json, print_result, print_share
from geores.errors import UsageError

if TYPE_CHECKING:
    from geores.inference.prepared import Progress
    from geores.scenes import Scene

__all__ = ['classify', 'merge']

Option = typer.Option


@with_options(ClassifyOptions)
def classify(
    scenes: Annotated[
        list[str],
        typer.Argument(metavar='SCENE...', help='GeoTIFF, folder of bands or Sentinel-2 product.'),
    ],
    out: Annotated[Path, Option('--out', '-o', help='Folder for the results.')],
    model: Annotated[
        str, Option(help='Name or path of a bundle; auto picks by bands and pixel size.')
    ] = 'auto',
    beside: Annotated[
        list[str] | None,
        Option('--with', metavar='FILE', help='Another source of the same place (repeatable).'),
    ] = None,
    with_bands: Annotated[
        str | None, Option(help='Names of the bands of --with in file order, such as VV,VH.')
    ] = None,
    bands: common.Bands = None,
    sensor: common.Sensor = None,
    offset: common.Offset = 'auto',
    *,
    options: ClassifyOptions,
    shard: Annotated[
        str | None,
        Option(metavar='I/N', help='Do the I-th of N shares only; geores merge OUT puts all together.'),
    ] = None,
    dask: Annotated[
        str | None,
        Option(metavar='ADDRESS', help='Do it on the workers of this scheduler of dask, by shards.'),
    ] = None,
    resume: common.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace results in --out.')] = False,
    allow_vrt: common.AllowVrt = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object per line, one per scene.')] = False,
) -> None:
    """Classify scenes of any size to maps, areas and a picture in the folder OUT."""
    from geores.classification.classify import classify_many

    given = options.given() | {
        'bands': listed(bands),
        'allow_vrt': allow_vrt,
        'sensor': sensor,
        'offset': offset,
        'resume': resume,
        'overwrite': overwrite,
    }
    if dask is not None:
        from geores.classification.on_dask import classify_on_dask

        if shard is not None or with_bands is not None:
            raise UsageError(f'{"--shard" if shard else "--with-bands"} does not go with --dask: drop one')
        outcomes = classify_on_dask(dask, scenes, model, out=out, beside=beside or [], **given)
    else:
        outcomes = classify_many(
            scenes,
            model,
            out=out,
            beside=_beside(beside or [], listed(with_bands), allow_vrt=allow_vrt),
            shard=shard,
            watch=partial(_watched, shown=not as_json, quiet=quiet),
            **given,
        )
    show = print_json if as_json else print_result
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.result is not None:
                show(outcome.result, out)
            elif outcome.share is not None and shard is not None:
                print_share(outcome.name, outcome.share, shard, out, as_json=as_json)
            elif outcome.earlier is not None:
                print_earlier(outcome.name, outcome.earlier, out, as_json=as_json)
            else:
                print(f'geores: error: {" ".join(str(outcome.error).split())}', file=sys.stderr)


def _beside(paths: list[str], bands: list[str] | None, *, allow_vrt: bool) -> 'list[Scene]':
    """Open the other sources; --with-bands names the bands of one."""
    from geores.scenes import open_scene

    if bands is not None and len(paths) != 1:
        raise UsageError(f'--with-bands names the bands of one --with, and there are {len(paths)}')
    return [open_scene(path, bands=bands, allow_vrt=allow_vrt) for path in paths]


@contextmanager
def _watched(name: str, folder: Path, *, shown: bool, quiet: bool) -> 'Iterator[Progress]':
    """Show the progress of a scene, and say what is kept where it is stopped."""
    with keeping(name, folder) as kept, progress_bar(name, shown=shown, quiet=quiet) as progress:
        yield kept.watch(progress)


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
