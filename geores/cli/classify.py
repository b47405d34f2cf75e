"""`geores classify`: scenes of any size to label maps."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.cli import common
from geores.cli.common import keeping, listed, numbers, parse_size, progress_bar
from geores.cli.printing import print_earlier, print_json, print_result, print_share
from geores.errors import UsageError

if TYPE_CHECKING:
    from geores.inference.prepared import Progress
    from geores.scenes import Scene

__all__ = ['classify']

Option = typer.Option


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
    linear_s1: Annotated[
        bool, Option('--linear-s1', help='Backscatter is calibrated on a linear scale, not in dB.')
    ] = False,
    tile: common.Tile = None,
    stride: Annotated[int | None, Option(help='Pixels from tile to tile, and of a cell [the tile].')] = None,
    resolution: common.Resolution = None,
    bands: common.Bands = None,
    sensor: common.Sensor = None,
    offset: common.Offset = 'auto',
    bbox: common.Bbox = None,
    bbox_crs: common.BboxCrs = None,
    aoi: common.Aoi = None,
    mask: common.Mask = None,
    mask_values: common.MaskValues = None,
    clouds: common.Clouds = False,
    atmosphere: common.Atmosphere = 'auto',
    min_valid: common.MinValid = 0.5,
    threshold: Annotated[float | None, Option(help="Threshold for all labels [the model's].")] = None,
    top_k: Annotated[int | None, Option(help='Most labels per tile.')] = None,
    batch_size: common.BatchSize = None,
    device: common.Device = 'auto',
    precision: common.Precision = 'auto',
    runtime: common.Runtime = 'auto',
    probabilities: Annotated[
        bool, Option('--probabilities', help='Write the probability of each label of a pixel too.')
    ] = False,
    polygons: Annotated[
        str | None,
        Option(metavar='gpkg|parquet', help='Outline areas of one class: GeoPackage or GeoParquet.'),
    ] = None,
    min_area: Annotated[
        float | None, Option(help='Polygons: smaller areas go to a neighbour, square metres [5 pixels].')
    ] = None,
    simplify: Annotated[float | None, Option(help='Polygons: how far outlines may move, metres [0].')] = None,
    colours: Annotated[
        Path | None, Option(help='Other colours of labels: JSON, YAML or CSV of label and #rrggbb.')
    ] = None,
    compile: Annotated[bool, Option('--compile', help='Compile the network (large scenes).')] = False,
    workers: common.Workers = None,
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
    max_output: common.MaxOutput = '8G',
    allow_vrt: common.AllowVrt = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object per line, one per scene.')] = False,
) -> None:
    """Classify scenes of any size to maps, areas and a picture in the folder OUT."""
    from geores.classification.classify import classify_many

    options: dict[str, Any] = {
        'tile': tile,
        'stride': stride,
        'resolution': resolution,
        'bbox': bbox,
        'bbox_crs': bbox_crs,
        'aoi': aoi,
        'mask': mask,
        'mask_values': numbers(mask_values, '--mask-values'),
        'clouds': clouds,
        'min_valid': min_valid,
        'threshold': threshold,
        'top_k': top_k,
        'probabilities': probabilities,
        'polygons': polygons,
        'min_area': min_area,
        'simplify': simplify,
        'colours': colours,
        'batch_size': batch_size,
        'device': device,
        'precision': precision,
        'runtime': runtime,
        'compile': compile,
        'workers': workers,
        'max_output': parse_size(max_output),
        'linear_s1': linear_s1,
        'atmosphere': atmosphere,
    }
    options |= {
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
        outcomes = classify_on_dask(dask, scenes, model, out=out, beside=beside or [], **options)
    else:
        outcomes = classify_many(
            scenes,
            model,
            out=out,
            beside=_beside(beside or [], listed(with_bands), allow_vrt=allow_vrt),
            shard=shard,
            watch=partial(_watched, shown=not as_json, quiet=quiet),
            **options,
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
