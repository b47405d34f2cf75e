"""Score the answers of any system on questions of RSVQA: `geores evaluate DATA --predictions FILE`.

Published figures differ by what counts as right, by which questions count, and by which questions were in the
file. Here each is stated: which split, with a hash of its questions; accuracies over all types, without
counts and of closed questions; baselines that see no image; and intervals over images.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geores.errors import UsageError
from geores.evaluation.answer_report import AnswerReport, plain_name
from geores.evaluation.blind import answer_blindly
from geores.evaluation.files import PreparedEvaluation, Report
from geores.evaluation.prediction_file import (
    Prediction,
    match_questions,
    no_image,
    read_answer,
    read_predictions,
)
from geores.evaluation.questions import PARTS, Folders, find_lessons, question_folders
from geores.vqa.answers import Style, Variant
from geores.vqa.comparison import MAJORITY, MODEL, QUESTION_ONLY

if TYPE_CHECKING:
    from geores.datasets import RSVQA

__all__ = ['PredictionsEvaluation', 'PredictionsEvaluator', 'evaluate_predictions', 'hash_questions']

MISSING, UNREADABLE = '<missing>', '<unreadable>'
"""Stand for an answer that is not there, and for one that its question cannot have: both are wrong."""
TYPE_MAJORITY = 'majority of type'
_PREFIXES: dict[str, Variant] = {'LR': 'lr', 'USGS': 'hr', 'HR': 'hr', 'RSVQAxBEN': 'xben'}
_METRES = re.compile(r'(\d*\.?\d+) ?m')
_COARSE = 5.0
"""Metres a pixel from which images are those of RSVQA LR."""
_SHOWN = 3


def hash_questions(rows: pd.DataFrame) -> str:
    """SHA-256 of what was asked, by which two figures can be told to be on the same questions.

    Args:
        rows: one row per question: `id` and `image` as 'folder/name', `type`, `question` and `raw_answer`.
            Names of folders and the order do not count.
    """
    names = [rows[column].str.rpartition('/')[2] for column in ('id', 'image')]
    lines = sorted(zip(*names, rows['type'], rows['question'], rows['raw_answer'], strict=True))
    return hashlib.sha256('\n'.join('\t'.join(line) for line in lines).encode()).hexdigest()


@dataclass(frozen=True, repr=False)
class PredictionsEvaluation(AnswerReport):
    """Answers of any system to questions about images, compared with the ground truth.

    Provenance, notes and the bootstrap are arguments of `Report`.

    Args:
        system: name of the system.
        predictions: one row per question: `id`, `image`, `source`, `type`, `question`, `raw_answer`,
            `answer` (encoded), `majority_of_type`, `majority`, `question_only`, `said` (as in the file) and
            `predicted` (encoded, '<missing>' or '<unreadable>').
        rewordings: one row per question that was also asked in other words: `id`, `image`, `type`,
            `wordings` (number of them with the one of the files), `agree` (whether all got one answer) and
            `right` (whether all got the true one).
    """

    FILES: ClassVar[Mapping[str, str]] = {
        'metrics': 'metrics.json',
        'per_type': 'per_type.csv',
        'numbers': 'numbers.csv',
        'per_source': 'per_source.csv',
        'confusion': 'confusion.csv',
        'rewordings': 'rewordings.csv',
        'predictions': 'predictions.parquet',
        'accuracy_plot': 'accuracy.png',
    }
    COLUMNS: ClassVar[Mapping[str, str]] = {
        TYPE_MAJORITY: 'majority_of_type',
        MAJORITY: 'majority',
        QUESTION_ONLY: 'question_only',
        MODEL: 'predicted',
    }

    system: str
    predictions: pd.DataFrame
    rewordings: pd.DataFrame

    @property
    def name(self) -> str:
        """Name of the system."""
        return self.system

    @cached_property
    def per_type(self) -> pd.DataFrame:
        """One row per question type: questions, how many are answered, accuracies, interval, agreement."""
        rows, scores = self.predictions, self.comparison.scores
        counts = scores[MODEL].counts
        kinds = rows['type']
        frame = pd.DataFrame(
            {
                'questions': counts,
                'answered': (rows['predicted'] != MISSING).groupby(kinds).sum(),
                'unreadable': (rows['predicted'] == UNREADABLE).groupby(kinds).sum(),
                **{plain_name(who): scores[who].by_type for who in self.COLUMNS},
            }
        )
        agree = self.rewordings.groupby('type')['agree'].mean()
        frame['paraphrase_agreement'] = [agree.get(kind, np.nan) for kind in frame.index]
        return self.with_limits(frame, 7).rename_axis('type')

    def ratios(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Sums per image: `answered`, and the agreement of paraphrases where there are any."""
        images = self.images
        rows, others = self.predictions, self.rewordings

        def per_image(table: pd.DataFrame, values: 'pd.Series[Any] | float') -> Tensor:
            sums = pd.Series(values, table.index, dtype=float).groupby(table['image']).sum()
            return torch.from_numpy(sums.reindex(images, fill_value=0.0).to_numpy(copy=True))

        found = {'answered': (per_image(rows, rows['predicted'] != MISSING), per_image(rows, 1.0))}
        if len(others):
            asked = per_image(others, 1.0)
            found['paraphrase_agreement'] = per_image(others, others['agree']), asked
            found['paraphrase_accuracy'] = per_image(others, others['right']), asked
        return found

    def tables(self, *, curves: bool) -> dict[str, Any]:
        """Tables as of `AnswerReport`, and the one per type."""
        return super().tables(curves=curves) | {'per_type': self.per_type.to_dict('index')}


