"""Read and cross-check the files of RSVQA.

Every file holds one JSON object with one key (`images`, `questions` or `answers`). Supported layouts:

* official, split: `LR_split_train_images.json`, `USGS_split_test_phili_questions.json` and similar, in which
  entries of other splits are stubs, `{"id": 7, "active": false}`;
* without splits: `images.json`, `questions.json`, `answers.json`, or with a prefix (`USGSquestions.json`);
* ConfigILM's of RSVQAxBEN: `RSVQAxBEN_QA_train.json`, `{"<id>": {"type", "question", "answer", "S2_name"}}`.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from geores.errors import DatasetError
from geores.io.tables import visible_files

__all__ = ['ImageEntry', 'ImageFinder', 'QuestionEntry', 'QuestionFolder', 'read_question_folder']

SPLITS = ('train', 'val', 'test', 'test_phili')
PARTS = ('images', 'questions', 'answers')
SUFFIXES = ('.tif', '.tiff', '.png')
FOLDERS = ('images', 'Images', 'Images_LR', 'Images/Data', 'Data', 'data', '.')
MAX_WORDS = 200
"""Longer questions are refused; the longest released one has 40 words."""


@dataclass(frozen=True, slots=True)
class QuestionEntry:
    """A question on an image, with its raw answer."""

    id: str
    image: str
    type: str
    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image: its file, its split ('' without splits), and its fields in the JSON."""

    id: str
    path: Path
    split: str
    fields: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class QuestionFolder:
    """Images and questions of one folder; every question is on one of the images."""

    name: str
    images: list[ImageEntry]
    questions: list[QuestionEntry]


def read_question_folder(root: Path, find: Callable[[str], Path | None] | None = None) -> QuestionFolder:
    """Read all splits of one folder.

    Args:
        root: the folder.
        find: from an image's id to its file; by default `<id>.tif` or `.png` beside the JSON or in a folder
            of images there.

    Raises:
        DatasetError: if a file is missing or no JSON of the layout, or files disagree: a question without an
            answer or an image, an image without a file, two entries with one id.
    """
    if not root.is_dir():
        raise DatasetError(f'{root.absolute()}: no such folder; give the one that holds the questions')
    find = find or ImageFinder(root)
    images: list[ImageEntry] = []
    questions: list[QuestionEntry] = []
    for split, files in _layouts(root):
        read = _read_flat if len(files) == 1 else _read_official
        some, asked = read(split, files, find)
        images += some
        questions += asked
    _check_unique(root, 'image', (image.id for image in images))
    _check_unique(root, 'question', (question.id for question in questions))
    if not questions:
        raise DatasetError(f'{root}: the files hold no active question')
    return QuestionFolder(root.resolve().name, images, questions)


class ImageFinder:
    """Finds the file of an image below a folder.

    Args:
        root: folder of the dataset.
    """

    def __init__(self, root: Path) -> None:
        self.folders = [root / name for name in FOLDERS if (root / name).is_dir()]

    def __call__(self, name: str) -> Path | None:
        """Find the file of an image; None if there is none."""
        if Path(name).name != name:  # '../x' would lead out of the dataset
            return None
        for folder in self.folders:
            for suffix in SUFFIXES:
                path = folder / f'{name}{suffix}'
                if path.is_file():
                    return path
        return None


