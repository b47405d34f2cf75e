"""Finished runs of the baselines, kept on disk so that a killed command resumes."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score

from geores.errors import JournalError, WriteError

__all__ = ['BaselineRun', 'RunJournal', 'work_folder']

RUNS_FILE = 'runs.jsonl'


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
    """Finished runs in a file with one JSON object per line; the first line holds the options.

    Args:
        folder: folder of the results; nothing is made before the first run is added. None keeps runs in
            memory alone.
        key: options that all runs of the file share.
        resume: go on from runs that the file holds; else it is replaced by the first run added.

    Raises:
        JournalError: if the file is of other options, or damaged.
    """

    def __init__(self, folder: Path | None, key: Mapping[str, Any], *, resume: bool = True) -> None:
        self._path = None if folder is None else work_folder(folder) / RUNS_FILE
        self._key: dict[str, Any] = json.loads(json.dumps(dict(key)))
        self.runs: dict[tuple[str, float, int], BaselineRun] = {}
        if self._path is not None and resume and self._path.exists():
            self._load(self._path)
        self._fresh = not self.runs

    def _load(self, path: Path) -> None:
        try:
            text = path.read_text(encoding='utf-8')
            lines = text.split('\n')[:-1]  # what a kill cut short has no end
            records = [json.loads(line) for line in lines]
            held, runs = (
                dict(records[0]) if records else self._key,
                [BaselineRun(**one) for one in records[1:]],
            )
        except (OSError, ValueError, TypeError) as error:
            raise JournalError(f'{path} is damaged: start over with --no-resume') from error
        differs = sorted(name for name in held.keys() | self._key if held.get(name) != self._key.get(name))
        if differs:
            raise JournalError(
                f'{path.parent.parent} holds unfinished work of a run with another {", ".join(differs)}: '
                'start over with --no-resume, or repeat that run to finish it'
            )
        self.runs = {run.key: run for run in runs}
        os.truncate(path, len(''.join(f'{line}\n' for line in lines).encode()))

    def add(self, run: BaselineRun) -> None:
        """Keep a run, on the disk where there is a folder.

        Args:
            run: run to keep.

        Raises:
            WriteError: if it cannot be written.
        """
        self.runs[run.key] = run
        if self._path is None:
            return
        try:
            if self._fresh:
                self._start(self._path)
            with self._path.open('a', encoding='utf-8') as file:
                _put(file, asdict(run))
        except OSError as error:
            raise WriteError(
                f'cannot write to {self._path}: {error.strerror or error}; finished runs are kept, run '
                'again to continue'
            ) from error
        self._fresh = False

    def _start(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('w', encoding='utf-8') as file:
            _put(file, self._key)

    def remove(self) -> None:
        """Remove the file and its folder: the work is finished."""
        if self._path is not None:
            shutil.rmtree(self._path.parent, ignore_errors=True)


def _put(file: Any, record: Mapping[str, Any]) -> None:  # noqa: ANN401 - an open text file
    file.write(json.dumps(record) + '\n')
    file.flush()
    os.fsync(file.fileno())
