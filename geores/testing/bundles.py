"""The contract of a bundle: complete, loadable without pickles, and sound in what it answers."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geores.bundle import find_bundle, load_model
from geores.errors import GeoresError
from geores.model import Model
from geores.testing.checks import require
from geores.vqa.model import VQAModel

__all__ = ['check_bundle']

PICKLES = frozenset({'.pt', '.pth', '.ckpt', '.pkl', '.pickle', '.bin', '.joblib'})
TOLERANCE = 1e-4
"""Most by which a score may change with the size of the batch, relative to the largest score."""

QUESTION = 'Is there a water area?'
"""Question that is put to bundles that answer questions."""


def check_bundle(path: str | Path, max_mb: float = 100.0) -> None:
    """Check that a bundle can be handed on.

    It loads from card and safetensors alone, is no larger than packages may be, and gives made-up images
    finite scores in the range that its card states, whatever other images are in the batch.

    Args:
        path: folder of the bundle, or name of one that is installed.
        max_mb: most megabytes of all files in its folder; PyPI accepts 100.

    Raises:
        AssertionError: if a rule is broken; the message says which and what to do.
    """
    try:
        folder = find_bundle(path)
        _check_files(folder, max_mb)
        model = load_model(folder)
    except GeoresError as error:
        raise AssertionError(f'{path} cannot be loaded: {error}: write it with geores.save_bundle') from error
    images = _images(model)
    scores = _scores(model, images)
    _check_scores(model, scores)
    _check_batches(model, images, scores)


def _check_files(folder: Path, max_mb: float) -> None:
    files = [file for file in folder.rglob('*') if file.is_file()]
    for file in sorted(files):
        with file.open('rb') as stream:
            pickled = file.suffix.lower() in PICKLES or stream.read(4) == b'PK\x03\x04'
        require(not pickled, f'{file} is or may be a pickle', 'keep weights in model.safetensors alone')
    size = sum(file.stat().st_size for file in files) / 1e6
    remedy = 'save it as float16, or take a smaller network'
    require(size <= max_mb, f'{folder} holds {size:.1f} MB, more than {max_mb:g} MB', remedy)


def _images(model: Model) -> NDArray[np.float32]:
    """16 images: noise with the card's statistics, uniform ones, very dark and very bright ones."""
    card = model.card
    shape = (len(card.bands), card.input_size, card.input_size)
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (card.mean, card.std))
    noise = np.random.default_rng(0).normal(size=(11, *shape)) * np.linspace(0.2, 2, 11)[:, None, None, None]
    uniform = [np.full(shape, level) for level in (-10, -3, 0, 3, 10)]
    images = np.asarray([mean + std * image for image in (*noise, *uniform)], np.float32)
    return images.clip(0, 255) if isinstance(model, VQAModel) else images


def _scores(model: Model, images: NDArray[np.float32], batch_size: int = 64) -> NDArray[np.float32]:
    """Scores of images; a model that answers questions is asked the same question about each."""
    if not isinstance(model, VQAModel):
        return model.predict(images, batch_size)
    features = model.encode(images, batch_size)
    return np.asarray(model.probabilities(features, [QUESTION])[:, 0].numpy())


def _check_scores(model: Model, scores: NDArray[np.float32]) -> None:
    card = model.card
    require(
        np.isfinite(scores).all(),
        'it answers some images with NaN or infinite scores',
        'look for a division or logarithm in the network, or save it as float32 (dtype=torch.float32)',
    )
    require(
        len(np.unique(scores, axis=0)) > 1,
        'it gives different images the same scores to the last bit',
        "compare the card's mean and std with the images' units, and train the network",
    )
    if card.activation == 'identity':
        return
    remedy = 'return logits from the network: the activation of the card is applied to them'
    inside = ((scores >= 0) & (scores <= 1)).all()
    require(inside, f'scores with {card.activation} lie outside 0 to 1', remedy)
    if card.activation == 'softmax':
        require(np.allclose(scores.sum(axis=1), 1, atol=1e-3), 'scores do not add up to 1', remedy)


def _check_batches(model: Model, images: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    alone = _scores(model, images, batch_size=1)
    moved = float(np.abs(alone - scores).max())
    require(
        moved <= TOLERANCE * max(1.0, float(np.abs(scores).max())),
        f'scores move by {moved:.2g} with the images that share the batch',
        'let no layer mix images when it predicts: statistics of a batch belong to training alone',
    )
