"""Answers compared with the ground truth and with image-blind baselines, whoever gave them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.evaluation.files import Report
from geores.metrics.crossval import LEVEL, bootstrap_weights
from geores.vqa.comparison import MODEL, QUESTION_ONLY, ModelComparison, compare_models

__all__ = ['AnswerReport', 'conventions', 'plain_name']

CLOSED = ('comp', 'presence', 'rural_urban')
"""Question types of a few answers: yes or no, rural or urban."""
COUNT = 'count'
_DRAWINGS = 128
Limits = tuple[float, float]


def conventions(kinds: Sequence[str]) -> dict[str, list[str]]:
    """Question types that enter an accuracy, by the end of its name.

    Published figures differ in this: all types (Lobry et al. 2020), all but counts, or the closed types alone
    (GeoChat and others after it).

    Returns:
        '' -> all types; 'without_count' and 'closed' -> theirs, where they are others.
    """
    found = {'': list(kinds)}
    for name, kept in (
        ('without_count', [kind for kind in kinds if kind != COUNT]),
        ('closed', [kind for kind in kinds if kind in CLOSED]),
    ):
        if kept and kept != found['']:
            found[name] = kept
    return found


class AnswerReport(Report):
    """Predicted answers to questions about images with the true answers, and the metrics that compare them.

    A subclass is a dataclass with `predictions`.

    Attributes:
        COLUMNS: name of a model -> column of `predictions` that holds its answers: baselines, then the one
            that is evaluated, `MODEL`.
    """

    COLUMNS: ClassVar[Mapping[str, str]]

    predictions: pd.DataFrame

    def __len__(self) -> int:
        return len(self.predictions)

    def __repr__(self) -> str:
        scores = self.comparison.scores
        figures = ', '.join(f'{who}={one.overall:.4f}' for who, one in scores.items())
        return f'{type(self).__name__}({self.name!r}, questions={len(self)}, {figures})'

    @property
    def answers(self) -> tuple[str, ...]:
        """Answers that the model can give; empty where that is unknown."""
        return ()

    @cached_property
    def images(self) -> list[str]:
        """Images, in the order of the bootstrap."""
        return sorted(set(self.predictions['image']))

    @cached_property
    def comparison(self) -> ModelComparison:
        """Accuracies and errors of numbers, of the baselines and of the model."""
        rows = self.predictions
        return compare_models(
            {who: rows[column].tolist() for who, column in self.COLUMNS.items()},
            rows['answer'].tolist(),
            rows['type'].tolist(),
            raw=rows['raw_answer'].tolist(),
            images=rows['image'].nunique(),
            known=self.answers,
        )

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Metrics of the model by name; those of the baselines have the name of the baseline in front.

        `accuracy` (OA), `accuracy_mean` (AA), both also `_without_count` and of the `_closed` types alone
        (`conventions`), `accuracy_<type>`, `<type>_error` and `<type>_log_error` of numbers, and `gain`: by
        how much the model's OA is above the question-only model's.
        """
        figures = self.comparison.figures()
        for who, kinds in self.comparison.numbers.items():
            figures |= {f'{self._before(who)}{kind}_error': error.mean for kind, error in kinds.items()}
        names, counts, right = self._tallies
        for who, tally in right.items():
            parts = _accuracies(tally.sum(0)[None], counts.sum(0)[None], names)
            figures |= {f'{self._before(who)}{name}': float(value) for name, value in parts.items()}
        figures |= {name: float(part.sum() / whole.sum()) for name, (part, whole) in self.ratios().items()}
        gain = figures['accuracy'] - figures['question_only_accuracy']
        return figures | self.further_metrics() | {'gain': gain}

    def ratios(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Shares that a subclass measures: numerators and denominators per image of `images`, (I,) each."""
        return {}

    def further_metrics(self) -> dict[str, float]:
        """Metrics of a subclass."""
        return {}

    @cached_property
    def intervals(self) -> dict[str, Limits]:
        """95 % bootstrap intervals of accuracies and gain, resampling images with all of their questions.

        A single image has no intervals.
        """
        names, counts, right = self._tallies
        if not self.replicates or len(counts) < 2:
            return {}
        drawn: dict[str, list[Tensor]] = {}
        for weights in bootstrap_weights(len(counts), self.replicates, self.seed, _DRAWINGS):
            asked, overall = weights @ counts, {}
            for who in self.COLUMNS:
                found = _accuracies(weights @ right[who], asked, names)
                overall[who] = found['accuracy']
                for name, values in found.items():
                    drawn.setdefault(f'{self._before(who)}{name}', []).append(values)
            drawn.setdefault('gain', []).append(overall[MODEL] - overall[QUESTION_ONLY])
            for name, (part, whole) in self.ratios().items():
                drawn.setdefault(name, []).append((weights @ part) / (weights @ whole))
        return {name: _limits(torch.cat(parts)) for name, parts in drawn.items()}

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
        for who, column in self.COLUMNS.items():
            right = self.predictions[column] == self.predictions['answer']
            frame[plain_name(who)] = right.groupby(self.predictions['source']).mean()
        return frame

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """Number of questions per type, true answer and predicted answer."""
        columns = ['type', 'answer', 'predicted']
        return self.predictions.groupby(columns).size().rename('questions').reset_index()

    def tables(self, *, curves: bool) -> dict[str, Any]:
        """Metrics with their intervals, errors of numbers, and the table per source."""
        numbers: dict[str, dict[str, Any]] = {}
        for who, kinds in self.comparison.numbers.items():
            for kind, error in kinds.items():
                numbers.setdefault(kind, {})[plain_name(who)] = error._asdict()
        return {
            'metrics': self.metrics,
            'intervals': {name: list(limits) for name, limits in self.intervals.items()},
            'numbers': numbers,
            'per_source': self.per_source.to_dict('index'),
        }

    def plot(self, paths: Mapping[str, Path]) -> None:
        """Draw accuracy per question type and overall, of the baselines and of the model."""
        from geores.evaluation import figures

        names = {f'accuracy_{kind}': kind for kind in self.comparison.scores[MODEL].counts}
        names |= {'accuracy': 'all (OA)', 'accuracy_mean': 'mean of kinds (AA)'}

        def table(values: Mapping[str, Any]) -> pd.DataFrame:
            columns = {who: [values[f'{self._before(who)}{name}'] for name in names] for who in self.COLUMNS}
            return pd.DataFrame(columns, list(names.values()))

        ends = {
            end: table({name: limits[at] for name, limits in self.intervals.items()})
            for at, end in enumerate(('low', 'high'))
            if self.intervals
        }
        figures.write_answer_accuracy(table(self.metrics), ends or None, self.title, paths['accuracy_plot'])

    def with_limits(self, frame: pd.DataFrame, at: int) -> pd.DataFrame:
        """Put the interval of each type's accuracy into a table, as columns `low` and `high`."""
        limits = [self.intervals.get(f'accuracy_{kind}', (np.nan, np.nan)) for kind in frame.index]
        frame.insert(at, 'low', [low for low, _ in limits])
        frame.insert(at + 1, 'high', [high for _, high in limits])
        return frame

    @property
    def title(self) -> str:
        """What was evaluated, on how many questions, in one line."""
        return f'{self.name} on {len(self):,} questions about {self.comparison.images:,} images'

    def _before(self, who: str) -> str:
        """What the names of a model's figures begin with."""
        return '' if who == MODEL else f'{self.COLUMNS[who]}_'

    @cached_property
    def _tallies(self) -> tuple[NDArray[np.str_], Tensor, dict[str, Tensor]]:
        """Question types (T,), and questions and right answers of each model per image and type, (I, T)."""
        rows = self.predictions
        image = np.searchsorted(self.images, rows['image'])
        kinds, kind = np.unique(rows['type'], return_inverse=True)
        shape = (len(self.images), len(kinds))
        counts = _tally(image, kind, np.ones(len(rows)), shape)
        right = {
            who: _tally(image, kind, np.asarray(rows[column] == rows['answer'], np.float64), shape)
            for who, column in self.COLUMNS.items()
        }
        return kinds, counts, right


def _tally(
    image: NDArray[np.int64], kind: NDArray[np.int64], values: NDArray[np.float64], shape: tuple[int, int]
) -> Tensor:
    """Sums per image and question type, (I, T)."""
    sums = np.zeros(shape)
    np.add.at(sums, (image, kind), values)
    return torch.from_numpy(sums)


def _accuracies(right: Tensor, asked: Tensor, kinds: NDArray[np.str_]) -> dict[str, Tensor]:
    """Accuracies of each bootstrap replicate, (R,), from the right answers per question type, (R, T)."""
    by_type = right / asked  # NaN where a replicate has no question of this type
    found = {}
    for name, kept in conventions(kinds.tolist()).items():
        at = np.isin(kinds, kept)
        after = f'_{name}' if name else ''
        found[f'accuracy{after}'] = right[:, at].sum(1) / asked[:, at].sum(1)
        found[f'accuracy_mean{after}'] = by_type[:, at].nanmean(1)
    return found | {f'accuracy_{name}': by_type[:, column] for column, name in enumerate(kinds)}


def plain_name(who: str) -> str:
    """Name of a model in tables and JSON."""
    return who.replace('-', '_').replace(' ', '_')


def _limits(values: Tensor) -> Limits:
    tail = (1 - LEVEL) / 2
    low, high = values.nanquantile(torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return low, high
