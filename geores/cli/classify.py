"""`geores classify`: scenes of any size to label maps."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geores.cli import common as options_of
from geores.cli.common import keeping, listed, numbers, parse_size, progress_bar
from geores.cli.printing import print_json, print_result, show_done
from geores.errors import GeoresError, UsageError

if TYPE_CHECKING:
    from geores.classification.options import ClassifyOptions
    from geores.model import Model
    from geores.scenes import Scene

__all__ = ['classify']

Option = typer.Option


def classify(
    scenes: Annotated[
        list[str],
        typer.Argument(metavar='SCENE...', help='GeoTIFF, folder of bands or Sentinel-2 product.'),
    ],
    out: Annotated[Path, Option(help='Folder for the results.')],
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
    tile: options_of.Tile = None,
    stride: Annotated[int | None, Option(help='Pixels from tile to tile, and of a cell [the tile].')] = None,
    resolution: options_of.Resolution = None,
    bands: options_of.Bands = None,
    bbox: options_of.Bbox = None,
    bbox_crs: options_of.BboxCrs = None,
    aoi: options_of.Aoi = None,
    mask: options_of.Mask = None,
    mask_values: options_of.MaskValues = None,
    clouds: options_of.Clouds = False,
    atmosphere: options_of.Atmosphere = 'auto',
    min_valid: options_of.MinValid = 0.5,
    threshold: Annotated[float | None, Option(help="Least score of a label [the model's].")] = None,
    top_k: Annotated[int | None, Option(help='Most labels a tile.')] = None,
    batch_size: options_of.BatchSize = None,
    device: options_of.Device = 'auto',
    precision: options_of.Precision = 'auto',
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
    workers: options_of.Workers = None,
    resume: options_of.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace results in --out.')] = False,
    max_output: options_of.MaxOutput = '8G',
    allow_vrt: options_of.AllowVrt = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object a line, one a scene.')] = False,
) -> None:
    """Classify scenes of any size to maps, areas and a picture in the folder OUT."""
    from geores.classification.options import ClassifyOptions

    options = ClassifyOptions(
        tile=tile,
        stride=stride,
        resolution=resolution,
        bbox=bbox,
        bbox_crs=bbox_crs,
        aoi=aoi,
        mask=mask,
        mask_values=numbers(mask_values, '--mask-values'),
        clouds=clouds,
        min_valid=min_valid,
        threshold=threshold,
        top_k=top_k,
        probabilities=probabilities,
        polygons=polygons,
        min_area=min_area,
        simplify=simplify,
        colours=colours,
        batch_size=batch_size,
        device=device,
        precision=precision,
        compile=compile,
        workers=workers,
        max_output=parse_size(max_output),
        linear_s1=linear_s1,
        atmosphere=atmosphere,
    )
    others = _beside(beside or [], listed(with_bands), allow_vrt=allow_vrt)
    opened = _open(scenes, others, listed(bands), allow_vrt=allow_vrt)
    _run(opened, model, options, out, resume=resume, overwrite=overwrite, as_json=as_json)


def _beside(paths: list[str], bands: list[str] | None, *, allow_vrt: bool) -> 'list[Scene]':
    """Open the other sources, which --with-bands names where there is one."""
    from geores.scenes import open_scene

    if bands is not None and len(paths) != 1:
        raise UsageError(f'--with-bands names the bands of one --with, and there are {len(paths)}')
    return [open_scene(path, bands=bands, allow_vrt=allow_vrt) for path in paths]


def _open(
    paths: list[str], beside: 'list[Scene]', bands: list[str] | None, *, allow_vrt: bool
) -> 'list[Scene]':
    """Open every scene, and refuse two of one name: their results would have the same files."""
    from geores.scenes import merge_scenes, open_scene

    opened: dict[str, Scene] = {}
    for path in paths:
        scene = open_scene(path, bands=bands, allow_vrt=allow_vrt)
        scene = merge_scenes([scene, *beside]) if beside else scene
        if scene.name in opened:
            raise UsageError(
                f'{path} and another scene are both named {scene.name!r}: classify them into '
                'folders of their own'
            )
        opened[scene.name] = scene
    return list(opened.values())


def _run(
    scenes: 'list[Scene]',
    model: str,
    options: 'ClassifyOptions',
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Check every scene from its header, then classify one after the other."""
    from geores.classification.classify import check_same, classified_into, finished_before, model_for
    from geores.classification.outputs import check_folder, work_folder
    from geores.classification.steps import known_key, lay_out

    show = print_json if as_json else print_result
    names = [scene.name for scene in scenes]
    done = {} if overwrite else finished_before(out, names)
    check_folder(out, [name for name in names if name not in done], overwrite=overwrite)
    held: dict[str, Model] = {}
    jobs = [(scene, *model_for(scene, model, options.device, held)) for scene in scenes]
    for scene, loaded, _ in jobs:
        key = known_key(scene, loaded, options, lay_out(scene, loaded.card, options))
        if scene.name in done:
            check_same(out, scene.name, done[scene.name], key, options)
    failed = []
    for number, (scene, loaded, why) in enumerate(jobs):
        if scene.name in done:
            show_done(scene.name, done[scene.name], out, as_json=as_json)
            continue
        try:
            with (
                scene,
                keeping(scene.name, work_folder(out, scene.name)) as kept,
                progress_bar(scene.name, shown=not as_json) as progress,
                classified_into(
                    scene, loaded, options, out, notes=why, resume=resume, progress=kept.watch(progress)
                ) as result,
            ):
                show(result, out)
        except GeoresError as error:
            # What cannot be used is told by its exit code only as long as nothing was written.
            if len(jobs) == 1 or (number == 0 and isinstance(error, UsageError)):
                raise
            failed.append(scene.name)
            print(f'geores: error: {" ".join(str(error).split())}', file=sys.stderr)
    if failed:
        raise GeoresError(f'{len(failed)} of {len(jobs)} scenes failed: {", ".join(failed)}')
