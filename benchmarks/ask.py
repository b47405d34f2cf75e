"""What questions about a scene cost: one against a hundred, without files and with evidence and maps.

    python benchmarks/ask.py [--scene FILE] [--model NAME] [--tiles 16] [--questions 100] [--repeats 3]

Without a scene one of noise is made, of `tiles` tiles of the model. Without a model the one that ships for
10 m is taken; where none does, a head with random weights, of the size that configs/rsvqa-lr-attention.yaml
trains, on the encoder of the bundle `sentinel2`. A first run warms up and is not counted.
"""

import argparse
import json
import math
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.transform import from_origin

if TYPE_CHECKING:
    from geores import Model

GSD = 10.0
THINGS = ('water area', 'forest', 'road', 'residential area', 'farmland', 'grass area', 'building')
WORDS = (
    'Is there a {}?',
    'How many {}s are there?',
    'Is there a small {}?',
    'Is there a large {}?',
    'How many small {}s are there?',
    'How many large {}s are there?',
    'Are there more {}s than {}s?',
    'Are there less {}s than {}s?',
    'Is the number of {}s equal to the number of {}s?',
)


def questions(count: int) -> list[str]:
    """Different ones, of all kinds that a model for 10 m answers."""
    made = [
        word.format(one, other)
        for word in WORDS
        for one in THINGS
        for other in (THINGS if word.count('{}') == 2 else ('',))
        if one != other
    ]
    made = ['Is it a rural or an urban area?', *dict.fromkeys(made)]
    order = np.random.default_rng(0).permutation(len(made) - 1) + 1
    return [made[0], *(made[number] for number in order)][:count]


def write_scene(path: Path, tiles: int, tile: int) -> None:
    """Noise that changes slowly."""
    side = math.isqrt(tiles)
    high, wide = side * tile, tiles // side * tile
    rng = np.random.default_rng(0)
    image = rng.integers(20, 230, (3, high // 16 + 1, wide // 16 + 1)).repeat(16, 1).repeat(16, 2)
    profile = {'driver': 'GTiff', 'dtype': 'uint8', 'count': 3, 'height': high, 'width': wide, 'tiled': True}
    place = {'crs': 'EPSG:32633', 'transform': from_origin(400_000.0, 5_900_000.0, GSD, GSD)}
    with rasterio.open(path, 'w', **profile, **place, compress='deflate') as file:
        file.descriptions = ('red', 'green', 'blue')
        file.write(image[:, :high, :wide].astype(np.uint8))


def random_bundle(folder: Path) -> Path:
    """A head that was not trained, which takes as long as one that was."""
    import torch

    from geores import ModelCard, load_model, save_bundle
    from geores.vqa.network import Tokenizer, build

    shared = load_model('sentinel2')
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_questions([*questions(1000), *(f'Is there a {one}?' for one in THINGS)])
    bins = ('0', 'between 0 and 10', 'between 10 and 100', 'between 100 and 1000', 'more than 1000')
    labels = ('<unknown>', 'yes', 'no', 'rural', 'urban', *bins)
    kwargs = {
        'features': 1280,
        'grid': 8,
        'vocabulary': len(tokenizer),
        'num_classes': len(labels),
        'text_kwargs': {'width': 256, 'bidirectional': True, 'pooling': 'attention'},
        'fusion': 'attention',
        'fusion_kwargs': {'width': 256, 'glimpses': 4},
    }
    bands = {'red': 'B04', 'green': 'B03', 'blue': 'B02'}
    three = {'mean': (120.0,) * 3, 'std': (60.0,) * 3, 'bands': tuple(bands)}
    nothing = {'split_id': 'none', 'training_data': 'none', 'licence': 'CC0-1.0', 'metrics': {}}
    anything = {'sensor': 'any', 'processing_level': 'any', 'description': 'Random weights.'}
    card = ModelCard(
        name='random-vqa', architecture='vqa-fusion', architecture_kwargs=kwargs, activation='softmax',
        task='vqa', units='8-bit', gsd=(8.0, 12.0), input_size=256, resampling='bilinear', labels=labels,
        thresholds=None, tokenizer=tokenizer.to_dict(), **three, **nothing, **anything,
        answer_encoding={'style': 'official', 'variant': 'lr'},
        encoder={'name': 'sentinel2', 'sha256': shared.sha256, 'bands': bands, 'grid': 8},
    )  # fmt: skip
    return save_bundle(folder / 'random-vqa', build(card, lambda name, sha256: shared).eval(), card)


def timed(scene: Path, model: 'Model', asked: list[str], out: Path | None) -> tuple[float, float]:
    """Seconds that pass, and seconds of the processor."""
    import geores

    start = time.perf_counter(), time.process_time()
    geores.ask(scene, asked, model, out=out, overwrite=True)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def compared(
    scene: Path, model: 'Model', asked: list[str], out: Path | None, repeats: int
) -> dict[str, float]:
    """The least of several turns each, one after the other so that other load weighs on both."""
    turns = [[timed(scene, model, some, out) for some in (asked[:1], asked)] for _ in range(repeats)]
    (one, one_cpu), (many, many_cpu) = np.min(turns, axis=0).tolist()
    return {
        'seconds_of_one': round(one, 2),
        'seconds_of_all': round(many, 2),
        'ratio': round(many / one, 2),
        'ratio_of_processor_time': round(many_cpu / one_cpu, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--scene', type=Path)
    parser.add_argument('--model')
    parser.add_argument('--tiles', type=int, default=16)
    parser.add_argument('--questions', type=int, default=100)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--json', action='store_true')
    options = parser.parse_args()
    from geores import list_models, load_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shipped = {card.name for card in list_models()}
        chosen = options.model or ('vqa-sentinel2' if 'vqa-sentinel2' in shipped else random_bundle(folder))
        model = load_model(chosen)
        scene = options.scene or folder / 'scene.tif'
        if options.scene is None:
            write_scene(scene, options.tiles, model.card.input_size)
        asked = questions(options.questions)
        timed(scene, model, asked[:1], None)
        rows = [
            {'model': model.card.name, 'files': out is not None, 'questions': len(asked)}
            | compared(scene, model, asked, out, options.repeats)
            for out in (None, folder / 'out')
        ]
    for row in rows:
        row['peak_mib'] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(json.dumps(row) if options.json else '  '.join(f'{key} {value}' for key, value in row.items()))


if __name__ == '__main__':
    main()
