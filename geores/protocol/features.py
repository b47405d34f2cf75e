"""Methods of the baselines: image features with a linear classifier, and fine-tuning of an encoder."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from geores.datasets._module import Images, LabelledImages, read_rgb
from geores.protocol.encoder import RGB, BaselineEncoder
from geores.runtime.base import Precision, Runtime
from geores.runtime.eager import EagerRuntime
from geores.runtime.exported import OpenVinoRuntime, installed_runtimes
from geores.splits import Split
from geores.tasks import SceneClassification
from geores.tasks.augment import Colour, Dihedral, RandomResizedCrop
from geores.training.finetune_recipe import GivenSplit, epochs_for
from geores.training.linear_probe import RATE, KeepStatistics, are_few, fit_head
from geores.training.trainer import make_trainer, quiet_trainer

__all__ = [
    'KERNEL_GRID',
    'SVM_GRID',
    'Answers',
    'colour_features',
    'colour_histogram',
    'deep_features',
    'fine_tune',
    'kernel_machine',
    'linear_svm',
    'look',
]

BINS = 32
SVM_GRID = (0.0001, 0.001, 0.01, 0.1, 1.0)
KERNEL_GRID = ((0.5, 1.0, 2.0), (0.003, 0.03, 0.3))
"""Values of gamma and of alpha that `kernel_machine` chooses from."""
_FOLDS = 3
_MOST_ITERATIONS = 5000
_ROWS = 4096  # test images at a time
_WORTH = 500  # images for which a network is converted for OpenVINO, which takes seconds

Floats = NDArray[np.float32]
Classes = NDArray[np.int64]

LEARNING_RATE = 1e-3


class Answers(NamedTuple):
    """Classes (N,) that a method gives to test images, and the setting that it chose."""

    classes: Classes
    setting: str


def colour_histogram(pixels: NDArray[np.uint8], bins: int = BINS) -> Floats:
    """Histogram of each channel, one after the other, with a total of 1.

    The global colour descriptor of baseline tables such as that of NWPU-RESISC45.

    Args:
        pixels: (C, H, W), 0 to 255.
        bins: equal parts of the range in each channel; has to divide 256.

    Returns:
        (C * bins,), float32.
    """
    counts = [np.bincount(channel.ravel() // (256 // bins), minlength=bins) for channel in pixels]
    return (np.concatenate(counts) / pixels.size).astype(np.float32)


def colour_features(paths: Iterable[Path]) -> Floats:
    """Colour histograms of images at their own size.

    Args:
        paths: paths of 8-bit colour images.

    Returns:
        (N, 96).

    Raises:
        DatasetError: if an image cannot be read.
    """
    return np.stack([colour_histogram(read_rgb(path)) for path in paths])


def deep_features(
    network: nn.Module,
    images: Images,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = 'cpu',
    batch_size: int = 64,
    precision: Precision = 'fp32',
    *,
    mirrored: bool = False,
) -> Floats:
    """Compute pooled features of images by a network without its head.

    Args:
        network: network that gives pooled features, (N, F).
        images: each (C, H, W), all of one size.
        mean: mean per channel, in the images' units.
        std: standard deviation per channel, in the images' units.
        device: device, as torch names it.
        batch_size: images in one forward pass.
        precision: 'fp32', or 'bf16', which is about twice as fast where the processor knows it.
        mirrored: whether to take the mean over each image and its mirror image, left to right.

    Returns:
        (N, F).
    """
    network = _BothSides(network) if mirrored else network
    return np.concatenate(list(look(network, images, mean, std, device, batch_size, precision)))


class _BothSides(nn.Module):
    """The mean of what a network gives for images and for their mirror images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = (self.network(images) + self.network(images.flip(-1))) / 2
        return features


@torch.inference_mode()
def look(
    network: nn.Module,
    images: Images,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = 'cpu',
    batch_size: int = 64,
    precision: Precision = 'fp32',
) -> Iterator[Floats]:
    """Show images to a network, batch by batch, by OpenVINO where it is installed and torch elsewhere.

    Args:
        network: any network of images.
        images: as in `deep_features`.
        mean: as in `deep_features`.
        std: as in `deep_features`.
        device: as in `deep_features`.
        batch_size: as in `deep_features`.
        precision: as in `deep_features`.

    Yields:
        What the network gives for each batch, (N, ...).
    """
    network = network.to(device).eval()
    runtime: Runtime
    if device == 'cpu' and 'openvino' in installed_runtimes() and len(images) > _WORTH:
        runtime = OpenVinoRuntime(network, images[0].shape, precision)
    else:
        runtime = EagerRuntime(network, precision, torch.device(device))
    shift, scale = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (mean, std))
    for start in range(0, len(images), batch_size):
        batch = np.stack([images[k] for k in range(start, min(start + batch_size, len(images)))])
        pixels = torch.from_numpy(batch).to(device).float()
        pixels = ((pixels - shift) / scale).contiguous(memory_format=torch.channels_last)
        yield np.asarray(runtime(pixels).float().cpu().numpy())


