"""Writes the bundle of a model that labels pixels when training ends."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer

from geores.metrics.crossval import Evidence
from geores.metrics.reach import context_of
from geores.tasks.export import ExportBundle, _whole
from geores.tasks.segmentation import SemanticSegmentation

__all__ = ['ExportSegmentation']


class ExportSegmentation(ExportBundle):
    """Like `ExportBundle`, for models that label pixels; figures are of pixels.

    The card's context is measured. Where the network looks farther than a quarter of its input, a quarter
    it is: what lies beyond changes labels little, and this is said.

    Args:
        name: Of the model.
        description: One or two sentences for people.
        sensor: What the images were taken with.
        processing_level: Such as 'L2A'.
        units: Of the images' values: 'reflectance*10000', '8-bit' or 'dB'.
        gsd: Smallest and largest ground sampling distance, in metres.
        training_data: The data sets, with their licences.
        licence: Of the weights.
        colours: One a label, as '#rrggbb'; None takes the palette that knows the labels.
        resampling: How coarser bands are brought to the model's resolution.
        display_stretch: Low and high percentile that bring other imagery to 8 bits.
        display_range: Reflectances times 10,000 that become 0 and 255 instead.
        monitor: Figure whose highest value marks the best epoch; None keeps the last.
        path: Folder of the bundle; None puts it into the run's folder, under the model's name.
        dtype: In which to keep the weights.
        overwrite: Replace a bundle that stands there.
    """

    task_type = SemanticSegmentation

    def __init__(
        self,
        name: str,
        description: str,
        sensor: str,
        processing_level: str,
        units: str,
        gsd: tuple[float, float],
        training_data: str,
        licence: str,
        colours: Sequence[str] | None = None,
        resampling: Literal['nearest', 'bilinear'] = 'bilinear',
        display_stretch: tuple[float, float] | None = None,
        display_range: tuple[float, float] | None = None,
        monitor: str | None = None,
        path: str | None = None,
        dtype: Literal['float16', 'float32'] = 'float16',
        overwrite: bool = False,
    ) -> None:
        super().__init__(
            name,
            description,
            sensor,
            processing_level,
            units,
            gsd,
            training_data,
            licence,
            resampling,
            display_stretch,
            display_range,
            monitor,
            path,
            dtype,
            overwrite,
        )
        self.colours = None if colours is None else tuple(colours)
        self._size = 0
        self._context: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:  # noqa: ANN401
        """Refuse before any work what the export would refuse after it.

        Args:
            trainer: That fits.
            pl_module: A `SemanticSegmentation`.

        Raises:
            GeoresError: As `ExportBundle` refuses.
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
        return Evidence(None, metrics, split.id)

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
        found = context_of(task.network, len(task.bands), task.alignment, self._size)
        most = self._size // 4 // task.alignment * task.alignment
        if found is None or found > most:
            print(f'labels depend on more than {most} pixels around them: the card says {most} all the same')
            return most
        return found
