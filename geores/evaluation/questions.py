"""Questions that a model is evaluated on, and those that the image-blind baselines are fitted to."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from geores.card import ModelCard
from geores.errors import DatasetError, UsageError
from geores.evaluation.split import notes_on_training
from geores.io.tables import visible_files
from geores.vqa.answers import UNKNOWN
from geores.vqa.comparison import kind_of

if TYPE_CHECKING:
    from geores.datasets import RSVQA, RSVQADataModule
    from geores.splits import Split

__all__ = [
    'PARTS',
    'EvaluationQuestions',
    'find_lessons',
    'find_questions',
    'holds_questions',
    'question_folders',
]

Folders = str | PathLike[str] | Sequence[str | PathLike[str]]

PARTS = ('all', 'train', 'val', 'test', 'test_phili')
_METRES = re.compile(r'(\d*\.?\d+) ?m')
_KINDS = {'comp': 'presence'}  # whose answers are of another kind
_CLOSE = 1.05
# How images are split, by the method on a card.
_WAYS: dict[str, Literal['location', 'image']] = {
    'location': 'location',
    'folds': 'image',
    'stratified': 'image',
}


@dataclass(frozen=True)
class EvaluationQuestions:
    """Questions that a model is evaluated on, and the training questions of the baselines.

    Attributes:
        dataset: dataset that the questions are from.
        questions: positions of the questions in the dataset.
        lessons: training questions of the baselines: a dataset and positions in it; None where they are
            fitted to the other evaluated images, by folds.
        taught_by: the same in words.
        notes: notes on the data, for the user.
        warnings: reasons why the metrics may be misleading.
    """

    dataset: 'RSVQA'
    questions: list[int]
    lessons: 'tuple[RSVQA, list[int]] | None'
    taught_by: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def holds_questions(folder: str | PathLike[str]) -> bool:
    """Whether a folder has questions about images, in a layout of RSVQA."""
    return any(visible_files(Path(folder), name) for name in ('*questions.json', 'RSVQAxBEN_QA_*.json'))


def find_questions(
    card: ModelCard,
    data: Folders,
    part: str = 'all',
    train: Folders | None = None,
    *,
    ignore_unknown: bool = False,
) -> EvaluationQuestions:
    """Open questions as a model takes them: with its answer encoding, and images of its size.

    Args:
        card: card of a VQA model.
        data: folder in a layout of RSVQA, or several.
        part: 'all'; 'train' or 'val' of the card's split by location or image, if of this data, else of
            the files; 'test' or 'test_phili' of the files.
        train: folders that the baselines are fitted to; of official files, the training part.
        ignore_unknown: leave out question types that the model has no answers to.

    Raises:
        UsageError: if files are missing or disagree, the part is not there, or the model has no answers to a
            kind of questions.
    """
    if part not in PARTS:
        raise UsageError(f'split has to be one of {", ".join(PARTS)}, not {part!r}')
    folders = question_folders(data)
    module, split = _open(card, folders)
    images = _images(card, module, split, part)
    questions, notes = _answerable(card, module.dataset, module.questions(images), ignore_unknown)
    told, warnings = _training(card, module, split, part, folders)
    asked = {int(module.dataset.image_numbers[index]) for index in questions}
    others = _training_part(module, split, part)
    lessons, taught_by = find_lessons(module.dataset, asked, others, train, _encoding(card))
    return EvaluationQuestions(
        module.dataset,
        questions,
        lessons,
        taught_by,
        (*told, *notes),
        (*warnings, *_scale(card, module.dataset, images)),
    )


def question_folders(data: Folders) -> list[Path]:
    """Check that folders hold questions.

    Raises:
        UsageError: if there are none.
        DatasetError: if one is missing, or holds no questions.
    """
    paths = [Path(one) for one in ([data] if isinstance(data, (str, PathLike)) else data)]
    if not paths:
        raise UsageError('no data is given: name a folder with questions, answers and images')
    for path in paths:
        if not path.is_dir():
            raise DatasetError(f'{path.absolute()}: no such folder')
        if not holds_questions(path):
            raise DatasetError(
                f'{path}: holds no questions.json and no *_split_*_questions.json, and a model that answers '
                'questions is measured on such: give another folder, or a model that gives labels'
            )
    return paths


def _open(card: ModelCard, folders: Sequence[Path]) -> 'tuple[RSVQADataModule, Split | None]':
    """Open all questions, and remake the card's split if it is a split of them."""
    from geores.datasets import RSVQADataModule

    how = card.split if card.split is not None and card.split.method in _WAYS else None
    module = RSVQADataModule(
        [str(folder) for folder in folders],
        split='location' if how is None else _WAYS[how.method],
        size=card.input_size,
        **_encoding(card),
        **({} if how is None else how.given),
    )
    module.dataset  # noqa: B018 - what is wrong with the files is no matter of splits
    try:
        split = module.split if how is not None else None
    except DatasetError:
        split = None
    return module, split if split is not None and split.id == card.split_id else None


def _encoding(card: ModelCard) -> dict[str, Any]:
    encoding = card.answer_encoding or {}
    return {'variant': encoding['variant'], 'answers': encoding['style']}