def linear_svm(
    train: Floats, classes: Classes, test: Floats, c: float | None = None, seed: int = 0
) -> Answers:
    """Classify by a linear support vector machine, one class against the rest.

    Features are brought to mean 0 and standard deviation 1 by those of the training part.

    Args:
        train: (N, F).
        classes: (N,) of the training part.
        test: (M, F).
        c: weight of the errors; None chooses it out of `SVM_GRID` by cross-validation inside the
            training part, and takes 1 where a class has a single training image.
        seed: seed of the solver and of the folds.

    Returns:
        Classes of the test part, and the weight.
    """
    machine: Any = make_pipeline(
        StandardScaler(), LinearSVC(C=c or 1.0, max_iter=_MOST_ITERATIONS, random_state=seed)
    )
    folds = min(_FOLDS, int(np.unique(classes, return_counts=True)[1].min()))
    if c is None and folds > 1:
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
        machine = GridSearchCV(machine, {'linearsvc__C': SVM_GRID}, cv=parts)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)  # said in the setting
        warnings.filterwarnings('ignore', 'The number of unique classes')  # of one image a class
        machine.fit(train, classes)
    best = getattr(machine, 'best_estimator_', machine)[-1]
    stopped = ', not converged' if best.n_iter_ >= _MOST_ITERATIONS else ''
    return Answers(machine.predict(test), f'C={best.C:g}{stopped}')


def kernel_machine(
    train: Sequence[Floats], classes: Classes, test: Sequence[Floats], seed: int = 0
) -> Answers:
    """Classify by regularised least squares with a Gaussian kernel, one class against the rest.

    Of each encoder's features the square root is taken, as is usual for histograms and pooled activations;
    they are centred by the training part, brought to length 1 and put side by side. The machine is the least
    squares support vector machine (Suykens and Vandewalle 1999), solved at once.

    Args:
        train: features of each encoder, (N, F) each.
        classes: (N,) of the training part.
        test: features of each encoder, (M, F) each.
        seed: of the folds.

    Returns:
        Classes of the test part, and gamma and alpha, which were chosen out of `KERNEL_GRID` by
        cross-validation inside the training part; their middle where a class has a single training image.
    """
    known, asked = (
        np.hstack([_unit(one, first) / len(train) ** 0.5 for one, first in zip(part, train, strict=True)])
        for part in (train, test)
    )
    gammas, alphas = KERNEL_GRID
    wanted = (2 * (classes[:, None] == np.unique(classes)) - 1).astype(np.float32)
    away = _away(known, known)
    folds = min(_FOLDS, int(np.unique(classes, return_counts=True)[1].min()))
    best = gammas[1], alphas[1]
    if folds > 1:
        parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(known, classes))
        found = {}
        for gamma in gammas:
            kernel = np.exp(-gamma * away)
            for alpha in alphas:
                machine = KernelRidge(alpha=alpha, kernel='precomputed')
                found[gamma, alpha] = sum(
                    _right(machine.fit(kernel[np.ix_(a, a)], wanted[a]), kernel[np.ix_(b, a)], wanted[b])
                    for a, b in parts
                )
        best = max(found, key=lambda pair: found[pair])
    gamma, alpha = best
    machine = KernelRidge(alpha=alpha, kernel='precomputed').fit(np.exp(-gamma * away), wanted)
    answers = [
        machine.predict(np.exp(-gamma * _away(asked[start : start + _ROWS], known)))
        for start in range(0, len(asked), _ROWS)
    ]
    return Answers(np.unique(classes)[np.concatenate(answers).argmax(1)], f'gamma={gamma:g}, alpha={alpha:g}')


def _away(one: Floats, other: Floats) -> Floats:
    """Squared distances of vectors of length 1, (N, M)."""
    return np.asarray(2 - 2 * np.minimum(one @ other.T, 1))


def _right(machine: KernelRidge, kernel: Floats, wanted: Floats) -> int:
    """Number of images that a machine gives the right class."""
    return int((machine.predict(kernel).argmax(1) == wanted.argmax(1)).sum())


def _unit(features: Floats, train: Floats) -> Floats:
    """Square roots of features, centred by those of the training part and of length 1."""
    rooted, first = (np.sign(one) * np.sqrt(np.abs(one)) for one in (features, train))
    moved = rooted - first.mean(0)
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12))


def fine_tune(
    dataset: LabelledImages,
    split: Split,
    encoder: BaselineEncoder,
    *,
    epochs: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    device: str = 'cpu',
) -> Answers:
    """Train all of an encoder and a new head on a training part, and classify the rest.

    With few images the head is fitted to the features first, and all of the network is then changed
    gently (`geores.training.linear_probe`). The test part is not looked at before training has ended;
    there is no choice of an epoch.

    Args:
        dataset: images of one class each.
        split: training part, and the test part as `val`.
        encoder: encoder to start from.
        epochs: passes over the training part; None takes `epochs_for`.
        batch_size: images in one step.
        seed: seed of the head, the order and the augmentations.
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


def _task(dataset: LabelledImages, encoder: BaselineEncoder, learning_rate: float) -> SceneClassification:
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
