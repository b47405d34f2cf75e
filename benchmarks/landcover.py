"""How the bundle `landcover` does beside its teacher, on scenes that train, select and tune nothing.

    python benchmarks/landcover.py SCENE --teacher dynamicworld.onnx [--polygons FILE] [--pictures FOLDER]

For an L1C scene teacher and bundle see its digital numbers. For an L2A scene the bundle sees it as it is, and
the teacher once by each of two rough lines from L2A to L1C levels (`geores.tasks.levels`).

Rules that no label is needed for, on pixels with B02 <= 2000 (elsewhere it may be cloud): water is NDWI =
(B03 - B08) / (B03 + B08) > 0, woods are NDVI = (B08 - B04) / (B08 + B04) > 0.35 with B04 < 800. Polygons
count 20 m inside their edges.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import torch
import yaml
from PIL import Image
from rasterio.features import rasterize

import geores
from geores.inference import GridReader
from geores.metrics.confusion import PixelReport
from geores.tasks.levels import SentinelLevels
from geores.tasks.start import OnnxTeacher

CONFIG = Path(__file__).parents[1] / 'configs' / 'landcover.yaml'
BLOCK = 512
Predict = Callable[[np.ndarray], np.ndarray]
# What OpenStreetMap's land use may rightly be called; in winter bare fields and meadows are no mistake.
OSM = {
    'forest': {'trees'},
    'water': {'water', 'snow_and_ice'},
    'residential': {'built'},
    'farm': {'crops', 'bare'},
    'meadow': {'grass', 'crops'},
    'grass': {'grass', 'crops'},
    'scrub': {'shrub_and_scrub', 'trees'},
    'wetland': {'flooded_vegetation', 'water', 'grass'},
}


def read(scene: geores.Scene, bands: list[str]) -> np.ndarray:
    """Digital numbers on the scene's finest grid, (C, H, W), cropped to even sides."""
    grid = scene.geobox
    values, _ = GridReader(scene, bands, grid).read(slice(0, grid.shape.y), slice(0, grid.shape.x))
    return values[:, : grid.shape.y // 2 * 2, : grid.shape.x // 2 * 2]


def blockwise(predict: Predict, pixels: np.ndarray, context: int) -> np.ndarray:
    """Classes of each pixel, (H, W), computed in windows that overlap by the context."""
    margin = context + context % 2
    _, height, width = pixels.shape
    classes = np.zeros((height, width), np.int64)
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            first, start = max(top - margin, 0), max(left - margin, 0)
            window = pixels[:, first : top + BLOCK + margin, start : left + BLOCK + margin]
            found = predict(window[None]).argmax(1)[0][top - first :, left - start :][:BLOCK, :BLOCK]
            classes[top : top + found.shape[0], left : left + found.shape[1]] = found
    return classes


def rules(pixels: np.ndarray, bands: list[str], classes: np.ndarray, labels: list[str]) -> dict[str, float]:
    """Shares of water and woods, as the indices know them, that are called so."""
    blue, green, red, nir = (pixels[bands.index(band)] for band in ('B02', 'B03', 'B04', 'B08'))
    clear = blue <= 2000
    wet = (green - nir) / np.maximum(green + nir, 1) > 0
    woods = ((nir - red) / np.maximum(nir + red, 1) > 0.35) & (red < 800)
    called = np.array(labels, object)[classes]
    water = called == 'water'
    return {
        'clear_share': float(clear.mean()),
        'wet_called_water_or_ice': float(np.isin(called, ['water', 'snow_and_ice'])[clear & wet].mean()),
        'wet_called_water': float(water[clear & wet].mean()),
        'dry_called_water': float(water[clear & ~wet].mean()),
        'woods_called_trees': float((called == 'trees')[clear & woods].mean()),
        'wet_pixels': int((clear & wet).sum()),
        'woods_pixels': int((clear & woods).sum()),
    }


def agreement(student: np.ndarray, teacher: np.ndarray, labels: list[str]) -> dict[str, float]:
    """Figures of the student's classes against the teacher's."""
    report = PixelReport(labels)
    report.update(torch.from_numpy(student)[None], torch.from_numpy(teacher)[None])
    return {name: round(value, 4) for name, value in report.compute().items()}


def recall(path: str, scene: geores.Scene, maps: dict[str, np.ndarray], labels: list[str]) -> list[dict]:
    """Per kind of polygon the share of its pixels that each map calls what it may rightly be called."""
    polygons = gpd.read_file(path).to_crs(scene.crs.to_wkt())
    polygons.geometry = polygons.buffer(-20)
    polygons = polygons[~polygons.is_empty]
    rows = []
    for kind, group in polygons.groupby('fclass'):
        shape = next(iter(maps.values())).shape
        inside = rasterize(group.geometry, out_shape=shape, transform=scene.geobox.affine).astype(bool)
        if not inside.any():
            continue
        row = {'kind': kind, 'polygons': len(group), 'pixels': int(inside.sum())}
        for name, classes in maps.items():
            shares = np.bincount(classes[inside], minlength=len(labels)) / inside.sum()
            row[name] = float(sum(shares[labels.index(label)] for label in OSM[kind]))
            best = np.argsort(-shares)[:3]
            row[f'{name}_most'] = ', '.join(f'{labels[one]} {shares[one]:.0%}' for one in best)
        rows.append(row)
    return rows


def picture(
    path: Path, pixels: np.ndarray, bands: list[str], maps: list[np.ndarray], colours: tuple[str, ...]
) -> None:
    """The image in natural colours and the maps, side by side."""
    rgb = np.stack([pixels[bands.index(band)] for band in ('B04', 'B03', 'B02')], axis=-1)
    low, high = np.percentile(rgb, (2, 98), axis=(0, 1))
    parts = [((rgb - low) / (high - low)).clip(0, 1) * 255]
    palette = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours])
    parts += [palette[classes] for classes in maps]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(parts, axis=1).astype(np.uint8)).save(path)


