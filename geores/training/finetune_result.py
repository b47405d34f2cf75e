"""The unfinished work of fine-tuning, and its result: model, scores, report and plot of error matrices.

The work lies in a folder beside the future bundle, so that the same command resumes after it was stopped.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geores.card import CARD_FILE, ModelCard
from geores.io.journal import Journal
from geores.io.whole_files import check_folder_free, write_whole
from geores.training.batches import Generators
from geores.training.checkpoints import Checkpoints
from geores.training.run_folders import SavedCheckpoint, describe_position, fingerprints, latest_checkpoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from geores.model import Model

__all__ = [
    'Choice',
    'FinetuneWork',
    'Finetuned',
    'KeptModel',
    'SplitScore',
    'StageWork',
    'check_bundle_path',
    'write_error_matrix',
]

_logger = logging.getLogger(__name__)

MINUTES = 1.0
"""Between checkpoints within an epoch."""


class StageWork:
    """Unfinished work of one training among several, in a folder of its own.

    Args:
        folder: where work is kept; None keeps nothing.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def part(self, name: str) -> 'StageWork':
        """Work of a training that is a part of this one."""
        return StageWork(None if self.folder is None else self.folder / name)

    def result(self, name: str) -> dict[str, Any] | None:
        """Load the values kept under a name, if any."""
        path = None if self.folder is None else self.folder / f'{name}.json'
        if path is None or not path.is_file():
            return None
        values: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
        return values

    def keep(self, name: str, values: dict[str, Any]) -> None:
        """Keep plain values under a name."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / f'{name}.json', json.dumps(values))

    def keep_checkpoints(self, trainer: Any, order: Any) -> SavedCheckpoint | None:  # noqa: ANN401 - Trainer and Order
        """Have a trainer write checkpoints; the one to go on from.

        Args:
            trainer: Lightning's trainer.
            order: order of the training batches.
        """
        if self.folder is None:
            return None
        folder = self.folder / 'checkpoints'
        trainer.callbacks[:] = [Generators(), *trainer.callbacks, Checkpoints(folder, order, MINUTES)]
        kept = latest_checkpoint(folder)
        if kept is not None:
            _logger.info(f'goes on from {describe_position(kept)}; --no-resume begins anew')
        return kept


class FinetuneWork(StageWork):
    """Unfinished work in a folder beside the future bundle, locked by this process.

    Args:
        out: the bundle's folder.
        about: everything that the result depends on, as plain values.
        resume: continue the work that an earlier run of the same command kept.
        overwrite: drop the work of another training instead of refusing it.

    Raises:
        JournalError: if the work is of another training; says what differs.
        OutputError: if another process uses the folder.
        WriteError: if it cannot be written.
    """

    def __init__(
        self, out: Path, about: dict[str, Any], *, resume: bool = True, overwrite: bool = False
    ) -> None:
        folder = out.absolute().parent / f'.{out.name}.training'
        super().__init__(folder)
        self._journal = Journal(folder, fingerprints(about), resume=resume, overwrite=overwrite)

    def release(self) -> None:
        """Unlock the folder, and remove it if nothing has been kept yet."""
        self._journal.close()

    @property
    def keeps(self) -> bool:
        """Whether there is work to resume from."""
        return self.folder is not None and self.folder.is_dir()

    def remove(self) -> None:
        """Remove all work, once the bundle is written."""
        self._journal.remove()


KeptModel = Literal['linear start', 'fine-tuned']

FIGURE_FILE = 'error_matrix.png'
REPORT_FILE = 'report.json'

NUMBERS = 30
"""Most classes whose matrix has its counts written in."""

TITLES = {'blocks': 'geographic split', 'random': 'random split (optimistic: neighbours on both sides)'}


@dataclass(frozen=True)
class Choice:
    """Which model is kept, the linear start or the fine-tuned one, and their accuracies on held-in tiles.

    Attributes:
        kept: 'linear start' (a head fitted to the base's features) or 'fine-tuned'.
        tiles: training tiles held in to compare the two; 0 where they were not compared.
        linear: share of them that the linear start has right.
        tuned: share of them that the fine-tuned network has right.
    """

    kept: KeptModel = 'fine-tuned'
    tiles: int = 0
    linear: float | None = None
    tuned: float | None = None

    @property
    def said(self) -> str:
        """The choice in words."""
        if self.linear is None or self.tuned is None:
            return 'fine-tuned; too few tiles, or no linear head, to compare it with a linear start'
        verb = 'was' if self.kept == 'linear start' else 'was not'
        return (
            f'{self.kept}; the linear start {verb} clearly better on {self.tiles} held-in tiles '
            f'({self.linear:.1%} right, fine-tuned {self.tuned:.1%})'
        )


@dataclass(frozen=True)
class SplitScore:
    """Scores of a model on the validation tiles of the split it was trained under.

    Attributes:
        kind: 'blocks' for the geographic split, or 'random'.
        split_id: id of the split.
        labels: classes, in the order of the matrix.
        train: training tiles of each class.
        matrix: (K, K) number of validation tiles, one row per reference class and one column per
            predicted class.
        metrics: accuracy, F1 and average precision, as `geores.metrics.single_label_report` has them.
        dropped: training tiles left out because they lie too near to validation tiles.
        choice: whether the model is its linear start or was fine-tuned.
    """

    kind: Literal['blocks', 'random']
    split_id: str
    labels: tuple[str, ...]
    train: dict[str, int]
    matrix: NDArray[np.int64]
    metrics: dict[str, float | None]
    dropped: int
    choice: Choice

    @property
    def users_accuracy(self) -> NDArray[np.float64]:
        """User's accuracy (precision) per class, (K,); NaN where a class was never predicted."""
        return _share(np.diag(self.matrix), self.matrix.sum(axis=0))

    @property
    def producers_accuracy(self) -> NDArray[np.float64]:
        """Producer's accuracy (recall) per class, (K,); NaN where a class has no validation tiles."""
        return _share(np.diag(self.matrix), self.matrix.sum(axis=1))

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of the two, (K,); NaN where a class has no validation tiles."""
        found = _share(2 * np.diag(self.matrix), self.matrix.sum(axis=0) + self.matrix.sum(axis=1))
        return np.where(self.matrix.sum(axis=1) > 0, found, np.nan)

    def to_dict(self) -> dict[str, Any]:
        """The score as plain JSON values; unknown values are null."""
        columns = {
            'f1': self.f1,
            'users_accuracy': self.users_accuracy,
            'producers_accuracy': self.producers_accuracy,
        }
        return {
            'split_id': self.split_id,
            'train_tiles': sum(self.train.values()),
            'val_tiles': int(self.matrix.sum()),
            'validation_tiles': int(self.matrix.sum()),
            'tiles_left_out_near_validation': self.dropped,
            'kept': self.choice.kept,
            'held_in': {
                'tiles': self.choice.tiles,
                'accuracy_linear_start': self.choice.linear,
                'accuracy_fine_tuned': self.choice.tuned,
            },
            **self.metrics,
            'per_class': {
                label: {
                    'train_tiles': self.train[label],
                    'val_tiles': int(self.matrix[index].sum()),
                    'validation_tiles': int(self.matrix[index].sum()),
                    **{name: _rounded(values[index]) for name, values in columns.items()},
                }
                for index, label in enumerate(self.labels)
            },
            'error_matrix': {'rows': 'reference', 'columns': 'classified', 'tiles': self.matrix.tolist()},
        }


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model with its scores.

    Attributes:
        model: trained under the first split; give it to `geores.classify`.
        scores: one for each split that was trained under; the first is the model's own.
        about: base, scenes, labels, options, tiles of each class and notes, as the report has them.
        parts: ids of the tiles that trained ('train') and of those kept for validation ('val'), by the split
            of the bundle; an evaluation on the same scenes takes the latter.
    """

    model: 'Model'
    scores: tuple[SplitScore, ...]
    about: dict[str, Any]
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def card(self) -> ModelCard:
        """Card of the model."""
        return self.model.card

    @property
    def report(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        splits = {score.kind: score.to_dict() for score in self.scores}
        return {
            'model': self.card.name,
            'exported_split': self.scores[0].kind,
            **self.about,
            'splits': splits,
            'parts': {name: list(ids) for name, ids in self.parts.items()},
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the bundle, with `report.json` and `error_matrix.png` beside card and weights.

        The folder appears complete or not at all. The model takes the folder's name.

        Args:
            path: folder to write.
            overwrite: replace a bundle that stands there.

        Returns:
            The folder.

        Raises:
            OutputError: if the path is taken, or cannot be written.
            WriteError: if writing failed, as on a full disk.
        """
        from geores.bundle import save_bundle

        folder = Path(path)
        check_bundle_path(folder, overwrite=overwrite)
        card = replace(self.card, name=_name(folder))

        def report(part: Path) -> None:
            text = json.dumps(
                self.report | {'model': card.name}, indent=1, ensure_ascii=False, allow_nan=False
            )
            (part / REPORT_FILE).write_text(text + '\n', encoding='utf-8')
            write_error_matrix(self.scores, part / FIGURE_FILE)

        save_bundle(folder, self.model.network, card, overwrite=True, add=report)
        return folder


def check_bundle_path(folder: Path, *, overwrite: bool) -> None:
    """Check that a bundle can be written, before any work is done; `OutputError` if not.

    Args:
        folder: to write.
        overwrite: whether a bundle that stands there may be replaced.
    """
    check_folder_free(folder, overwrite=overwrite, kind='bundle', marks=[CARD_FILE])


def count_tiles(strata: list[str], indices: list[int], labels: tuple[str, ...]) -> dict[str, int]:
    """Count the tiles per label among those of the given indices."""
    counts = Counter(strata[index] for index in indices)
    return {label: counts[label] for label in labels}


def _name(folder: Path) -> str:
    return re.sub(r'[^A-Za-z0-9_.-]+', '-', folder.absolute().name).strip('._-') or 'finetuned'


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def write_error_matrix(scores: Sequence[SplitScore], path: Path) -> None:
    """Draw the error matrix of each split: colours are shares of the reference, numbers are tiles.

    Args:
        scores: one panel each.
        path: PNG to write.
    """
    side = 2.6 + 0.45 * len(scores[0].labels)
    figure = Figure(figsize=(side * len(scores) + 0.8, side + 0.6), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    for axes, score in zip(figure.subplots(1, len(scores), squeeze=False)[0], scores, strict=True):
        _draw(axes, score)
    figure.savefig(path, format='png', metadata={'Software': 'geores'})


def _draw(axes: 'Axes', score: SplitScore) -> None:
    count = len(score.labels)
    totals = score.matrix.sum(axis=1, keepdims=True)
    shares = np.divide(score.matrix, totals, out=np.zeros(score.matrix.shape), where=totals > 0)
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    if count <= NUMBERS:
        for row, col in zip(*np.nonzero(score.matrix), strict=True):
            colour = 'white' if shares[row, col] > 0.5 else 'black'
            axes.text(
                col, row, str(score.matrix[row, col]), ha='center', va='center', color=colour, fontsize=8
            )
    axes.set_xticks(range(count), score.labels, rotation=60, ha='right', rotation_mode='anchor', fontsize=8)
    axes.set_yticks(range(count), score.labels, fontsize=8)
    axes.set(xlabel='classified', ylabel='reference')
    accuracy = score.metrics['accuracy']
    axes.set_title(f'{TITLES[score.kind]}\n{accuracy:.1%} of {score.matrix.sum():,} tiles', fontsize=9)
