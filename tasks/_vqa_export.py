"""Writes the bundle of a VQA task when training ends."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from geores.card import ModelCard
from geores.metrics.crossval import Evidence, Figures
from geores.tasks.export import ExportBundle
from geores.tasks.vqa import VisualQuestionAnswering
from geores.vqa.comparison import Comparison

__all__ = ['ExportVQABundle', 'best_temperature']


class ExportVQABundle(ExportBundle):
    """Keeps the best weights, calibrates, measures beside the baselines, and writes bundle and card.

    The figures on the card are the model's, those of the question-only model and of the majority, on the
    validation part; where training keeps nothing for validation, those of cross-validation (`evidence`).

    Args:
        **kwargs: As of `ExportBundle`.
    """

    task_type = VisualQuestionAnswering

    def _measured(self, trainer: Trainer, task: Any) -> Evidence:  # noqa: ANN401 - a `task_type`
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        answer_all(task, data)
        comparison = task.predictions.comparison()
        temperature = best_temperature(*task.predictions.logits())
        metrics = _metrics(comparison, data, bool(self.monitor))
        self.scores = Figures(metrics, comparison.questions, temperature)
        return Evidence(None, metrics, data.split.id, {'temperature': temperature})

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
            metrics=evidence.metrics,
            calibration=evidence.calibration,
            tokenizer=task.tokenizer.to_dict(),
            answer_encoding=data.dataset.encoding.to_dict(),
            encoder=task.encoder_spec,
        )


@torch.inference_mode()
def answer_all(task: VisualQuestionAnswering, data: Any) -> None:  # noqa: ANN401
    """Answer the validation part anew; the task's `predictions` hold the answers.

    Args:
        task: Set up.
        data: Its datamodule.
    """
    task.eval()
    task.predictions.reset()
    task.predictions.learn(data)
    for batch in data.val_dataloader():
        moved = {name: one.to(task.device) if isinstance(one, Tensor) else one for name, one in batch.items()}
        task.predictions.update(batch, *task.answers(moved))


def best_temperature(logits: Tensor, target: Tensor) -> float:
    """The temperature by which logits say how sure they may be (Guo et al. 2017, section 4.2).

    Args:
        logits: (Q, K); -inf for answers that cannot be given.
        target: (Q,), classes; 0 for what no class stands for, which counts as surely wrong nowhere.

    Returns:
        Between 0.05 and 20; 1 without questions.
    """
    kept = (target > 0) & torch.isfinite(logits.gather(1, target[:, None])[:, 0])
    logits, target = logits[kept].double(), target[kept]
    if not len(target):
        return 1.0
    # One number: the loss is smooth in its logarithm, so that a fine grid is enough.
    grid = torch.logspace(-1.3, 1.3, 261, dtype=torch.float64)
    losses = torch.stack([nn.functional.cross_entropy(logits / one, target) for one in grid])
    return round(float(grid[losses.argmin()]), 4)


def _metrics(comparison: Comparison, data: Any, monitored: bool) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    used = f', which also chose {"the epoch and " if monitored else ""}the temperature'
    split = (
        f'{comparison.questions} questions on {comparison.images} validation images ({data.split_by}){used}'
    )
    figures = {name: _rounded(value) for name, value in comparison.figures().items()}
    name = ' and '.join(sorted({Path(root).resolve().name for root in data.roots}))
    return {name: {'split': split, 'answers': data.dataset.encoding.name, **figures}}


def _rounded(value: float) -> float | None:
    return round(value, 4) if value == value else None
