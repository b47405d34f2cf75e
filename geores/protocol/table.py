"""The table of baselines: mean and standard deviation over repeats, its files and its plots.

Finished runs are kept on disk, so that a killed command resumes.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score

from geores.classification.outputs import check_folder
from geores.errors import JournalError, OutputError, UsageError
from geores.io.journal import Journal, holds_work
from geores.io.tables import csv_frame
from geores.io.whole_files import whole_files

__all__ = [
    'BaselineRun',
    'BaselineTable',
    'RunJournal',
    'baseline_files',
    'check_baselines',
    'work_folder',
    'write_accuracy',
    'write_confusion',
]


@dataclass(frozen=True, kw_only=True)
class BaselineRun:
    """One training and test of a method.

    Args:
        method: name of the method, as the user gives it.
        ratio: share of each class that was trained on.
        repeat: number of the repeat, from 0.
        accuracy: overall accuracy: share of test images that are classified correctly.
        kappa: Cohen's kappa.
        f1_macro: F1, averaged over classes.
        train: number of training images.
        test: number of test images.
        setting: hyperparameters that were chosen, such as C of the SVM or the epochs.
        seconds: duration in seconds, without features that all runs share.
        confusion: test images, one row per true class, one column per predicted class.
    """

    method: str
    ratio: float
    repeat: int
    accuracy: float
    kappa: float
    f1_macro: float
    train: int
    test: int
    setting: str
    seconds: float
    confusion: Sequence[Sequence[int]]

    @property
    def key(self) -> tuple[str, float, int]:
        """Method, ratio and repeat: what tells the run from others of the same options."""
        return self.method, self.ratio, self.repeat

    @classmethod
    def score(cls, truth: NDArray[np.int64], answers: NDArray[np.int64], classes: int, **about: Any) -> Self:  # noqa: ANN401
        """Score answers on the test part.

        Args:
            truth: (N,) class indices, every class at least once.
            answers: (N,) class indices.
            classes: number of classes.
            **about: the other fields.
        """
        labels = range(classes)
        return cls(
            accuracy=float(accuracy_score(truth, answers)),
            kappa=float(cohen_kappa_score(truth, answers, labels=labels)),
            f1_macro=float(f1_score(truth, answers, labels=labels, average='macro', zero_division=0)),
            test=len(truth),
            confusion=confusion_matrix(truth, answers, labels=labels).tolist(),
            **about,
        )


def work_folder(folder: Path) -> Path:
    """Folder of unfinished work."""
    return folder / '.baselines.partial'


class RunJournal:
    """Finished runs, in the journal of a folder or in memory; as a context manager it is closed at the end.

    Args:
        folder: folder of the results. None keeps runs in memory alone.
        key: options that all runs share.
        resume: go on from runs that the journal holds.
        overwrite: drop runs of other options instead of refusing them.

    Raises:
        JournalError: if the journal is of other options, or damaged.
        OutputError: if another process is at work there.
    """

    def __init__(
        self, folder: Path | None, key: Mapping[str, Any], *, resume: bool = True, overwrite: bool = False
    ) -> None:
        self.runs: dict[tuple[str, float, int], BaselineRun] = {}
        self._journal = None
        if folder is not None:
            self._journal = Journal(work_folder(folder), key, resume=resume, overwrite=overwrite)
            try:
                found = [BaselineRun(**one) for one in self._journal.records]
            except TypeError as error:
                self._journal.close()
                raise JournalError(
                    f'{work_folder(folder)} is damaged: give --no-resume to start anew'
                ) from error
            self.runs = {run.key: run for run in found}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal is not None:
            self._journal.close()

    def add(self, run: BaselineRun) -> None:
        """Keep a run, on the disk where there is a folder.

        Args:
            run: run to keep.

        Raises:
            WriteError: if it cannot be written.
        """
        self.runs[run.key] = run
        if self._journal is not None:
            self._journal.add(asdict(run))

    def remove(self) -> None:
        """Remove the journal: the work is finished."""
        if self._journal is not None:
            self._journal.remove()


FIGURES = ('accuracy', 'kappa', 'f1_macro')

_MARKERS = 'osD^v'
_MOST_NUMBERED = 30
_META = {'Software': 'geores'}


@dataclass(frozen=True)
class BaselineTable:
    """Scores of every method, training ratio and repeat.

    Args:
        runs: one per method, ratio and repeat.
        labels: classes, in the order of confusion matrices.
        rows: method -> its name in the table.
        info: provenance of the figures: data, protocol, encoder, options, versions.
        notes: notes for readers, such as on a method that was left out.
    """

    runs: Sequence[BaselineRun]
    labels: Sequence[str]
    rows: Mapping[str, str]
    info: Mapping[str, Any]
    notes: Sequence[str] = ()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per run: `method`, `name`, `ratio`, `repeat`, `accuracy`, `kappa`, `f1_macro`,
        `train` and `test` (images), `setting`, `seconds`.
        """  # noqa: D205
        fields = ('method', 'ratio', 'repeat', *FIGURES, 'train', 'test', 'setting', 'seconds')
        frame = pd.DataFrame([[getattr(run, field) for field in fields] for run in self.runs], columns=fields)
        frame.insert(1, 'name', frame['method'].map(dict(self.rows)))
        return frame

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One row per method and ratio: `name`, `repeats`, and mean and standard deviation of figures.

        The deviation is that of a sample (divided by repeats - 1), NaN for a single run.
        """
        groups = self.frame.groupby(['method', 'ratio'], sort=False)
        columns = {f'{figure}_{what}': (figure, what) for figure in FIGURES for what in ('mean', 'std')}
        return groups.agg(name=('name', 'first'), repeats=('repeat', 'count'), **columns).reset_index()

    def confusion(self, method: str, ratio: float) -> pd.DataFrame:
        """Test images summed over repeats, one row per true class, one column per predicted class.

        Args:
            method: 'colour', 'deep' or 'finetune'.
            ratio: training ratio.

        Raises:
            UsageError: if there are no such runs.
        """
        matrices = [run.confusion for run in self.runs if (run.method, run.ratio) == (method, ratio)]
        if not matrices:
            raise UsageError(f'there are no runs of {method!r} at ratio {ratio:g}')
        total = np.sum(matrices, axis=0)
        return pd.DataFrame(total, index=pd.Index(self.labels, name='true'), columns=list(self.labels))

    @property
    def best(self) -> tuple[str, float]:
        """Method and ratio of the highest mean accuracy, among honest rows if there are any."""
        honest = ~self.summary['method'].isin(self.info['seen_in_training'])
        rows = self.summary[honest] if honest.any() else self.summary
        row = rows.iloc[int(rows['accuracy_mean'].argmax())]
        return str(row['method']), float(row['ratio'])

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        return {
            **self.info,
            'labels': list(self.labels),
            'notes': list(self.notes),
            'summary': self.records(),
            'runs': [asdict(run) for run in self.runs],
        }

    def records(self) -> list[dict[str, Any]]:
        """Rows of `summary` as plain JSON values; None where there is no deviation."""
        return [
            {
                str(key): None if isinstance(value, float) and math.isnan(value) else value
                for key, value in row.items()
            }
            for row in self.summary.to_dict('records')
        ]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write `baselines.csv`, `baselines.json`, `baselines.png` and `baselines_confusion.png`.

        Args:
            folder: made where absent.
            overwrite: replace files of an earlier table.

        Returns:
            Paths under `runs`, `table`, `plot` and `confusion`.

        Raises:
            OutputError: if a file of that name exists, or the folder cannot be written.
            WriteError: if writing failed, as on a full disk; no file is left half written.
        """
        folder = Path(folder)
        check_baselines(folder, overwrite=overwrite)
        writers: dict[str, Callable[[Path], object]] = {
            'runs': lambda path: csv_frame(self.frame).to_csv(path, index=False),
            'table': lambda path: path.write_text(
                json.dumps(self.to_dict(), indent=1) + '\n', encoding='utf-8'
            ),
            'plot': lambda path: write_accuracy(self.summary, str(self.info['data']['name']), path),
            'confusion': lambda path: write_confusion(self, path),
        }
        paths = baseline_files(folder)
        with whole_files(list(paths.values())) as partial:
            for write, path in zip(writers.values(), partial, strict=True):
                write(path)
        return paths


