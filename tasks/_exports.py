"""Exports of tasks that label pixels or answer questions: their bundles are written when training ends."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from geores.card import ModelCard
from geores.metrics.crossval import Evidence, Figures, Scores
from geores.metrics.curves import fit_temperature
from geores.models.segmentation import measure_context
from geores.tasks.export import ExportBundle, _whole
from geores.tasks.segmentation import SemanticSegmentation
from geores.tasks.vqa import VisualQuestionAnswering
from geores.vqa.comparison import ModelComparison

__all__ = ['ExportSegmentation', 'ExportVQABundle', 'best_temperature', 'export_type']

_logger = logging.getLogger(__name__)


class ExportSegmentation(ExportBundle):
    """Like `ExportBundle`, for models that label pixels; metrics are per pixel.

    The card's context is measured. Where the network looks farther than a quarter of its input, a quarter
    it is: what lies beyond changes labels little, and this is said.

    Args:
        colours: one colour per label, as '#rrggbb'; None takes the palette that has the labels.
        **kwargs: as of `ExportBundle`.
    """

    task_type = SemanticSegmentation

    def __init__(self, *, colours: Sequence[str] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.colours = None if colours is None else tuple(colours)
        self._size = 0
        self._context: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ANN401
        """Check before training what the export would refuse after it.

        Raises:
            GeoresError: as `ExportBundle` refuses.
        """
        data: Any = getattr(trainer, 'datamodule', None)
        self._size = int(getattr(data, 'size', 0))
        if self._size and isinstance(pl_module, SemanticSegmentation):
            # Windows of the card's size lie on its alignment, whatever size it was trained on.
            self._size += -self._size % pl_module.alignment
        super().on_fit_start(trainer, pl_module)

    def _measured(self, trainer: Trainer, task: SemanticSegmentation) -> Evidence:
        metrics: dict[str, dict[str, Any]] = {}
        loader = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
        task.eval()
        task.forget()
        with torch.inference_mode():
            for index, batch in enumerate(_whole(loader)):
                moved = {name: batch[name].to(task.device) for name in ('image', 'mask')}
                task.validation_step(moved, index)
        split = trainer.datamodule.split  # type: ignore[attr-defined]
        used = ', which also chose the epoch' if self.monitor else ''
        for source, figures in task.figures().items():
            rounded = {name: round(value, 4) for name, value in figures.items()}
            metrics[source] = {'split': f'{len(split.val)} validation images{used}', **rounded}
        task.forget()
        last = list(metrics.values())[-1:]
        f1 = [
            torch.tensor([figures.get(f'f1_{label}', math.nan) for label in task.labels]) for figures in last
        ]
        return Evidence(None, metrics, split.id, f1=f1[0] if f1 else None, split=split.method)

    def _more(self, task: SemanticSegmentation) -> dict[str, Any]:
        if self._context is None:
            self._context = self._reach(task)
        return {
            'input_size': self._size,
            'log_scale': task.hparams['log_scale'],
            'context': self._context,
            'alignment': task.alignment,
            'colours': self.colours,
        }

    def _reach(self, task: SemanticSegmentation) -> int:
        found = measure_context(task.network, len(task.bands), task.alignment, self._size)
        most = self._size // 4 // task.alignment * task.alignment
        if found is None or found > most:
            said = f'labels depend on more than {most} pixels around them: the card says {most} all the same'
            _logger.info(said, extra={'result': said})
            return most
        return found


class ExportVQABundle(ExportBundle):
    """Keeps the best weights, calibrates, compares with the baselines, and writes bundle and card.

    The figures on the card are the model's, those of the question-only model and of the majority, on the
    validation part; where training keeps nothing for validation, those of cross-validation (`evidence`).

    Args:
        **kwargs: as of `ExportBundle`.
    """

    task_type = VisualQuestionAnswering

    def _measured(self, trainer: Trainer, task: Any) -> Evidence:  # noqa: ANN401 - a `task_type`
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        answer_all(task, data)
        comparison = task.predictions.comparison()
        logits, target = task.predictions.logits()
        temperature = best_temperature(logits, target)
        metrics = _metrics(comparison, data, bool(self.monitor))
        # An answer that training never gave has no score that could be calibrated.
        shown = target > 0
        scores = Scores(logits[shown].softmax(1), target[shown], [], task.labels)
        self.scores = Figures(metrics, comparison.questions, temperature, task.predictions.right(), scores)
        calibration = {'temperature': temperature}
        return Evidence(None, metrics, data.split.id, calibration, split=data.split.method)

    def _card(self, trainer: Trainer, task: Any, evidence: Evidence) -> ModelCard:  # noqa: ANN401
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return ModelCard(
            **self.text,  # type: ignore[arg-type]
            architecture=str(task.hparams['head']),
            architecture_kwargs=task.head_kwargs,
            activation='softmax',
            task='vqa',
            bands=task.bands,
            input_size=task.size,
            mean=tuple(task.mean.flatten().tolist()),
            std=tuple(task.std.flatten().tolist()),
            labels=task.labels,
            thresholds=None,
            split_id=evidence.split_id,
            split=evidence.split,
            metrics=evidence.metrics,
            limits=_limits(evidence, self.unseen),
            calibration=evidence.calibration,
            tokenizer=task.tokenizer.to_dict(),
            answer_encoding=data.dataset.encoding.to_dict(),
            encoder=task.encoder_spec,
        )


def _limits(evidence: Evidence, unseen: Sequence[str]) -> dict[str, Any] | None:
    """The accuracy of each kind of question, and what the training has not seen."""
    limits: dict[str, Any] = {'unseen': tuple(unseen)} if unseen else {}
    for figures in list(evidence.metrics.values())[-1:]:
        kinds = {name.removeprefix('majority_accuracy_') for name in figures if _is_kind(name)}
        worst = {kind: figures[f'accuracy_{kind}'] for kind in sorted(kinds) if f'accuracy_{kind}' in figures}
        worst.pop('mean', None)
        if worst:
            limits |= {'figure': 'accuracy', 'worst': worst, 'measured_on': figures['split']}
    return limits or None


def _is_kind(name: str) -> bool:
    return name.startswith('majority_accuracy_') and not name.endswith('_std')


@torch.inference_mode()
def answer_all(task: VisualQuestionAnswering, data: Any) -> None:  # noqa: ANN401
    """Answer the validation part anew; the task's `predictions` hold the answers."""
    task.eval()
    task.predictions.reset()
    task.predictions.learn(data)
    for batch in data.val_dataloader():
        moved = {name: one.to(task.device) if isinstance(one, Tensor) else one for name, one in batch.items()}
        task.predictions.update(batch, *task.answers(moved))


