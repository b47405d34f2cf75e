"""Files for any system: the questions it is to answer, and its answers, each matched with its question."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from geores.errors import DatasetError, UsageError
from geores.io.tables import check_cells
from geores.vqa.answers import AnswerEncoding

if TYPE_CHECKING:
    from geores.datasets import RSVQA
    from geores.datasets._module import Pixels

__all__ = ['Prediction', 'match_questions', 'no_image', 'read_answer', 'read_predictions', 'write_questions']

IDS, ANSWERS = ('question_id', 'id'), ('prediction', 'predicted', 'answer')
"""Keys of a question's id and of the answer to it; the first that is there counts."""
_UNITS = {'count': '', 'area': 'm2'}
_NUMBER = re.compile(r'(\d[\d,]*)(?:\.0+)? ?(?:m2)?')
# Not the first number of a range, such as '10-100' or '10 to 100'.
_LEADING_NUMBER = re.compile(r'(\d[\d,]*)(?:\.0+)?(?: ?m2)?(?=[\s,;:])(?! ?(?:-|to\b|or\b))')
_FIRST_WORD = re.compile(r'(\w*).*', re.DOTALL)


def write_questions(
    folders: Sequence[str | PathLike[str]],
    path: str | PathLike[str],
    *,
    split: str = 'all',
    paraphrases: int = 0,
    overwrite: bool = False,
) -> tuple[int, int]:
    """Write the questions of RSVQA that a system is to answer, without their answers.

    Each line has `question_id`, `image`, `type` and `question`, those in other words `paraphrase` too: the
    file that `read_predictions` takes, once each line has an `answer`. Other words are those of the grammar
    by which the questions were made; questions that it does not parse get none.

    Returns:
        Number of questions, and of paraphrases.

    Raises:
        UsageError: if an argument cannot be used, or the file exists.
        WriteError: if the file could not be written.
    """
    from geores.datasets import RSVQA
    from geores.io.whole_files import check_free, whole_files

    if paraphrases < 0:
        raise UsageError(f'paraphrases has to be 0 or more, not {paraphrases}')
    check_free([Path(path)], overwrite=overwrite)
    # LR takes counts and areas as numbers and as names of classes.
    data = RSVQA(
        [Path(folder) for folder in folders], 'lr', None if split == 'all' else split, reader=no_image
    )
    several = len(folders) > 1
    reworded = 0
    with whole_files([Path(path)]) as (partial,), partial.open('w', encoding='utf-8') as file:
        for name, question in zip(data.ids, data.questions, strict=True):
            record = {
                'question_id': name if several else question.id,
                'image': question.image,
                'type': question.type,
                'question': question.text,
            }
            file.write(json.dumps(record, ensure_ascii=False) + '\n')
            for number, text in enumerate(_other_words(question.text, paraphrases), 1):
                reworded += 1
                other = record | {'question': text, 'paraphrase': number}
                file.write(json.dumps(other, ensure_ascii=False) + '\n')
    return len(data), reworded


def _other_words(text: str, most: int) -> list[str]:
    """Other wordings of a question, of as many templates as there are; the same ones each time."""
    from geores.questions.forms import QuestionError
    from geores.questions.grammar import STYLES, parse, phrase, wordings

    if not most:
        return []
    try:
        form = parse(text)
    except QuestionError:
        return []
    found: dict[str, list[str]] = {}
    taken = {_letters(text)}
    for style in STYLES:
        for wording in wordings(form, style):
            other = phrase(form, wording)
            if _letters(other) not in taken:
                taken.add(_letters(other))
                found.setdefault(wording.template, []).append(other)
    draw = random.Random(text)  # noqa: S311 - no secret
    for texts in found.values():
        draw.shuffle(texts)
    # One of each template before a second of any: other words tell more than another ending.
    ranked = [texts[place] for place in range(most) for texts in found.values() if place < len(texts)]
    return ranked[:most]


def no_image(name: str) -> 'Pixels':
    """Stand where images are read: questions are listed and answers scored without them.

    Raises:
        DatasetError: always.
    """
    raise DatasetError(f'image {name} is not read here')


class Prediction(NamedTuple):
    """An answer of a system.

    Attributes:
        question_id: id of the question in the files, where needed with its folder in front ('rsvqa-lr/12').
        answer: answer as the system gave it.
        question: text that was asked, if the file says so.
        is_paraphrase: whether that is another wording of the question than the one in the files.
    """

    question_id: str
    answer: str
    question: str | None
    is_paraphrase: bool


def read_predictions(path: str | PathLike[str]) -> list[Prediction]:
    """Read the answers of a system.

    Args:
        path: JSON lines, one object per answer: `question_id` (or `id`); `prediction`, `predicted` or
            `answer`; where wanted `question`, the text that was asked, and `paraphrase`: true or a number
            where that text is another wording than the one in the files. Or the `predictions.parquet` that
            `geores evaluate` writes.

    Raises:
        UsageError: if the file is missing, empty or of another form; the line is named.
    """
    path = Path(path)
    if path.suffix == '.parquet':
        records = _table(path)
    else:
        try:
            lines = path.read_text(encoding='utf-8').splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, 'strerror', None) or 'is no text in UTF-8'
            raise UsageError(f'{path}: cannot be read: {reason}') from error
        records = [
            (number, _record(path, number, line)) for number, line in enumerate(lines, 1) if line.strip()
        ]
    found = [_prediction(f'{path}: line {number}', record) for number, record in records]
    if not found:
        raise UsageError(f'{path}: holds no predictions')
    return found


