"""Export the model bundle when training ends."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from geores.bundle import save_bundle
from geores.card import ModelCard
from geores.errors import OutputError, UsageError
from geores.metrics import best_thresholds
from geores.metrics.confusion import fbeta
from geores.metrics.crossval import (
    Evidence,
    Figures,
    Scores,
    calibration_errors,
    calibration_of,
    temperature_of,
)
from geores.tasks.classification import SceneClassification

_logger = logging.getLogger(__name__)

WORST = 5
"""Labels that a card names as the worst ones."""
_DTYPES = {'float16': torch.float16, 'float32': torch.float32}


class ExportBundle(Callback):
    """Keeps the best weights, tunes thresholds, measures, and writes bundle and card.

    Thresholds and figures come from the validation part, and the card says so. Where training keeps
    nothing for validation they come from `evidence`. Whatever the card needs and the training does not
    know is an argument here.

    Attributes:
        evidence: thresholds and figures of cross-validation, to be set before fitting; None measures.
        scores: after fitting, the predictions on the validation part.
        needs_figures: whether data without a validation part are refused where there is no evidence either.

    Args:
        name: name of the model.
        description: one or two sentences for people.
        sensor: sensor of the images.
        processing_level: processing level of the images, such as 'L2A'.
        units: units of the images' values: 'reflectance*10000', 'reflectance*10000, dB', '8-bit', 'dB' or
            'other'.
        gsd: smallest and largest ground sampling distance, in metres.
        training_data: training data sets, each an object with `name`, `licence`, `places`, other names
            (`also`) and `note` (see `geores.card_values.DataSource`); a text is taken too, by which data
            that trained the model are not recognised later.
        licence: licence of the weights.
        resampling: resampling of coarser bands to the model's resolution.
        display_stretch: low and high percentile that bring other imagery to 8 bits.
        display_range: reflectances times 10,000 that become 0 and 255 instead.
        monitor: figure whose highest value marks the best epoch; None keeps the last.
        path: folder of the bundle; None puts it into the run folder, under the model's name.
        dtype: dtype in which to keep the weights.
        overwrite: replace a bundle that stands there.
        unseen: sentences on what the training data do not show, for the card's limits.
    """

    task_type: ClassVar[type[LightningModule]] = SceneClassification

    def __init__(
        self,
        name: str,
        description: str,
        sensor: str,
        processing_level: str,
        units: str,
        gsd: tuple[float, float],
        training_data: Sequence[Mapping[str, Sequence[str] | str]] | str,
        licence: str,
        resampling: Literal['nearest', 'bilinear'] = 'bilinear',
        display_stretch: tuple[float, float] | None = None,
        display_range: tuple[float, float] | None = None,
        monitor: str | None = None,
        path: str | None = None,
        dtype: Literal['float16', 'float32'] = 'float16',
        overwrite: bool = False,
        unseen: Sequence[str] = (),
    ) -> None:
        self.unseen = tuple(unseen)
        self.text = {
            'name': name,
            'description': description,
            'sensor': sensor,
            'processing_level': processing_level,
            'units': units,
            'gsd': gsd,
            'training_data': training_data,
            'licence': licence,
            'resampling': resampling,
            'display_stretch': display_stretch,
            'display_range': display_range,
        }
        self.monitor = monitor
        self.path = path
        self.dtype = dtype
        self.overwrite = overwrite
        self.evidence: Evidence | None = None
        self.scores: Scores | Figures | None = None
        self.needs_figures = True
        self._best = -math.inf
        self._folder = Path()
        self._validated: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check before training what the export would refuse after it.

        Raises:
            UsageError: if the task or the data are not of a kind that this exports.
            OutputError: if the bundle's path is taken.
            BundleError: if an argument does not fit the card.
        """
        data: Any = getattr(trainer, 'datamodule', None)
        if not isinstance(pl_module, self.task_type) or not hasattr(data, 'split'):
            needed = f'{self.task_type.__name__} and a datamodule of geores'
            raise UsageError(f'{type(self).__name__} needs {needed}')
        blank = Evidence(None, {}, data.split.id, split=data.split.method)
        if not data.split.val and self.evidence is None and not self.needs_figures:
            self.evidence = blank
        if not data.split.val and self.evidence is None:
            raise UsageError('val_share 0 leaves nothing to measure: train with --folds')
        self._claim(trainer)
        self._card(trainer, pl_module, blank)

    def _claim(self, trainer: Trainer) -> None:
        """Choose the bundle's folder."""
        logs = Path(trainer.log_dir or 'runs')
        folder = self._folder = Path(self.path or logs / str(self.text['name']))
        if folder.exists() and not self.overwrite:
            raise OutputError(f'{folder} exists already: set another path, or overwrite')
        if logs.resolve().is_relative_to(folder.resolve()):
            raise OutputError(f'{folder} is where the log of training goes: set another path')

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far, which a run that is continued needs again."""
        return {'best': self._best, 'weights': self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best weights so far."""
        self._best, self._weights = state_dict['best'], state_dict['weights']

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remember the weights that are validated: those of an average are gone before the end."""
        if self.monitor is not None and not trainer.sanity_checking and batch_idx == dataloader_idx == 0:
            state = pl_module.state_dict()
            self._validated = {name: tensor.detach().to('cpu', copy=True) for name, tensor in state.items()}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights if they are the best so far.

        Raises:
            UsageError: if the monitored figure is not logged.
        """
        if self.monitor is None or trainer.sanity_checking:
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            names = ', '.join(sorted(trainer.callback_metrics))
            raise UsageError(f'monitor {self.monitor!r} is not logged; these are: {names}')
        if float(value) > self._best:
            self._best = float(value)
            self._weights = self._validated

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure and write, in the first of several processes."""
        if not trainer.is_global_zero:
            return
        if self._weights:
            pl_module.load_state_dict(self._weights)
        evidence = self.evidence or self._measured(trainer, pl_module)
        card = self._card(trainer, pl_module, evidence)
        dtype = _DTYPES[self.dtype]
        folder = self._folder
        network: Any = pl_module.network
        save_bundle(folder, network, card, dtype, overwrite=self.overwrite)
        written = f'{card.name}: bundle written to {folder}'
        _logger.info(written, extra={'result': written})

    def _measured(self, trainer: Trainer, task: Any) -> Evidence:  # noqa: ANN401 - a `task_type`
        self.scores = scores = _predict(trainer, task)
        multi = task.task == 'multi-label'
        thresholds = best_thresholds(scores.values, scores.target) if multi else None
        chosen = [*(['the epoch'] if self.monitor else []), 'the thresholds' if multi else 'the temperature']
        temperature = None if multi else temperature_of(scores)
        metrics = _measure(scores, thresholds, temperature, chosen)
        calibration = None
        if temperature is not None:
            measured_on = f'{len(scores.values)} validation images, which also chose the temperature'
            whole = next(reversed(metrics.values()))  # of all sources
            calibration = calibration_of(whole, temperature, measured_on)
        return Evidence(
            thresholds,
            metrics,
            trainer.datamodule.split.id,  # type: ignore[attr-defined]
            calibration,
            fbeta(scores.right_and_wrong(thresholds)),
            trainer.datamodule.split.method,  # type: ignore[attr-defined]
        )

    def _card(self, trainer: Trainer, task: Any, evidence: Evidence) -> ModelCard:  # noqa: ANN401
        data = trainer.datamodule  # type: ignore[attr-defined]
        multi = task.task == 'multi-label'
        thresholds = evidence.thresholds
        if multi and thresholds is None:
            thresholds = torch.full((len(task.labels),), 0.5)
        kwargs = {key: value for key, value in task.architecture_kwargs.items() if key != 'pretrained'}
        fields: dict[str, Any] = dict(
            **self.text,
            architecture=task.architecture,
            architecture_kwargs=kwargs,
            activation='sigmoid' if multi else 'softmax',
            task=task.task,
            bands=task.bands,
            input_size=data.size or data.dataset[0]['image'].shape[-1],
            mean=tuple(task.mean.flatten().tolist()),
            std=tuple(task.std.flatten().tolist()),
            labels=task.labels,
            thresholds=None if thresholds is None else tuple(thresholds.tolist()),
            split_id=evidence.split_id,
            split=evidence.split,
            metrics=evidence.metrics,
            limits=self._limits(task.labels, evidence),
            calibration=evidence.calibration,
        )
        return ModelCard(**{**fields, **self._more(task)})

    def _limits(self, labels: Sequence[str], evidence: Evidence) -> dict[str, Any] | None:
        """The labels that the model answers worst, and what its training has not seen."""
        limits: dict[str, Any] = {'unseen': self.unseen} if self.unseen else {}
        if evidence.f1 is not None and evidence.metrics:
            pairs = [
                pair for pair in zip(labels, evidence.f1.tolist(), strict=True) if not math.isnan(pair[1])
            ]
            worst = sorted(pairs, key=lambda pair: pair[1])[:WORST]
            measured_on = str(list(evidence.metrics.values())[-1]['split'])
            rounded = {label: round(value, 4) for label, value in worst}
            limits |= {'figure': 'f1', 'worst': rounded, 'measured_on': measured_on}
        return limits or None

    def _more(self, task: Any) -> dict[str, Any]:  # noqa: ANN401 - a `task_type`
        """Further fields of the card, which only some tasks have."""
        return {}


@torch.inference_mode()
def _predict(trainer: Trainer, task: SceneClassification) -> Scores:
    task.eval()
    scores, targets, sources = [], [], []
    for batch in _whole(trainer.datamodule.val_dataloader()):  # type: ignore[attr-defined]
        scores.append(task.scores(task(batch['image'].to(task.device))).cpu())
        targets.append(batch['label'])
        sources += batch['source']
    return Scores(torch.cat(scores), torch.cat(targets), sources, tuple(task.labels))


def _whole(loader: Any) -> Any:  # noqa: ANN401 - a DataLoader, or a list of batches
    """A loader of all samples, where this process was to take its share of them."""
    if not isinstance(getattr(loader, 'sampler', None), DistributedSampler):
        return loader
    return DataLoader(
        loader.dataset, loader.batch_size, num_workers=loader.num_workers, collate_fn=loader.collate_fn
    )


def _measure(
    scores: Scores, thresholds: Tensor | None, temperature: float | None, chosen: Sequence[str]
) -> dict[str, dict[str, Any]]:
    used = f', which also chose {" and ".join(chosen)}' if chosen else ''
    metrics: dict[str, dict[str, Any]] = {}
    names = sorted(set(scores.sources))
    for name in [*names, None] if len(names) > 1 else names:
        part = scores.of(name)
        figures = part.report(thresholds)
        split = f'{len(part.values)} validation images{used}'
        rounded = {key: None if math.isnan(value) else round(value, 4) for key, value in figures.items()}
        if temperature is not None:
            rounded |= part.classes() | calibration_errors([part], [temperature])
        metrics[name or 'all'] = {'split': split, **rounded}
    return metrics
