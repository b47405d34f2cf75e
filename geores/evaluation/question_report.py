"""The result of evaluating a bundle that answers questions, compared with image-blind baselines."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from geores import metrics as measure
from geores.card import ModelCard
from geores.evaluation.answer_report import AnswerReport, plain_name
from geores.evaluation.files import ALL, by_label
from geores.vqa.comparison import MAJORITY, MODEL, QUESTION_ONLY

__all__ = ['VQAEvaluation']


@dataclass(frozen=True, repr=False)
class VQAEvaluation(AnswerReport):
    """Answers of a bundle to questions about images, and the metrics that compare them with the ground truth.

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
    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    replicates: int = 1000
    seed: int = 0

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
        """Tables as of `AnswerReport`, the one per type, and the answers that the model cannot give.

        Args:
            curves: whether reliability curves go with them.
        """
        found = super().tables(curves=curves) | {
            'unknown_answers': self.unknown,
            'per_type': self.per_type.to_dict('index'),
        }
        return found | {'reliability': by_label(self.reliability)} if curves else found

    def plot(self, paths: Mapping[str, Path]) -> None:
        """Draw accuracies, and the reliability of probabilities.

        Args:
            paths: what -> PNG to write.
        """
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
