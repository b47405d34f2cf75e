"""Fine-tuning of an encoder on a part of a labelled set."""

import numpy as np
import torch
from numpy.typing import NDArray

from geores.datasets._module import LabelledImages
from geores.pipelines.baselines.encoder import RGB, Encoder
from geores.pipelines.baselines.features import Answers
from geores.pipelines.finetuning.few import RATE, KeepStatistics, are_few, fit_head
from geores.pipelines.finetuning.fitting import GivenSplit, epochs_for
from geores.pipelines.trainer import make_trainer, quiet_trainer
from geores.splits import Split
from geores.tasks import SceneClassification
from geores.tasks.augment import Colour, Dihedral, RandomResizedCrop

__all__ = ['fine_tune']

LEARNING_RATE = 1e-3


def fine_tune(
    dataset: LabelledImages,
    split: Split,
    encoder: Encoder,
    *,
    epochs: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    device: str = 'cpu',
) -> Answers:
    """Train all of an encoder and a new head on a training part, and classify the rest.

    With few images the head is fitted to the features first, and all of the network is then changed
    gently (`geores.pipelines.finetuning.few`). The test part is not looked at before training has ended;
    there is no choice of an epoch.

    Args:
        dataset: Images of one class each.
        split: Training part, and the test part as `val`.
        encoder: To start from.
        epochs: Passes over the training part; None takes `epochs_for`.
        batch_size: Images in one step.
        seed: Of the head, the order and the augmentations.
        device: 'cpu', 'cuda' or 'cuda:N'.

    Returns:
        Classes of the test part in its order, and the number of epochs.
    """
    epochs = epochs or epochs_for(len(split.train), batch_size)
    data = GivenSplit(dataset, split, batch_size)
    data.seed = seed
    places = [] if device == 'cpu' else [torch.device(device).index or 0]
    with torch.random.fork_rng(devices=places), quiet_trainer():
        torch.manual_seed(seed)
        few = encoder.source is not None and are_few(len(split.train), len(dataset.labels))
        task = _task(dataset, encoder, RATE if few else LEARNING_RATE)
        if few:
            fit_head(task, data, device)
        make_trainer(epochs, device, [KeepStatistics()] if few else []).fit(task, datamodule=data)
        classes = _predict(task, data, device)
    return Answers(classes, f'{epochs} epochs')


def _task(dataset: LabelledImages, encoder: Encoder, learning_rate: float) -> SceneClassification:
    known = encoder.mean is not None and encoder.std is not None
    return SceneClassification(
        labels=dataset.labels,
        bands=RGB,
        task='single-label',
        architecture=encoder.architecture,
        architecture_kwargs=encoder.kwargs,
        start=encoder.source,
        label_smoothing=0.1,
        learning_rate=learning_rate,
        augment=[Dihedral(), RandomResizedCrop((0.7, 1.0)), Colour()],
        mean=list(encoder.mean or ()) if known else None,
        std=list(encoder.std or ()) if known else None,
    )


@torch.inference_mode()
def _predict(task: SceneClassification, data: GivenSplit, device: str) -> NDArray[np.int64]:
    task.to(device).eval()
    answers = [task(batch['image'].to(device)).argmax(1).cpu() for batch in data.val_dataloader()]
    return np.asarray(torch.cat(answers).numpy())