def _layouts(root: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each split with its files: images, questions and answers, or the single file of ConfigILM."""
    found = False
    for split in SPLITS:
        names = visible_files(root, f'*_split_{split}_questions.json')
        flat = root / f'RSVQAxBEN_QA_{split}.json'
        if len(names) > 1:
            raise DatasetError(
                f'{root}: holds {names[0].name} and {names[1].name}; give one dataset a folder'
            )
        if names:
            found = True
            yield split, _parts(names[0])
        elif flat.is_file():
            found = True
            yield split, [flat]
    if found:
        return
    names = [path for path in visible_files(root, '*questions.json') if '_split_' not in path.name]
    if not names:
        raise DatasetError(f'{root}: holds no questions.json and no *_split_train_questions.json')
    plain = root / 'questions.json'
    if len(names) > 1 and plain not in names:
        raise DatasetError(f'{root}: holds {names[0].name} and {names[1].name}; give one dataset a folder')
    yield '', _parts(plain if plain in names else names[0])


def _parts(questions: Path) -> list[Path]:
    stem = questions.name.removesuffix('questions.json')
    paths = [questions.with_name(f'{stem}{part}.json') for part in PARTS]
    for path in paths:
        if not path.is_file():
            raise DatasetError(f'{path}: no such file, and {questions.name} needs it')
    return paths


def _read_official(
    split: str, files: list[Path], find: Callable[[str], Path | None]
) -> tuple[list[ImageEntry], list[QuestionEntry]]:
    entries, asked, answers = (_active(path, part) for path, part in zip(files, PARTS, strict=True))
    images = [
        ImageEntry(str(one['id']), _file(files[0], one['id'], find), split, _fields(one))
        for one in entries.values()
    ]
    said = _answers(files[2], answers, asked)
    questions = []
    for one in asked.values():
        where = f'{files[1]}: question {one["id"]}'
        image, kind = _id(one, 'img_id', where), _kind(one, where)
        text = _text(_get(one, 'question', where), where)
        if image not in entries:
            raise DatasetError(f'{where} is on image {image}, which {files[0].name} does not hold')
        if one['id'] not in said:
            raise DatasetError(f'{where} has no answer in {files[2].name}')
        answer = said[one['id']]
        questions.append(QuestionEntry(str(one['id']), intern(str(image)), kind, text, answer))
    _check_listed(files, entries, asked)
    return images, questions


def _check_listed(files: list[Path], entries: dict[Any, dict[str, Any]], asked: dict[Any, Any]) -> None:
    for name, entry in entries.items():
        listed = entry.get('questions_ids') or []
        if not isinstance(listed, list) or not all(isinstance(one, (int, str)) for one in listed):
            raise DatasetError(f'{files[0]}: image {name}: questions_ids is no list of ids')
        missing = next((one for one in listed if one not in asked), None)
        if missing is not None:
            raise DatasetError(
                f'{files[0]}: image {name} has question {missing}, which {files[1].name} lacks'
            )


def _answers(path: Path, answers: dict[Any, dict[str, Any]], asked: dict[Any, Any]) -> dict[Any, str]:
    """Raw answer of each question."""
    said: dict[Any, str] = {}
    for one in answers.values():
        where = f'{path}: answer {one["id"]}'
        question, text = _id(one, 'question_id', where), _get(one, 'answer', where)
        if question not in asked:
            raise DatasetError(f'{where} is to question {question}, which is not there')
        if question in said:
            raise DatasetError(f'{where} is the second to question {question}')
        if not isinstance(text, str):
            raise DatasetError(f'{where} is {text!r}, not text')
        said[question] = intern(text)
    return said


def _read_flat(
    split: str, files: list[Path], find: Callable[[str], Path | None]
) -> tuple[list[ImageEntry], list[QuestionEntry]]:
    (path,) = files
    held = _load(path)
    if not isinstance(held, dict):
        raise DatasetError(f'{path}: has to hold an object of questions by id')
    images: dict[str, ImageEntry] = {}
    questions = []
    for name, one in held.items():
        where = f'{path}: question {name}'
        image, answer = _get(one, 'S2_name', where), _get(one, 'answer', where)
        if not isinstance(image, str) or not isinstance(answer, str):
            raise DatasetError(f'{where}: S2_name and answer have to be text')
        if image not in images:
            images[image] = ImageEntry(image, _file(path, image, find), split)
        text = _text(_get(one, 'question', where), where)
        questions.append(QuestionEntry(name, image, _kind(one, where), text, intern(answer)))
    return list(images.values()), questions


def _load(path: Path) -> Any:  # noqa: ANN401
    try:
        return json.loads(path.read_text(encoding='utf-8'), parse_constant=_refuse)
    except OSError as error:
        raise DatasetError(f'{path}: cannot be read: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f'{path}: is no JSON: {error}') from error


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no number')


def _active(path: Path, part: str) -> dict[Any, dict[str, Any]]:
    """Read entries by id, without the stubs of other splits."""
    held = _load(path)
    entries = held.get(part) if isinstance(held, dict) else None
    if not isinstance(entries, list):
        raise DatasetError(f'{path}: has to hold an object with a list of {part!r}')
    active: dict[Any, dict[str, Any]] = {}
    for place, entry in enumerate(entries):
        name = _id(entry, 'id', f'{path}: entry {place}')
        if not entry.get('active', True):
            continue
        if name in active:
            raise DatasetError(f'{path}: two {part} have the id {name}')
        active[name] = entry
    return active


def _get(entry: Any, key: str, where: str) -> Any:  # noqa: ANN401
    if not isinstance(entry, dict) or key not in entry:
        raise DatasetError(f'{where} has no {key!r}')
    return entry[key]


def _id(entry: Any, key: str, where: str) -> int | str:  # noqa: ANN401
    value = _get(entry, key, where)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise DatasetError(f'{where}: {key} is {str(value)[:40]!r}, not a number')
    return value


def _kind(entry: Any, where: str) -> str:  # noqa: ANN401
    kind = _get(entry, 'type', where)
    if not isinstance(kind, str) or not kind:
        raise DatasetError(f'{where}: type is {str(kind)[:40]!r}, not text')
    return intern(kind)


def _text(text: Any, where: str) -> str:  # noqa: ANN401
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(f'{where} is empty')
    words = len(text.split())
    if words > MAX_WORDS:
        raise DatasetError(f'{where} has {words} words, and {MAX_WORDS} are the most')
    return text


def _file(source: Path, name: Any, find: Callable[[str], Path | None]) -> Path:  # noqa: ANN401
    path = find(str(name))
    if path is None:
        raise DatasetError(
            f'{source}: image {name} has no file {name}.tif or {name}.png beside it or in images/'
        )
    return path


def _fields(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in {'questions_ids', 'id', 'active'}}


def _check_unique(root: Path, what: str, names: Iterator[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DatasetError(f'{root}: {what} {name} comes in two splits')
        seen.add(name)