def teacher_of(path: str) -> OnnxTeacher:
    """The teacher as the configuration states it, from another file."""
    stated = yaml.safe_load(CONFIG.read_text())['model']['init_args']['teacher']['init_args']
    return OnnxTeacher(**{**stated, 'path': path})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scene')
    parser.add_argument('--teacher', required=True)
    parser.add_argument('--model', default='landcover')
    parser.add_argument('--level', choices=('L1C', 'L2A'), required=True, help='of the scene')
    parser.add_argument('--polygons')
    parser.add_argument('--pictures', type=Path)
    args = parser.parse_args()
    model, teacher = geores.load_model(args.model), teacher_of(args.teacher)
    bands, labels = list(model.card.bands), list(model.card.labels)
    context = model.card.context or 0
    with geores.open_scene(args.scene) as scene:
        pixels = read(scene, bands)
        student = blockwise(model.predict, pixels, context)
        images = torch.from_numpy(pixels)[None]
        if args.level == 'L1C':
            shown = {'teacher': images}
        else:
            views = SentinelLevels().fixed(images, bands)
            shown = {
                f'teacher by the {line} line': views[f'L1C by the {line} line'].teacher
                for line in ('second', 'first')
            }
        taught = {
            name: blockwise(
                lambda window: teacher(torch.from_numpy(window), bands).numpy(), one[0].numpy(), context
            )
            for name, one in shown.items()
        }
        maps = {'student': student, **taught}
        print(f'{scene.name} ({args.level}), {pixels.shape[1]} x {pixels.shape[2]} pixels')
        for name, classes in maps.items():
            shares = np.bincount(classes.ravel(), minlength=len(labels)) / classes.size
            print(
                f'{name}:',
                ', '.join(f'{label} {share:.1%}' for label, share in zip(labels, shares, strict=True)),
            )
            print(' ', json.dumps({k: round(v, 4) for k, v in rules(pixels, bands, classes, labels).items()}))
        for name, classes in taught.items():
            print(f'student against {name}:', json.dumps(agreement(student, classes, labels)))
        if len(taught) == 2:
            first, second = taught.values()
            print(f'the two maps of the teacher agree on {(first == second).mean():.4f}')
        if args.polygons:
            for row in recall(args.polygons, scene, maps, labels):
                print(json.dumps(row))
        if args.pictures:
            picture(
                args.pictures / f'{scene.name}.png', pixels, bands, list(maps.values()), model.card.colours
            )


if __name__ == '__main__':
    main()
