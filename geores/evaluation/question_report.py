"""The result of a VQA evaluation: a model compared with image-blind baselines."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores import metrics as measure
from geores.card import ModelCard
from geores.evaluation.report import ALL
from geores.metrics.crossval import LEVEL, bootstrap_weights
from geores.vqa.comparison import MAJORITY, MODEL, QUESTION_ONLY, ModelComparison, compare_models

__all__ = ['COLUMNS', 'VQAEvaluation']

COLUMNS = {MAJORITY: 'majority', QUESTION_ONLY: 'question_only', MODEL: 'predicted'}
"""Model name -> column that holds its answers."""
_DRAWINGS = 128
Limits = tuple[float, float]


@dataclass(frozen=True)
class VQAEvaluation:
    """Predicted answers to questions about images with the true answers, and the metrics that compare them.

    Args:
        card: card of the model.
        predictions: one row per question: `id`, `image`, `source`, `type`, `question`, `raw_answer`,
            `answer` (encoded), `known` (whether the model can give it), `majority`, `question_only`,
            `predicted` and its `probability`.
        taught_by: what the majority and the question-only model were fitted to, in words.
        provenance: model, data and options of the evaluation, as plain JSON values.
        notes: notes on the data, for the user.
        warnings: reasons why the metrics may be misleading.
        replicates: bootstrap replicates for confidence intervals; 0 gives no intervals.
        seed: seed of the bootstrap.
    """

    card: ModelCard
    predictions: pd.DataFrame
    taught_by: str
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    replicates: int = 1000
    seed: int = 0

    def __repr__(self) -> str:
        scores = self.comparison.scores
        figures = ', '.join(f'{who}={one.overall:.4f}' for who, one in scores.items())
        return f'VQAEvaluation({self.card.name!r}, questions={len(self)}, {figures})'

    def __len__(self) -> int:
        return len(self.predictions)

    @cached_property
    def comparison(self) -> ModelComparison:
        """Accuracies and errors of numbers: of the majority, of the question-only model and of the model."""
        rows = self.predictions
        return compare_models(
            {who: rows[column].tolist() for who, column in COLUMNS.items()},
            rows['answer'].tolist(),
            rows['type'].tolist(),
            raw=rows['raw_answer'].tolist(),
            images=rows['image'].nunique(),
            known=self.card.labels,
        )

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Metrics of the model by name; those of the baselines have the name of the baseline in front.

        `accuracy` (OA), `accuracy_mean` (AA), `accuracy_<type>`, `<type>_error` and `<type>_log_error` of
        numbers, `ece`, and `gain`: by how much the model's OA is above the question-only model's.
        """
        figures = self.comparison.figures()
        for who, kinds in self.comparison.numbers.items():
            before = '' if who == MODEL else f'{COLUMNS[who]}_'
            figures |= {f'{before}{kind}_error': error.mean for kind, error in kinds.items()}
        ece = float(self._calibration[ALL])
        return figures | {'ece': ece, 'gain': figures['accuracy'] - figures['question_only_accuracy']}

    @cached_property
    def intervals(self) -> dict[str, Limits]:
        """95 % bootstrap intervals of accuracies and gain, resampling images with all of their questions.

        A single image has no intervals.
        """
        rows = self.predictions
        images, image = np.unique(rows['image'], return_inverse=True)
        if not self.replicates or len(images) < 2:
            return {}
        kinds, kind = np.unique(rows['type'], return_inverse=True)
        shape = (len(images), len(kinds))
        counts = _tally(image, kind, np.ones(len(rows)), shape)
        right = {
            who: _tally(image, kind, np.asarray(rows[column] == rows['answer'], np.float64), shape)
            for who, column in COLUMNS.items()
        }
        drawn: dict[str, list[Tensor]] = {}
        for weights in bootstrap_weights(len(images), self.replicates, self.seed, _DRAWINGS):
            asked, overall = weights @ counts, {}
            for who in COLUMNS:
                found = _accuracies(weights @ right[who], asked, kinds)
                overall[who] = found['accuracy']
                before = '' if who == MODEL else f'{COLUMNS[who]}_'
                for name, values in found.items():
                    drawn.setdefault(f'{before}{name}', []).append(values)
            drawn.setdefault('gain', []).append(overall[MODEL] - overall[QUESTION_ONLY])
        return {name: _limits(torch.cat(parts)) for name, parts in drawn.items()}

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
                **{who.replace('-', '_'): scores[who].by_type for who in COLUMNS},
                'ece': {kind: self._calibration[kind] for kind in counts},
            }
        )
        limits = [self.intervals.get(f'accuracy_{kind}', (np.nan, np.nan)) for kind in frame.index]
        frame.insert(5, 'low', [low for low, _ in limits])
        frame.insert(6, 'high', [high for _, high in limits])
        return frame.rename_axis('type')

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """Errors of counts and areas (m2), one row per type and model: `geores.metrics.vqa.NumericError`."""
        errors = {
            (kind, who): error._asdict()
            for who, kinds in self.comparison.numbers.items()
            for kind, error in kinds.items()
            if error.asked
        }
        columns = ['asked', 'answered', 'inside', 'mean', 'median', 'log']
        places = sorted(errors, key=lambda place: place[0])
        index = pd.MultiIndex.from_tuples(places, names=['type', 'whose'])
        return pd.DataFrame([errors[place] for place in places], index, columns)

    @cached_property
    def per_source(self) -> pd.DataFrame:
        """One row per folder: images, questions, and accuracies."""
        groups = self.predictions.groupby('source')
        frame = pd.DataFrame({'images': groups['image'].nunique(), 'questions': groups.size()})
        for who, column in COLUMNS.items():
            right = self.predictions[column] == self.predictions['answer']
            frame[who.replace('-', '_')] = right.groupby(self.predictions['source']).mean()
        return frame

    @cached_property
    def unknown(self) -> dict[str, int]:
        """True answers that the model cannot give, with their counts, most frequent first."""
        rows = self.predictions
        return dict(Counter(rows.loc[~rows['known'], 'answer']).most_common())

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Number of questions per type, true answer and predicted answer."""
        columns = ['type', 'answer', 'predicted']
        return self.predictions.groupby(columns).size().rename('questions').reset_index()

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

    def record(self, *, curves: bool = False) -> dict[str, Any]:
        """Provenance, figures and tables, for JSON.

        Args:
            curves: whether reliability curves go with them.
        """
        from geores.evaluation.files import record_answers

        return record_answers(self, curves=curves)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write all tables, figures and plots; either all files appear or none.

        Args:
            folder: made if it is not there.
            overwrite: replace files of an earlier evaluation.

        Returns:
            What -> its file.

        Raises:
            OutputError: if a file exists, or the folder cannot be written.
            WriteError: if writing failed, as on a full disk.
        """
        from geores.evaluation.files import save_answers

        return save_answers(self, Path(folder), overwrite=overwrite)

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


def _tally(
    image: NDArray[np.int64], kind: NDArray[np.int64], values: NDArray[np.float64], shape: tuple[int, int]
) -> Tensor:
    """Sums per image and question type, (I, T)."""
    sums = np.zeros(shape)
    np.add.at(sums, (image, kind), values)
    return torch.from_numpy(sums)


def _accuracies(right: Tensor, asked: Tensor, kinds: NDArray[np.str_]) -> dict[str, Tensor]:
    """Metrics of each bootstrap replicate, (R,), from the correct answers per question type, (R, T)."""
    by_type = right / asked  # NaN where a replicate has no question of this type
    found = {'accuracy': right.sum(1) / asked.sum(1), 'accuracy_mean': by_type.nanmean(1)}
    return found | {f'accuracy_{name}': by_type[:, column] for column, name in enumerate(kinds)}


def _limits(values: Tensor) -> Limits:
    tail = (1 - LEVEL) / 2
    low, high = values.nanquantile(torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return low, high
