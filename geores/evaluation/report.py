"""The result of an evaluation: predicted scores against ground truth, and all metrics derived from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores import metrics as measure
from geores.card import ModelCard
from geores.evaluation.files import ALL, Report, by_label

__all__ = ['Evaluation']


@dataclass(frozen=True)
class Evaluation(Report):
    """Predicted scores of labelled images with their ground truth, and the metrics that compare the two.

    Provenance, notes and the bootstrap are arguments of `Report`.

    Args:
        card: card of the model.
        scores: (N, K), 0 to 1, float32.
        target: (N,) indices of the card's labels, or (N, K) of 0 and 1.
        ids: ids of the samples.
        sources: sources of the samples.
        known: (K,) whether the data says of a label where it is true; multi-label figures leave out
            the others.
    """

    FILES: ClassVar[Mapping[str, str]] = {
        'metrics': 'metrics.json',
        'per_class': 'per_class.csv',
        'per_source': 'per_source.csv',
        'confusion': 'confusion.csv',
        'predictions': 'predictions.parquet',
        'confusion_plot': 'confusion.png',
        'reliability_plot': 'reliability.png',
        'threshold_plot': 'thresholds.png',
        'precision_recall_plot': 'precision_recall.png',
    }

    card: ModelCard
    scores: Tensor
    target: Tensor
    ids: tuple[str, ...]
    sources: tuple[str, ...]
    known: NDArray[np.bool_]

    def __repr__(self) -> str:
        figures = ', '.join(f'{name}={value:.4f}' for name, value in self.metrics.items())
        return f'Evaluation({self.card.name!r}, images={len(self)}, {figures})'

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def is_multi_label(self) -> bool:
        """Whether an image has any number of labels."""
        return self.card.task == 'multi-label'

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels that are evaluated: all if single-label, else those that the data has ground truth for."""
        pairs = zip(self.card.labels, self.known, strict=True)
        return tuple(label for label, known in pairs if known or not self.is_multi_label)

    @cached_property
    def measured(self) -> Tensor:
        """Predicted scores of `labels`, (N, L)."""
        return self.scores[:, self._columns]

    @cached_property
    def truth(self) -> Tensor:
        """Ground truth as a 0/1 matrix over `labels`, (N, L)."""
        if self.is_multi_label:
            return self.target[:, self._columns]
        return torch.nn.functional.one_hot(self.target, len(self.labels))

    @cached_property
    def decided(self) -> Tensor:
        """Predictions at the card's thresholds as a 0/1 matrix over `labels`, (N, L)."""
        if self.is_multi_label:
            return (self.measured >= self.thresholds).long()
        return torch.nn.functional.one_hot(self.scores.argmax(1), len(self.labels))

    @cached_property
    def thresholds(self) -> Tensor:
        """Decision threshold per label, (L,); NaN for single-label models, which predict the best label."""
        values = torch.tensor(self.card.thresholds or [0.5] * len(self.card.labels))[self._columns]
        return values if self.is_multi_label else torch.full_like(values, torch.nan)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Metrics over all images; NaN where there are no positives."""
        return self._figures(torch.ones(len(self), dtype=torch.bool))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of the main metrics, resampling images as if they were independent."""
        if not self.replicates:
            return {}
        found = measure.bootstrap_intervals(
            self.measured, self.decided, self.truth, self.replicates, self.seed
        )
        if not self.is_multi_label:
            found['accuracy'], found['accuracy_macro'] = found['recall_micro'], found['recall_macro']
        return {name: found[name] for name in self.metrics if name in found}

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """One row per label: support, number of predictions, threshold, AP, F1, precision, recall, ECE."""
        counts = measure.count_labels(self.decided, self.truth)
        columns = {
            'support': counts.tp + counts.fn,
            'predicted': counts.tp + counts.fp,
            'threshold': self.thresholds,
            'ap': measure.average_precision(self.measured, self.truth, 'none'),
            'f1': measure.fbeta(counts),
            'precision': measure.precision(counts),
            'recall': measure.recall(counts),
            'ece': measure.expected_calibration_error(self._reliability),
        }
        if not self.is_multi_label:
            del columns['threshold']
        index = pd.Index(self.labels, name='label')
        return pd.DataFrame({name: values.numpy() for name, values in columns.items()}, index=index)

    @cached_property
    def per_source(self) -> pd.DataFrame:
        """One row per source of the data: number of images, and the metrics over them."""
        names = sorted(set(self.sources))
        kept = {name: torch.tensor([source == name for source in self.sources]) for name in names}
        rows = [{'images': int(kept[name].sum())} | self._figures(kept[name]) for name in names]
        return pd.DataFrame(rows, index=pd.Index(names, name='source'))

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Confusion matrix, true classes in rows, predicted in columns; multi-label: counts per label."""
        if self.is_multi_label:
            counts = measure.label_matrices(self.decided, self.truth).flatten(1)
            index = pd.Index(self.labels, name='label')
            return pd.DataFrame(counts.numpy(), index, ['tn', 'fp', 'fn', 'tp'])[['tp', 'fp', 'fn', 'tn']]
        return pd.DataFrame(
            measure.confusion_matrix(self.scores, self.target).numpy(),
            pd.Index(self.labels, name='truth'),
            pd.Index(self.labels, name='predicted'),
        )

    @cached_property
    def reliability(self) -> pd.DataFrame:
        """Mean score and share of positives in ten bins of the score, per label and for 'all'.

        For 'all', single-label models count the best label per image, multi-label models every decision.
        """
        curves = {ALL: (self._reliability_of_all, 0)}
        curves |= {label: (self._reliability, column) for column, label in enumerate(self.labels)}
        return pd.concat(
            [
                pd.DataFrame({
                    'label': label,
                    'low': curve.edges[:-1],
                    'high': curve.edges[1:],
                    'score': curve.score[:, column],
                    'share': curve.share[:, column],
                    'count': curve.samples[:, column],
                })
                for label, (curve, column) in curves.items()
            ],
            ignore_index=True,
        )  # fmt: skip

    @cached_property
    def threshold_curve(self) -> pd.DataFrame:
        """Precision, recall and F1 at thresholds 0.01 to 0.99, per label and for 'all' labels together.

        A single-label model predicts its best label where the score reaches the threshold.
        """
        scores = self.measured if self.is_multi_label else measure.top_scores(self.measured)
        every = measure.threshold_curve(scores, self.truth, average='micro')
        single = measure.threshold_curve(scores, self.truth)
        curves: dict[str, Sequence[Tensor]] = {ALL: every[1:]}
        curves |= {label: tuple(part[:, k] for part in single[1:]) for k, label in enumerate(self.labels)}
        at = every.thresholds.numpy()
        return pd.concat(
            [
                _curve(label, at, parts)
                for label, parts in curves.items()
            ],
            ignore_index=True,
        )  # fmt: skip

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per image: `id`, `source`, `truth`, `predicted`, and `score_<label>` of every label."""
        frame = pd.DataFrame({'id': self.ids, 'source': self.sources})
        for name, marks in (('truth', self.truth), ('predicted', self.decided)):
            rows = [[self.labels[k] for k in row.nonzero()[0]] for row in marks.numpy()]
            frame[name] = rows if self.is_multi_label else [row[0] for row in rows]
        scores = pd.DataFrame(self.scores.numpy(), columns=[f'score_{label}' for label in self.card.labels])
        return pd.concat([frame, scores], axis=1)

    def tables(self, *, curves: bool) -> dict[str, Any]:
        """Metrics with their intervals, and the tables per class, per source and of confusion."""
        found = {
            'metrics': self.metrics,
            'intervals': {name: list(limits) for name, limits in self.intervals.items()},
            'per_class': self.per_class.to_dict('index'),
            'per_source': self.per_source.to_dict('index'),
            'confusion': self.confusion.to_dict('index'),
        }
        if curves:
            found['reliability'] = by_label(self.reliability)
            found['threshold_curve'] = by_label(self.threshold_curve)
        return found

    def plot(self, paths: Mapping[str, Path]) -> None:
        """Draw confusion, reliability, thresholds, and precision against recall."""
        from geores.evaluation import figures

        titled, rows = f'{self.name} on {len(self):,} images: ', self.per_class
        shown = figures.best_supported(rows['support'])
        if self.is_multi_label:
            title = f'{titled}decisions, F1 micro {self.metrics["f1_micro"]:.3f}'
            figures.write_decisions(self.confusion.loc[shown], title, paths['confusion_plot'])
        else:
            title = f'{titled}accuracy {self.metrics["accuracy"]:.3f}'
            figures.write_confusion(self.confusion, title, paths['confusion_plot'])
        words = 'labels' if self.is_multi_label else 'best labels', 'label'
        title = f'{titled}reliability, ECE {self.metrics["ece"]:.3f}'
        figures.write_reliability(
            self.reliability, rows['ece'].loc[shown], title, words, paths['reliability_plot']
        )
        title = f'{titled}precision, recall and F1 by threshold'
        figures.write_thresholds(self.threshold_curve, rows.loc[shown], title, paths['threshold_plot'])
        title = f'{titled}precision and recall (dot: as the model decides)'
        decisions = {
            label: (self.truth[:, at].numpy(), self.measured[:, at].numpy(), self.decided[:, at].numpy())
            for label, at in (
                {ALL: slice(None)} | {label: self.labels.index(label) for label in shown}
            ).items()
        }
        areas = {ALL: self.metrics['ap_micro']} | {label: float(rows['ap'].loc[label]) for label in shown}
        figures.write_precision_recall(
            decisions, areas, rows['support'], title, paths['precision_recall_plot']
        )

    @cached_property
    def _columns(self) -> list[int]:
        return [self.card.labels.index(label) for label in self.labels]

    @cached_property
    def _reliability(self) -> measure.Reliability:
        return measure.reliability_curve(self.measured, self.truth)

    @cached_property
    def _reliability_of_all(self) -> measure.Reliability:
        return _overall(self.measured, self.target if not self.is_multi_label else self.truth)

    def _figures(self, kept: Tensor) -> dict[str, float]:
        scores, truth, decided = self.measured[kept], self.truth[kept], self.decided[kept]
        if self.is_multi_label:
            figures = measure.multi_label_report(scores, truth, self.thresholds)
            figures['accuracy_exact'] = float((decided == truth).all(1).double().mean())
            target = truth
        else:
            target = self.target[kept]
            counts = measure.count_labels(decided, truth)
            figures = measure.single_label_report(scores, target) | {
                'precision_macro': float(measure.precision(counts, 'macro')),
                'recall_macro': float(measure.recall(counts, 'macro')),
            }
        figures['ece'] = float(measure.expected_calibration_error(_overall(scores, target))[0])
        return figures


def _curve(label: str, thresholds: NDArray[np.float32], parts: Sequence[Tensor]) -> pd.DataFrame:
    precision, recall, f1 = (part.numpy() for part in parts)
    return pd.DataFrame({
        'label': label,
        'threshold': thresholds,
        'precision': precision,
        'recall': recall,
        'f1': f1,
    })  # fmt: skip


def _overall(scores: Tensor, target: Tensor) -> measure.Reliability:
    """Reliability of the best label per image, or of every label decision of multi-label images."""
    if target.ndim == 1:
        return measure.reliability_curve(*measure.top_label(scores, target))
    return measure.reliability_curve(scores.reshape(-1, 1), target.reshape(-1, 1))
