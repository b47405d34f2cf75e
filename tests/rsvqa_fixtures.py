"""Tiny folders in the layouts of RSVQA."""

import json
import math

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin

SIZE = 16
QUESTIONS = (
    ('rural_urban', 'Is it a rural or an urban area', 'rural'),
    ('presence', 'Is there a road?', 'yes'),
    ('count', 'How many buildings are on the left of a  road?', '{count}'),
    ('comp', 'Are there more roads than buildings?', 'no'),
)
WEST, SOUTH = 500_000.0, 6_800_000.0
GROUND = 10.0
SIDE = SIZE * GROUND * math.cosh(SOUTH / 6378137)
"""Of an image on the map, metres."""


def pixels(seed):
    return np.random.default_rng(seed).integers(30, 226, (3, SIZE, SIZE), dtype=np.uint8)


def write_image(path, seed, west=WEST, south=SOUTH, side=SIDE):
    """A PNG, or a GeoTIFF at a place in Web Mercator."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pixels(seed)
    if path.suffix == '.png':
        Image.fromarray(array.transpose(1, 2, 0)).save(path)
        return
    transform = from_origin(west, south + side, side / SIZE, side / SIZE)
    options = {'driver': 'GTiff', 'height': SIZE, 'width': SIZE, 'count': 3, 'dtype': 'uint8'}
    with rasterio.open(path, 'w', crs='EPSG:3857', transform=transform, photometric='RGB', **options) as file:
        file.write(array)


def records(columns, questions=QUESTIONS, first=0):
    """Images side by side, at whole sides from the origin: the three lists of the official schema."""
    images, asked, answers = [], [], []
    for number, column in enumerate(columns, first):
        ids = [number * len(questions) + place for place in range(len(questions))]
        images.append(
            {
                'id': number,
                'date_added': 0.5,
                'original_name': f'{number}.tif',
                'sensor': 'S2',
                'upperleft_map_x': WEST + column * SIDE,
                'upperleft_map_y': SOUTH,
                'res_x': '10m',
                'res_y': '10m',
                'people_id': 0,
                'type': 'RGB',
                'questions_ids': ids,
                'active': True,
            }
        )
        for one, (kind, text, answer) in zip(ids, questions, strict=True):
            answer = answer.format(count=number * 7)
            asked.append(
                {
                    'id': one,
                    'img_id': number,
                    'type': kind,
                    'question': text,
                    'answers_ids': [one],
                    'active': True,
                }
            )
            answers.append({'id': one, 'question_id': one, 'answer': answer, 'active': True})
    return {'images': images, 'questions': asked, 'answers': answers}


def write_json(folder, prefix, parts):
    folder.mkdir(parents=True, exist_ok=True)
    for part, entries in parts.items():
        (folder / f'{prefix}{part}.json').write_text(json.dumps({part: entries}))


def write_plain(folder, columns=(0, 1, 3, 5, 7), suffix='.png', prefix='', questions=QUESTIONS):
    """Without splits: `images.json`, `questions.json`, `answers.json` and `images/`."""
    parts = records(columns, questions)
    write_json(folder, prefix, parts)
    for number, column in enumerate(columns):
        write_image(folder / 'images' / f'{number}{suffix}', number, WEST + column * SIDE)
    return parts


def write_split(folder, splits=(('train', 3), ('val', 2), ('test', 1)), prefix='LR'):
    """The official layout: entries of other splits are stubs, those behind the last one are absent."""
    first, column = 0, 0
    for split, count in splits:
        columns = range(column, column + 2 * count, 2)
        parts = records(columns, first=first)
        stubs = {
            part: [{'id': one, 'active': False} for one in range(entries[0]['id'])] + entries
            for part, entries in parts.items()
        }
        write_json(folder, f'{prefix}_split_{split}_', stubs)
        for number, place in enumerate(columns, first):
            write_image(folder / 'Images_LR' / f'{number}.tif', number, WEST + place * SIDE)
        first, column = first + count, column + 2 * count