def _table(path: Path) -> list[tuple[int, dict[str, Any]]]:
    check_cells(path)
    try:
        rows = pd.read_parquet(path).to_dict('records')
    except (OSError, ValueError) as error:
        raise UsageError(f'{path}: cannot be read: {error}') from error
    return [(number, {str(key): value for key, value in row.items()}) for number, row in enumerate(rows, 1)]


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f'{path}: line {number} is no JSON: give one object per line') from error
    if not isinstance(record, dict):
        raise UsageError(f'{path}: line {number} is no object such as {{"question_id": 7, "answer": "yes"}}')
    return record


def _prediction(where: str, record: Mapping[str, Any]) -> Prediction:
    named = next((record[key] for key in IDS if key in record), None)
    if isinstance(named, bool) or not isinstance(named, (int, str)):
        raise UsageError(f'{where} has no {IDS[0]}, which says what it answers')
    answer = next((record[key] for key in ANSWERS if key in record), None)
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
        raise UsageError(f'{where} has no answer: give text or a number under {", ".join(ANSWERS)}')
    question, paraphrase = record.get('question'), record.get('paraphrase', False)
    if question is not None and not isinstance(question, str):
        raise UsageError(f'{where}: question is no text')
    return Prediction(str(named), str(answer), question, bool(paraphrase))


def read_answer(encoding: AnswerEncoding, kind: str, text: str) -> tuple[str | None, bool]:
    """Read an answer in free text as one that a question of its type can have.

    Case, punctuation at the end and the separators of thousands do not count. Else an answer to a closed
    question or a number is read by its first word: 'Yes, there is a road' is 'yes', '14 buildings' is 14.

    Returns:
        The encoded answer, None if it cannot be read; and whether it was read by its first word alone.
    """
    bare = ' '.join(text.lower().replace('²', '2').replace('m^2', 'm2').split()).rstrip('.!')
    for by_first_word in (False, True):
        try:
            return encoding.encode(kind, _reading(kind, bare, by_first_word)), by_first_word
        except DatasetError:
            continue
    return None, False


def _reading(kind: str, text: str, by_first_word: bool) -> str:
    """A number or a word in the spelling of the files."""
    if kind in _UNITS:
        match = (_LEADING_NUMBER.match if by_first_word else _NUMBER.fullmatch)(text)
        return text if match is None else f'{int(match[1].replace(",", ""))}{_UNITS[kind]}'
    return _FIRST_WORD.sub(r'\1', text) if by_first_word else text


def match_questions(
    path: str | PathLike[str], dataset: 'RSVQA', said: list[Prediction]
) -> tuple[dict[int, list[Prediction]], tuple[str, ...]]:
    """Find the question that each prediction answers.

    Returns:
        Predictions by the position of their question, and notes on those that answer none.

    Raises:
        UsageError: if ids are ambiguous, a question has two answers, was another one, or none is answered.
    """
    places: dict[str, list[int]] = {}
    for index, name in enumerate(dataset.ids):
        places.setdefault(name, []).append(index)
        places.setdefault(name.rpartition('/')[2], []).append(index)
    found: dict[int, list[Prediction]] = {}
    strangers = []
    for one in said:
        at = places.get(one.question_id, [])
        if len(at) > 1:
            names = ' or '.join(dataset.ids[index] for index in at[:2])
            raise UsageError(f'{path}: question {one.question_id} may be {names}: write the folder in front')
        if not at:
            strangers.append(one.question_id)
            continue
        _check_text(path, dataset, at[0], one)
        given = found.setdefault(at[0], [])
        if not one.is_paraphrase and any(not other.is_paraphrase for other in given):
            raise UsageError(
                f'{path}: two answers to question {one.question_id}: keep one, or mark the answer to another '
                'wording by "paraphrase": true'
            )
        given.append(one)
    if not found:
        raise UsageError(
            f'{path}: answers none of the questions; its first id is {said[0].question_id!r}, and theirs '
            f'{dataset.ids[0]!r}'
        )
    if not strangers:
        return found, ()
    return found, (
        f'{len(strangers):,} answers are left out, to questions that are not asked here, such as '
        f'{strangers[0]}',
    )


def _check_text(path: str | PathLike[str], dataset: 'RSVQA', index: int, one: Prediction) -> None:
    """Check that the system was asked what the files ask: ids of two versions of a data set may clash."""
    if one.question is None or one.is_paraphrase:
        return
    asked = dataset.questions[index].text
    if _letters(asked) != _letters(one.question):
        raise UsageError(
            f'{path}: question {one.question_id} is {one.question!r} there and {asked!r} in the files: the '
            'answers are to another version of the data; or mark other wordings by "paraphrase": true'
        )


def _letters(text: str) -> str:
    return ''.join(re.findall(r'\w', text.lower()))