def best_temperature(logits: Tensor, target: Tensor) -> float:
    """Fit the temperature that calibrates logits (Guo et al. 2017, section 4.2).

    Args:
        logits: (Q, K); -inf for answers that cannot be given.
        target: (Q,), classes; 0 for what no class stands for, which counts as surely wrong nowhere.

    Returns:
        Between 0.05 and 20; 1 without questions.
    """
    kept = (target > 0) & torch.isfinite(logits.gather(1, target[:, None])[:, 0])
    return fit_temperature(logits[kept], target[kept])


def _metrics(comparison: ModelComparison, data: Any, monitored: bool) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    used = f', which also chose {"the epoch and " if monitored else ""}the temperature'
    split = (
        f'{comparison.questions} questions on {comparison.images} validation images ({data.split_by}){used}'
    )
    figures = {name: _rounded(value) for name, value in comparison.figures().items()}
    name = ' and '.join(sorted({Path(root).resolve().name for root in data.roots}))
    return {name: {'split': split, 'answers': data.dataset.encoding.name, **figures}}


def _rounded(value: float) -> float | None:
    return round(value, 4) if value == value else None


def export_type(task: LightningModule) -> type[ExportBundle] | None:
    """The callback that writes the bundle of a task of geores; None for other tasks."""
    kinds = (ExportSegmentation, ExportVQABundle, ExportBundle)
    return next((kind for kind in kinds if isinstance(task, kind.task_type)), None)