@dataclass(frozen=True)
class PredictionsEvaluator(PreparedEvaluation):
    """An evaluation of predictions that is checked and ready to run; `prepare` makes it."""

    report: ClassVar[type[Report]] = PredictionsEvaluation

    system: str
    dataset: 'RSVQA'
    answers: Mapping[int, list[Prediction]]
    lessons: 'tuple[RSVQA, list[int]] | None'
    provenance: Mapping[str, Any]
    notes: tuple[str, ...]
    replicates: int
    seed: int

    @classmethod
    def prepare(
        cls,
        predictions: str | PathLike[str],
        data: Folders,
        *,
        split: str = 'all',
        train: Folders | None = None,
        variant: str | None = None,
        style: Style = 'official',
        name: str | None = None,
        bootstrap: int = 1000,
        seed: int = 0,
    ) -> Self:
        """Read predictions and questions, and match them. Images need not be there.

        Args:
            predictions: file as of `read_predictions`.
            data: one folder in a layout of RSVQA, or several.
            split: 'all', 'train', 'val', 'test' or 'test_phili' of the files.
            train: folders that the baselines are fitted to. None takes the training part if `split` leaves
                one, else the other evaluated images, by folds.
            variant: 'lr', 'hr' or 'xben': which answers are binned. None takes what the files' names and
                fields say.
            style: names of the bins, 'official' or 'paper'.
            name: name of the system; None takes the file's.
            bootstrap: bootstrap replicates for confidence intervals; 0 gives no intervals.
            seed: seed of the bootstrap and of the question-only model.

        Raises:
            UsageError: if something given cannot be used.
            DatasetError: if questions are missing or damaged.
        """
        from geores.datasets import RSVQA

        if split not in PARTS:
            raise UsageError(f'split has to be one of {", ".join(PARTS)}, not {split!r}')
        if bootstrap < 0:
            raise UsageError(f'bootstrap has to be 0 or more, not {bootstrap}')
        said = read_predictions(predictions)
        folders = question_folders(data)
        chosen, why = _variant(folders, variant)
        options: dict[str, Any] = {'variant': chosen, 'answers': style, 'reader': no_image}
        dataset = RSVQA(folders, split=None if split == 'all' else split, **options)
        answers, notes = match_questions(predictions, dataset, said)
        teacher, others = dataset, []
        if split not in {'all', 'train'} and train is None:
            teacher = RSVQA(folders, **options)
            others = [number for number, one in enumerate(teacher.image_splits) if one == 'train']
        images = set(range(len(dataset.entries)))
        lessons, taught_by = find_lessons(teacher, images, others, train, options)
        path = Path(predictions)
        provenance: dict[str, Any] = {
            'system': name or path.stem,
            'predictions': fspath(predictions),
            'predictions_sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
            'geores_version': version('geores'),
            'data': [fspath(folder) for folder in folders],
            'split': split,
            'images': len(dataset.entries),
            'questions': len(dataset),
            'answers': dataset.encoding.name,
            'train': None if train is None else [fspath(folder) for folder in question_folders(train)],
            'baselines_learnt_from': taught_by,
        }
        if bootstrap:
            provenance |= {'bootstrap': {'replicates': bootstrap, 'seed': seed, 'over': 'images'}}
        notes = (f'answers are compared as {dataset.encoding.name}, by {why}', *notes)
        told = f'the baselines, which see no image, have learnt from {taught_by}'
        return cls(name or path.stem, dataset, answers, lessons, provenance, (*notes, told), bootstrap, seed)

    @property
    def name(self) -> str:
        """Name of the system."""
        return self.system

    def run(self, progress: Callable[[int, int], None] | None = None) -> PredictionsEvaluation:
        """Fit the baselines, and compare all answers."""
        frame = answer_blindly(self.dataset, range(len(self.dataset)), self.lessons, self.seed)
        spelled = {answer.lower(): answer for answer in self.dataset.answers}
        said, read, by_first, rewordings = [], [], 0, []
        for index in range(len(self.dataset)):
            kind, own, others = self.dataset.question_types[index], None, []
            for one in self.answers.get(index, ()):
                answer, first = read_answer(self.dataset.encoding, kind, one.answer)
                by_first += first
                answer = UNREADABLE if answer is None else spelled.get(answer.lower(), answer)
                if one.is_paraphrase:
                    others.append(answer)
                else:
                    own = one.answer, answer
            said.append(None if own is None else own[0])
            read.append(MISSING if own is None else own[1])
            if others:
                rewordings.append(self._reworded(index, [*others, *([] if own is None else [own[1]])]))
        frame['said'], frame['predicted'] = said, read
        if progress is not None:
            progress(len(frame), len(frame))
        columns = ['id', 'image', 'type', 'wordings', 'agree', 'right']
        counts = frame['type'].value_counts().sort_index().to_dict()
        hashed = {'split_sha256': hash_questions(frame), 'questions_per_type': counts}
        return PredictionsEvaluation(
            system=self.system,
            predictions=frame,
            rewordings=pd.DataFrame(rewordings, columns=columns),
            provenance=dict(self.provenance) | hashed,
            notes=(
                *self.notes,
                *[f'{by_first:,} answers are read by their first word alone'] * bool(by_first),
            ),
            warnings=_left_open(frame),
            replicates=self.replicates,
            seed=self.seed,
        )

    def _reworded(self, index: int, answers: list[str]) -> tuple[str, str, str, int, bool, bool]:
        data = self.dataset
        agree = len(set(answers)) == 1 and answers[0] != UNREADABLE
        right = all(answer == data.answers[index] for answer in answers)
        image = data.image_ids[data.image_numbers[index]]
        return data.ids[index], image, data.question_types[index], len(answers), agree, right


