"""Write questions in the layout of the RSVQA release: images, questions and answers as JSON.

The layout is that of the files released with Lobry et al. 2020. Each file is a JSON object with one key and
a list, in which the position is the id; entries of another split are stubs, ``{"id": 3, "active": false}``.
`geores.questions.question_files` reads them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from geores.errors import OutputError
from geores.io.whole_files import whole_files

__all__ = ['answer_record', 'image_record', 'question_record', 'write_official']

Record = dict[str, Any]
KINDS = ('images', 'questions', 'answers')
DATE_ADDED = 0.0
"""A constant and no clock, so that the same questions give the same bytes."""


def image_record(
    number: int,
    name: str,
    question_ids: Iterable[int],
    *,
    sensor: str,
    upper_left: tuple[float, float] = (0.0, 0.0),
    resolution: str = '',
    **more: object,
) -> Record:
    """One entry of `images.json`, with its keys in the official order.

    Args:
        number: id, the position in the file.
        name: name of the image file.
        question_ids: ids of the questions about the image.
        sensor: name of the sensor, such as ``'S2'``.
        upper_left: map coordinates of the corner; despite its name the released files hold the lower left.
        resolution: pixel size with its unit, such as ``'10m'``.
        more: keys beyond the schema.
    """
    return {
        'id': number,
        'date_added': DATE_ADDED,
        'original_name': name,
        'sensor': sensor,
        'upperleft_map_x': float(upper_left[0]),
        'upperleft_map_y': float(upper_left[1]),
        'res_x': resolution,
        'res_y': resolution,
        'people_id': 0,
        'type': 'RGB',
        'questions_ids': list(question_ids),
        'active': True,
        **more,
    }


def question_record(number: int, image: int, kind: str, text: str, **more: object) -> Record:
    """One entry of `questions.json`, answered by the answer of the same number."""
    return {
        'id': number,
        'date_added': DATE_ADDED,
        'img_id': image,
        'people_id': 0,
        'type': kind,
        'question': text,
        'answers_ids': [number],
        'active': True,
        **more,
    }


def answer_record(number: int, question: int, text: str, **more: object) -> Record:
    """One entry of `answers.json`."""
    return {
        'id': number,
        'date_added': DATE_ADDED,
        'question_id': question,
        'people_id': 0,
        'answer': text,
        'active': True,
        **more,
    }


def write_official(
    folder: str | Path,
    images: Iterable[Mapping[str, Any]],
    questions: Iterable[Mapping[str, Any]],
    answers: Iterable[Mapping[str, Any]],
    prefix: str = '',
) -> list[Path]:
    """Write the three files, each completely or not at all, and return their paths.

    Records are streamed, so memory does not grow with their number. Ids have to be increasing; stubs fill
    the gaps, as in the released splits.

    Raises:
        OutputError: if the ids are not increasing.
        WriteError: if a file cannot be written.
    """
    folder = Path(folder)
    paths = [folder / f'{prefix}{kind}.json' for kind in KINDS]
    with whole_files(paths) as partials, ExitStack() as stack:
        for kind, partial, records in zip(KINDS, partials, (images, questions, answers), strict=True):
            file = stack.enter_context(partial.open('w', encoding='utf-8', newline='\n'))
            _write(file, kind, records)
            file.flush()
    return paths


def _write(file: IO[str], kind: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one record per line, so that the file stays readable and is still valid JSON."""
    file.write(f'{{"{kind}": [')
    for position, record in enumerate(_with_stubs(kind, records)):
        file.write(',\n' if position else '\n')
        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False))
    file.write('\n]}\n')


def _with_stubs(kind: str, records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    position = 0
    for record in records:
        if record['id'] < position:
            raise OutputError(f'{kind}: ids have to rise, and {record["id"]} comes after {position - 1}')
        while position < record['id']:
            yield {'id': position, 'active': False}
            position += 1
        yield record
        position += 1
