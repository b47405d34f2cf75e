"""Files of questions in the layout of the RSVQA release: images, questions and answers as JSON.

The layout is that of the files released with Lobry et al. 2020. Each file is a JSON object with one key and
a list, in which the position is the id; entries of another split are stubs, ``{"id": 3, "active": false}``.
Keys beyond the schema are kept.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from geores.errors import DatasetError, OutputError
from geores.io.tables import visible_files
from geores.io.whole_files import whole_files

__all__ = ['Official', 'answer_record', 'image_record', 'question_record', 'read_official', 'write_official']

Record = dict[str, Any]
KINDS = ('images', 'questions', 'answers')
DATE_ADDED = 0.0
"""A constant and no clock, so that the same questions give the same bytes."""
_NEEDED: dict[str, dict[str, type]] = {
    'images': {'original_name': str},
    'questions': {'img_id': int, 'question': str, 'type': str, 'answers_ids': list},
    'answers': {'question_id': int, 'answer': str},
}


@dataclass(frozen=True)
class Official:
    """The records of a set of questions by id, without stubs, as in the three files."""

    images: dict[int, Record]
    questions: dict[int, Record]
    answers: dict[int, Record]

    def answer_of(self, question: int) -> str:
        """Text of the first answer to the question with this id."""
        return str(self.answers[self.questions[question]['answers_ids'][0]]['answer'])


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


def read_official(folder: str | Path) -> Official:
    """Read all questions in a folder: `questions.json`, and splits such as `LR_split_val_questions.json`.

    Args:
        folder: folder of the files; each `…questions.json` has its images and answers beside it.

    Returns:
        Records by id, all splits together.

    Raises:
        DatasetError: if there are no questions, a file is not in the layout, or one contradicts another.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f'{folder}: no such folder')
    if not (found := visible_files(folder, '*questions.json')):
        raise DatasetError(
            f'{folder}: no questions.json in it, nor one of a split as …_split_val_questions.json'
        )
    official = Official({}, {}, {})
    for path in found:
        for kind in KINDS:
            part = path.with_name(f'{path.name.removesuffix("questions.json")}{kind}.json')
            _join(getattr(official, kind), _read(part, kind), part)
    _check(official, folder)
    return official


def _read(path: Path, kind: str) -> Iterator[Record]:
    """Records of a file without stubs, validated for the keys that are needed."""
    try:
        records = json.loads(path.read_text(encoding='utf-8'))[kind]
    except FileNotFoundError as error:
        raise DatasetError(f'{path}: missing; questions, images and answers belong together') from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f'{path}: not a JSON object with a list {kind!r} in it') from error
    if not isinstance(records, list):
        raise DatasetError(f'{path}: {kind!r} is not a list')
    for position, record in enumerate(records):
        if not isinstance(record, dict) or type(record.get('id')) is not int:
            raise DatasetError(f'{path}: entry {position} is no object with an id')
        if record.get('active') is False:
            continue
        for key, type_ in _NEEDED[kind].items():
            if not isinstance(record.get(key), type_):
                raise DatasetError(f'{path}: entry {record["id"]} has no {key!r} ({type_.__name__})')
        yield record


def _join(records: dict[int, Record], more: Iterable[Record], path: Path) -> None:
    for record in more:
        if records.setdefault(record['id'], record) != record:
            raise DatasetError(f'{path}: entry {record["id"]} is another one in a file beside it')


def _check(official: Official, folder: Path) -> None:
    """Raise `DatasetError` if a question lacks its image or an answer."""
    for number, question in official.questions.items():
        if question['img_id'] not in official.images:
            image = question['img_id']
            raise DatasetError(f'{folder}: question {number} is of image {image}, which is not there')
        if not question['answers_ids'] or question['answers_ids'][0] not in official.answers:
            raise DatasetError(f'{folder}: question {number} has no answer')
