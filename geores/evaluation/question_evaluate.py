"""Evaluate a bundle that answers questions, compared with image-blind baselines, and what came out."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from geores import metrics as measure
from geores.card import ModelCard
from geores.errors import UsageError
from geores.evaluation.answer_report import AnswerReport, plain_name
from geores.evaluation.blind import answer_blindly
from geores.evaluation.files import ALL, PreparedEvaluation, Report, by_label
from geores.evaluation.questions import EvaluationQuestions, Folders, find_questions
from geores.options import EvaluateOptions
from geores.runtime.base import DTYPES, Precision
from geores.runtime.predictor import check_precision
from geores.vqa.comparison import MAJORITY, MODEL, QUESTION_ONLY
from geores.vqa.model import VQAModel

if TYPE_CHECKING:
    from geores.datasets import RSVQA

__all__ = ['VQAEvaluation', 'VQAEvaluator', 'named']


@dataclass(frozen=True, repr=False)
class VQAEvaluation(AnswerReport):
    """Answers of a bundle to questions about images, and the metrics that compare them with the ground truth.

    Provenance, notes and the bootstrap are arguments of `Report`.

    Args:
        card: card of the model.
        predictions: one row per question: `id`, `image`, `source`, `type`, `question`, `raw_answer`,
            `answer` (encoded), `known` (whether the model can give it), `majority`, `question_only`,
            `predicted` and its `probability`.
        taught_by: what the majority and the question-only model were fitted to, in words.
    """

    FILES: ClassVar[Mapping[str, str]] = {
        'metrics': 'metrics.json',
        'per_type': 'per_type.csv',
        'numbers': 'numbers.csv',
        'per_source': 'per_source.csv',
        'confusion': 'confusion.csv',
        'predictions': 'predictions.parquet',
        'accuracy_plot': 'accuracy.png',
        'reliability_plot': 'reliability.png',
    }
    COLUMNS: ClassVar[Mapping[str, str]] = {
        MAJORITY: 'majority',
        QUESTION_ONLY: 'question_only',
        MODEL: 'predicted',
    }

    card: ModelCard
    predictions: pd.DataFrame
    taught_by: str

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def answers(self) -> tuple[str, ...]:
        """Answers that the model can give."""
        return self.card.labels

    def further_metrics(self) -> dict[str, float]:
        """`ece`: the expected calibration error of the probabilities."""
        return {'ece': self._calibration[ALL]}

    @cached_property
    def per_type(self) -> pd.DataFrame:
        """One row per question type: questions, answers unknown to the model, accuracies, interval, ECE."""
        rows, scores = self.predictions, self.comparison.scores
        counts = scores[MODEL].counts
        unknown = rows.loc[~rows['known'], 'type'].value_counts()
        frame = pd.DataFrame(
            {
                'questions': counts,
                'unknown': {kind: int(unknown.get(kind, 0)) for kind in counts},
                **{plain_name(who): scores[who].by_type for who in self.COLUMNS},
                'ece': {kind: self._calibration[kind] for kind in counts},
            }
        )
        return self.with_limits(frame, 5).rename_axis('type')

    @cached_property
    def unknown(self) -> dict[str, int]:
        """True answers that the model cannot give, with their counts, most frequent first."""
        rows = self.predictions
        return dict(Counter(rows.loc[~rows['known'], 'answer']).most_common())

    @cached_property
    def reliability(self) -> pd.DataFrame:
        """Mean probability and accuracy in ten bins, for all questions and per question type."""
        return pd.concat(
            [
                pd.DataFrame({
                    'label': kind,
                    'low': curve.edges[:-1],
                    'high': curve.edges[1:],
                    'score': curve.score[:, 0],
                    'share': curve.share[:, 0],
                    'count': curve.samples[:, 0],
                })
                for kind, curve in self._curves.items()
            ],
            ignore_index=True,
        )  # fmt: skip

    def tables(self, *, curves: bool) -> dict[str, Any]:
        """Tables as of `AnswerReport`, the one per type, and the answers that the model cannot give."""
        found = super().tables(curves=curves) | {
            'unknown_answers': self.unknown,
            'per_type': self.per_type.to_dict('index'),
        }
        return found | {'reliability': by_label(self.reliability)} if curves else found

    def plot(self, paths: Mapping[str, Path]) -> None:
        """Draw accuracies, and the reliability of probabilities."""
        from geores.evaluation import figures

        super().plot(paths)
        title = f'{self.title}: reliability, ECE {self.metrics["ece"]:.3f}'
        words = 'answers', 'kind of question'
        figures.write_reliability(
            self.reliability, self.per_type['ece'], title, words, paths['reliability_plot']
        )

    @cached_property
    def _curves(self) -> dict[str, measure.Reliability]:
        rows = self.predictions
        right = torch.from_numpy((rows['predicted'] == rows['answer']).to_numpy(np.int64))[:, None]
        scores = torch.from_numpy(rows['probability'].to_numpy(np.float64)).clamp(0, 1)[:, None]
        places = {ALL: np.arange(len(rows))}
        places |= {kind: np.flatnonzero(rows['type'] == kind) for kind in sorted(set(rows['type']))}
        return {kind: measure.reliability_curve(scores[at], right[at]) for kind, at in places.items()}

    @cached_property
    def _calibration(self) -> dict[str, float]:
        return {
            kind: float(measure.expected_calibration_error(curve)) for kind, curve in self._curves.items()
        }


class _Images(Dataset[Tensor]):
    """Images of a dataset of questions."""

    def __init__(self, dataset: 'RSVQA', numbers: Sequence[int]) -> None:
        self.dataset, self.numbers = dataset, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Tensor:
        return self.dataset.image(self.numbers[index])


@dataclass(frozen=True)
class VQAEvaluator(PreparedEvaluation):
    """A VQA evaluation that is checked and ready to run; `prepare` makes it."""

    report: ClassVar[type[Report]] = VQAEvaluation

    model: VQAModel
    asked: EvaluationQuestions
    batch_size: int
    precision: Precision
    workers: int
    replicates: int
    seed: int
    provenance: Mapping[str, Any]

    @classmethod
    def prepare(cls, model: VQAModel, data: Folders, options: EvaluateOptions) -> Self:
        """Find questions, answers and images, and the training data of the baselines.

        Args:
            model: the loaded model.
            data: one folder in a layout of RSVQA, or several.
            options: what to evaluate, and how; `split` is one of `find_questions`. Where no `train` is given,
                majority and question-only model are fitted to the training part if `split` leaves one, else
                to the other evaluated images, by folds.

        Raises:
            UsageError: if something given cannot be used.
        """
        if other := options.of_labels:
            raise UsageError(
                f'{other[0]} goes with models that give labels, and {model.name} answers questions'
            )
        on_cuda = model.device.type == 'cuda'
        split, train, bootstrap = options.split or 'all', options.train, options.bootstrap
        wanted = check_precision(model, options.precision)
        chosen: Precision = ('fp16' if on_cuda else 'fp32') if wanted == 'auto' else wanted
        asked = find_questions(model.card, data, split, train, ignore_unknown=options.ignore_unknown)
        images = len({int(asked.dataset.image_numbers[index]) for index in asked.questions})
        provenance: dict[str, Any] = {
            'model': model.card.name,
            'model_sha256': model.card.sha256,
            'licence_of_weights': model.card.licence,
            'geores_version': version('geores'),
            'data': named(data),
            'split': split,
            'train': None if train is None else named(train),
            'answers': asked.dataset.encoding.name,
            'images': images,
            'questions': len(asked.questions),
            'baselines_learnt_from': asked.taught_by,
            'device': str(model.device),
            'precision': chosen,
        }
        if bootstrap:
            provenance |= {'bootstrap': {'replicates': bootstrap, 'seed': options.seed, 'over': 'images'}}
        numbers = (options.batch_size, chosen, options.workers, bootstrap, options.seed)
        return cls(model, asked, *numbers, provenance)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name

    def run(self, progress: Callable[[int, int], None] | None = None) -> VQAEvaluation:
        """Answer all questions; each image is encoded once.

        Args:
            progress: called with the number of images just done and of all images.

        Raises:
            DatasetError: if an image cannot be read.
        """
        frame = self._frame()
        answers = self._answers(progress)
        frame['predicted'] = [answers[index][0] for index in self.asked.questions]
        frame['probability'] = np.array([answers[index][1] for index in self.asked.questions], np.float32)
        unknown = int((~frame['known']).sum())
        notes = (
            f'majority and question-only model have learnt from {self.asked.taught_by}',
            *self.asked.notes,
        )
        if unknown:
            notes += (
                f'{unknown:,} questions have an answer that the training of {self.model.name} never gave: '
                'they count, as wrong',
            )
        return VQAEvaluation(
            card=self.model.card,
            predictions=frame,
            taught_by=self.asked.taught_by,
            provenance=self.provenance,
            notes=notes,
            warnings=self.asked.warnings,
            replicates=self.replicates,
            seed=self.seed,
        )

    def _frame(self) -> pd.DataFrame:
        """Questions with their true answers, and the answers of the image-blind baselines."""
        asked, known = self.asked, set(self.model.card.labels[1:])
        frame = answer_blindly(asked.dataset, asked.questions, asked.lessons, self.seed)
        return frame.assign(known=frame['answer'].isin(known))

    def _answers(self, progress: Callable[[int, int], None] | None) -> dict[int, tuple[str, float]]:
        """Predicted answer and its probability per question, by the question's position."""
        data, model = self.asked.dataset, self.model
        asked: dict[int, list[int]] = {}
        for index in self.asked.questions:
            asked.setdefault(int(data.image_numbers[index]), []).append(index)
        numbers = list(asked)
        loader = DataLoader(_Images(data, numbers), self.batch_size, num_workers=self.workers)
        answers: dict[int, tuple[str, float]] = {}
        done = 0
        for images in loader:
            for number, features in zip(numbers[done : done + len(images)], self._look(images), strict=True):
                texts = [data.questions[index].text for index in asked[number]]
                scores, best = model.probabilities(features[None], texts)[0].max(1)
                said = [model.card.labels[place] for place in best.tolist()]
                answers.update(zip(asked[number], zip(said, scores.tolist(), strict=True), strict=True))
            done += len(images)
            if progress is not None:
                progress(len(images), len(numbers))
        return answers

    def _look(self, images: Tensor) -> Tensor:
        dtype = DTYPES[self.precision]
        with torch.autocast(self.model.device.type, dtype, enabled=dtype != torch.float32):
            return self.model.encode(images, self.batch_size).float()


def named(folders: Folders) -> list[str]:
    """Folders as text."""
    paths = [folders] if isinstance(folders, (str, PathLike)) else folders
    return [fspath(path) for path in paths]