def baseline_files(folder: Path) -> dict[str, Path]:
    """Paths of a table's files."""
    names = {'runs': '.csv', 'table': '.json', 'plot': '.png', 'confusion': '_confusion.png'}
    return {kind: folder / f'baselines{ending}' for kind, ending in names.items()}


def check_baselines(folder: Path, *, overwrite: bool) -> None:
    """Check that a table can be written, before any work is done; `OutputError` if not.

    Args:
        folder: folder of the results.
        overwrite: replace files of an earlier table.
    """
    check_folder(folder, [], overwrite=overwrite)
    taken = [path for path in baseline_files(folder).values() if path.exists()]
    if taken and not overwrite and not holds_work(work_folder(folder)):
        raise OutputError(f'{taken[0]} exists: give --overwrite to replace it, or another --out')


def write_accuracy(summary: pd.DataFrame, name: str, path: Path) -> None:
    """Draw overall accuracy against the training ratio, with one standard deviation to each side.

    Args:
        summary: summary of a `BaselineTable`.
        name: name of the data.
        path: path of the PNG.
    """
    figure = Figure(figsize=(6.5, 4.5), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for index, (row_name, rows) in enumerate(summary.groupby('name', sort=False)):
        axes.errorbar(
            100 * rows['ratio'],
            100 * rows['accuracy_mean'],
            yerr=100 * rows['accuracy_std'].fillna(0),
            marker=_MARKERS[index % len(_MARKERS)],
            capsize=4,
            label=f'{row_name} (n = {rows["repeats"].min()})',
        )
    axes.set(xlabel='training ratio', ylabel='overall accuracy', title=f'{name}: mean ± standard deviation')
    axes.set_xticks(sorted(100 * summary['ratio'].unique()))
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=None))
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.grid(alpha=0.3)
    axes.margins(x=0.1)
    figure.legend(loc='outside lower center', fontsize=8, frameon=False)
    figure.savefig(path, format='png', metadata=_META)


def write_confusion(table: 'BaselineTable', path: Path) -> None:
    """Draw the confusion matrix of the best method and ratio, in percent of each true class.

    Args:
        table: table whose best method and ratio to draw.
        path: path of the PNG.
    """
    method, ratio = table.best
    counts = table.confusion(method, ratio).to_numpy()
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(0.32 * len(counts) + 2.2, 4.5, 18))
    figure = Figure(figsize=(side + 0.6, side), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    ticks = range(len(counts))
    axes.set_xticks(ticks, table.labels, rotation=90, fontsize=7)
    axes.set_yticks(ticks, table.labels, fontsize=7)
    axes.set(xlabel='answer', ylabel='true class')
    axes.set_title(f'{table.rows[method]}, {100 * ratio:g} % for training, % of each class', fontsize=9)
    if len(counts) <= _MOST_NUMBERED:
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            share = shares[row, column]
            colour = 'white' if share > 50 else 'black'
            axes.text(column, row, f'{share:.0f}', ha='center', va='center', fontsize=6, color=colour)
    figure.colorbar(picture, ax=axes, shrink=0.7, format=PercentFormatter(decimals=0))
    figure.savefig(path, format='png', metadata=_META)
