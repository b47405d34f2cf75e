"""Options of commands that look at scenes."""

from typing import Annotated

import typer

__all__ = [
    'AllowVrt',
    'Aoi',
    'Atmosphere',
    'Bands',
    'BatchSize',
    'Bbox',
    'BboxCrs',
    'Clouds',
    'Device',
    'Mask',
    'MaskValues',
    'MaxOutput',
    'MinValid',
    'Precision',
    'Resolution',
    'Resume',
    'Tile',
    'Workers',
]

Box = tuple[float, float, float, float]
Option = typer.Option

Tile = Annotated[int | None, Option(help="Pixels of a tile [the model's input size].")]
Resolution = Annotated[float | None, Option(help='Metres a pixel [what the model takes].')]
Bands = Annotated[str | None, Option(help='Names of the bands in file order, by commas.')]
Bbox = Annotated[Box | None, Option(metavar='W S E N', help='Part of the scene, in its CRS.')]
BboxCrs = Annotated[str | None, Option(help='CRS of --bbox, such as EPSG:4326.')]
Aoi = Annotated[str | None, Option(help='Vector file: only what lies inside counts.')]
Atmosphere = Annotated[
    str, Option(help='auto: dark objects of an L1C scene are subtracted for a model of L2A; none.')
]
Mask = Annotated[
    str | None, Option(help="Raster of what to leave out: SCL, or any but 0 [the scene's]; none.")
]
Clouds = Annotated[
    bool, Option('--clouds', help='Look for clouds of Sentinel-2 L1C and leave them out: geores[clouds].')
]
MaskValues = Annotated[str | None, Option(help='Its values that mask, by commas.')]
MinValid = Annotated[float, Option(help='Tiles with a smaller share of valid pixels are skipped.')]
BatchSize = Annotated[int | None, Option(help='Tiles in one forward pass.')]
Device = Annotated[str, Option(help='auto, cpu, cuda or cuda:N.')]
Precision = Annotated[str, Option(help='auto, fp32, bf16 or fp16.')]
Workers = Annotated[int | None, Option(help='Threads [the cores].')]
Resume = Annotated[bool, Option(help='Continue unfinished work in --out.')]
MaxOutput = Annotated[str, Option(help='Largest size of the results of a scene.')]
AllowVrt = Annotated[bool, Option('--allow-vrt', help='Open GDAL virtual rasters.')]