def _images(card: ModelCard, module: 'RSVQADataModule', split: 'Split | None', part: str) -> list[int]:
    if part == 'all':
        return list(range(len(module.dataset.entries)))
    own = split is not None and part in {'train', 'val'}
    images = _own(split, part) if own else module.images_of(part)
    if not images:
        there = ', '.join(sorted({*module.dataset.image_splits} - {''})) or 'none'
        raise UsageError(
            f'split {part!r}: the files have no such part (there: {there}), and the split of {card.name} '
            f'({card.split_id}) cannot be made again of this data; give all folders that were split and no '
            'other, or leave the split out'
        )
    return images


def _own(split: 'Split | None', part: str) -> list[int]:
    assert split is not None  # noqa: S101 - for the type alone
    return list(split.train if part == 'train' else split.val)


def _answerable(
    card: ModelCard, dataset: 'RSVQA', questions: Sequence[int], ignore_unknown: bool
) -> tuple[list[int], list[str]]:
    """Keep the questions of types that the model has answers to."""
    known = {kind_of(label) for label in card.labels if label != UNKNOWN}
    counts = Counter(dataset.question_types[index] for index in questions)
    lacking = [kind for kind in sorted(counts) if _KINDS.get(kind, kind) not in known]
    if lacking and (not ignore_unknown or len(lacking) == len(counts)):
        raise UsageError(
            f'{card.name} has no answers of the kind {lacking[0]!r}, and {counts[lacking[0]]:,} questions '
            f'are of it: its answers are {dataset.encoding.name}; take a model for this data'
            + ('' if len(lacking) == len(counts) else ', or leave them out by --ignore-unknown')
        )
    notes = [
        f'{counts[kind]:,} questions of the kind {kind!r}, to which {card.name} has no answers, are left out'
        for kind in lacking
    ]
    absent = sorted(known - {_KINDS.get(kind, kind) for kind in counts})
    if absent:
        notes.append(f'not measured, for the data has no such questions: {", ".join(absent)}')
    return [index for index in questions if dataset.question_types[index] not in lacking], notes


def _training(
    card: ModelCard, module: 'RSVQADataModule', split: 'Split | None', part: str, folders: Sequence[Path]
) -> tuple[list[str], list[str]]:
    """Notes and warnings on whether the model was trained on these images."""
    if split is not None and part != 'test' and part != 'test_phili':
        count, total = len(split.train), len(module.dataset.entries)
        if part == 'val':
            return [
                f'these images {card.name} kept for validation, where its temperature may have been chosen'
            ], []
        which = 'these images' if part == 'train' else f'{count:,} of {total:,} images'
        more = '' if part == 'train' else '; split val takes those kept for validation'
        return [], [f'{which} have trained {card.name}: figures are better than on new ones{more}']
    if part in {'test', 'test_phili'} and (split is not None or _is_official(card)):
        return [], []
    names = {name for folder in folders for name in folder.resolve().parts[-2:]} | {*module.dataset.sources}
    told = 'figures may be of training images, better than on new ones'
    return [*notes_on_training(card)], [
        f'the card of {card.name} names {name} as training data: {told}' for name in card.trained_on(names)
    ]


def _is_official(card: ModelCard) -> bool:
    return card.split is not None and card.split.method == 'official'


def _training_part(module: 'RSVQADataModule', split: 'Split | None', part: str) -> list[int]:
    """Images that the baselines are fitted to where part of the data is evaluated; none with all of it."""
    if part in {'all', 'train'}:
        return []
    return list(split.train) if split is not None else module.images_of('train')


def find_lessons(
    dataset: 'RSVQA',
    images: set[int],
    others: Sequence[int],
    train: Folders | None,
    options: Mapping[str, Any],
) -> 'tuple[tuple[RSVQA, list[int]] | None, str]':
    """Find the questions that image-blind baselines are fitted to.

    Returns:
        A dataset and positions of questions in it, or None where the baselines are fitted to the other
        evaluated images, by folds; and the same in words.

    Raises:
        UsageError: if there is nothing to fit the baselines to.
    """
    from geores.datasets import RSVQA

    if train is not None:
        folders = question_folders(train)
        told = RSVQA(folders, **options)
        used = {dataset.entries[number].path.resolve() for number in images}
        kept = [
            number
            for number, entry in enumerate(told.entries)
            if entry.split in {'train', ''} and entry.path.resolve() not in used
        ]
        lessons = [index for number in kept for index in told.questions_of[number]]
        if not lessons:
            raise UsageError(
                f'{", ".join(map(str, folders))}: has no training images but those that are measured on'
            )
        return (told, lessons), f'{_count(kept, lessons)} of {", ".join(map(str, folders))}'
    lessons = [index for number in others for index in dataset.questions_of[number]]
    if lessons:
        return (dataset, lessons), f'{_count(others, lessons)} of the training part'
    if len(images) < 2:
        raise UsageError(
            'one image alone leaves majority and question-only model nothing to learn from: name folders by '
            '--train'
        )
    return None, 'the other images measured on, in folds of images'


def _count(images: Sequence[int], questions: Sequence[int]) -> str:
    return f'{len(questions):,} questions on {len(images):,} images'


def _scale(card: ModelCard, dataset: 'RSVQA', images: Sequence[int]) -> list[str]:
    """Warn if the files state another resolution than the model takes."""
    told = (str(dataset.entries[number].fields.get('res_x', '')) for number in images)
    metres = {float(match[1]) for text in told if (match := _METRES.fullmatch(text))}
    low, high = card.gsd
    off = sorted(one for one in metres if not low / _CLOSE <= one <= high * _CLOSE)
    return [f'images at {off[0]:g} m a pixel, and {card.name} is for {low:g} to {high:g} m'] if off else []