def evaluate_predictions(
    predictions: str | PathLike[str],
    data: Folders,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Any,  # noqa: ANN401 - those of PredictionsEvaluator.prepare
) -> PredictionsEvaluation:
    """Score a system's answers to questions of RSVQA; see `PredictionsEvaluator.prepare`.

    Raises:
        UsageError: if something given cannot be used; nothing was written.
        WriteError: if the results could not be written.
    """
    evaluator = PredictionsEvaluator.prepare(predictions, data, **options)
    if out is not None:
        evaluator.check_output(Path(out), overwrite=overwrite)
    found = evaluator.run()
    if out is not None:
        found.save(out, overwrite=overwrite)
    return found


def _variant(folders: list[Path], given: str | None) -> tuple[Variant, str]:
    """The variant of RSVQA, and in words what says so."""
    if given is not None:
        if given not in get_args(Variant):
            raise UsageError(f'variant has to be one of {", ".join(get_args(Variant))}, not {given!r}')
        return given, 'the variant given'  # type: ignore[return-value]
    found: dict[Variant, str] = {}
    for folder in folders:
        for path in sorted(folder.glob('*.json')):
            prefix = path.name.split('_')[0]
            if '_split_' in path.name or prefix == 'RSVQAxBEN':
                if prefix in _PREFIXES:
                    found.setdefault(_PREFIXES[prefix], f'the name of {path.name}')
            elif path.name.endswith('images.json') and (metres := _pixel_size(path)) is not None:
                kind: Variant = 'lr' if metres >= _COARSE else 'hr'
                found.setdefault(kind, f'pixels of {metres:g} m in {path.name}')
    if len(found) != 1:
        told = ' and '.join(found.values()) if found else 'neither their names nor pixel sizes say'
        raise UsageError(
            f'{", ".join(map(str, folders))}: RSVQA LR, HR or xBEN? ({told}) Counts are binned in one and '
            'exact in the other: choose by --variant'
        )
    return next(iter(found.items()))


def _pixel_size(path: Path) -> float | None:
    """Pixel size that the first image of a file of images states, in metres."""
    try:
        images = json.loads(path.read_text(encoding='utf-8'))['images']
        sizes = (_METRES.fullmatch(str(one.get('res_x', ''))) for one in images)
        match = next((one for one in sizes if one is not None), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return None if match is None else float(match[1])


def _left_open(frame: pd.DataFrame) -> tuple[str, ...]:
    """Warnings about questions without an answer that can be read."""
    warnings = []
    missing = frame[frame['predicted'] == MISSING]
    if len(missing):
        kinds = ', '.join(f'{kind} {count:,}' for kind, count in missing['type'].value_counts().items())
        warnings.append(
            f'{len(missing):,} of {len(frame):,} questions have no answer ({kinds}): they count, as wrong'
        )
    odd = frame[frame['predicted'] == UNREADABLE]
    if len(odd):
        shown = '; '.join(f'{row.said!r} to {row.question!r}' for row in odd.head(_SHOWN).itertuples())
        warnings.append(
            f'{len(odd):,} answers are none that their question can have ({shown}): they count, as wrong'
        )
    return tuple(warnings)
