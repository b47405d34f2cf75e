"""A loaded model: a network with its card, in the card's units."""

import warnings
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from geores.card import ModelCard
from geores.card_values import Units
from geores.errors import UsageError
from geores.runtime.base import exact_float32

FRACTIONS = 2.0
"""Highest value of light given as fractions of 0 to 1, with glints and clouds, which exceed 1."""


class Model:
    """A network that says what it takes and answers in probabilities, or in a regression's values.

    Args:
        card: what the network takes and answers.
        network: built and loaded; made float32 and put in evaluation mode.
        device: where to put it, as torch names devices.

    Raises:
        UsageError: if the device is not there.
    """

    folder: Path | None = None
    """Folder of the bundle that it was loaded from."""

    def __init__(self, card: ModelCard, network: nn.Module, device: str | torch.device = 'cpu') -> None:
        self.card = card
        self.network = network.float().eval().requires_grad_(requires_grad=False)
        self.to(device)

    def __repr__(self) -> str:
        return f'Model({self.name!r}, sha256={self.sha256[:12]!r}, device={str(self.device)!r})'

    @property
    def name(self) -> str:
        """Name of the card."""
        return self.card.name

    @property
    def sha256(self) -> str:
        """Hash of the weights file."""
        return self.card.sha256

    @property
    def device(self) -> torch.device:
        """Device of the network and the statistics."""
        return self._mean.device

    def to(self, device: str | torch.device) -> Self:
        """Move to a device, in place.

        Returns:
            The model itself.

        Raises:
            UsageError: if the device is not there.
        """
        try:
            mean = torch.tensor(self.card.mean, dtype=torch.float32, device=device)
            self.network.to(device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f'device {str(device)!r} cannot be used: {error}'.split('\n')[0]) from error
        self._mean = mean.view(-1, 1, 1)
        self._std = torch.tensor(self.card.std, dtype=torch.float32, device=device).view(-1, 1, 1)
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """Bring images to what the network takes.

        Args:
            images: (N, C, H, W), float32, in the card's units.

        Returns:
            (N, C, H, W), float32, about mean 0 and standard deviation 1.
        """
        return self.normalise_(images.clone())

    def normalise_(self, images: Tensor) -> Tensor:
        """Like `normalise`, in place."""
        if self.card.log_scale is not None:
            images.mul_(self.card.log_scale).clamp_min_(0).log1p_()
        return images.sub_(self._mean).div_(self._std)

    def activate(self, logits: Tensor) -> Tensor:
        """Bring logits to probabilities or values, by the card's calibration and activation.

        Args:
            logits: (N, K), or (N, K, H, W) of a segmentation, of any float type.

        Returns:
            Of the same shape, float32; 0 to 1 unless the activation is 'identity'.
        """
        logits = self.calibrate(logits)
        if self.card.activation == 'identity':
            return logits
        return logits.sigmoid() if self.card.activation == 'sigmoid' else logits.softmax(dim=1)

    def calibrate(self, logits: Tensor) -> Tensor:
        """Divide logits by the card's temperature, in float32."""
        logits = logits.float()
        return logits / self.card.calibration['temperature'] if self.card.calibration else logits

    @exact_float32()
    @torch.inference_mode()
    def predict(self, images: ArrayLike | Tensor, batch_size: int = 64) -> NDArray[np.float32]:
        """Predict probabilities (or values) of images, computed in float32.

        Args:
            images: (N, C, H, W) in the card's units, its bands in order, at its input size; of any height and
                width that is a multiple of the card's alignment where it labels pixels.
            batch_size: images at a time; other sizes change the last digits.

        Returns:
            (N, K), one column per label of the card; (N, K, H, W) where it labels pixels.

        Raises:
            UsageError: if the images are not what the card wants, or the batch size is below 1.
        """
        if batch_size < 1:
            raise UsageError(f'batch_size has to be 1 or more, not {batch_size}')
        tensor = self._check(images)
        if not len(tensor):
            pixels = tensor.shape[2:] if self.card.task == 'segmentation' else ()
            return np.empty((0, len(self.card.labels), *pixels), dtype=np.float32)
        scores = [
            self.activate(self.network(self.normalise(batch.to(self.device)))).cpu()
            for batch in torch.split(tensor, batch_size)
        ]
        return np.asarray(torch.cat(scores).numpy())

    def _check(self, images: ArrayLike | Tensor) -> Tensor:
        array = images if isinstance(images, Tensor) else np.asarray(images)
        real = not array.is_complex() if isinstance(array, Tensor) else array.dtype.kind in 'biuf'
        if not real or array.ndim != 4 or not self._fits(tuple(array.shape[1:])):
            size = (
                'H, W'
                if self.card.task == 'segmentation'
                else f'{self.card.input_size}, {self.card.input_size}'
            )
            step = f' with H and W multiples of {self.card.alignment}' if self.card.alignment > 1 else ''
            raise UsageError(
                f'images are {array.dtype} of shape {tuple(array.shape)}, and model {self.name!r} '
                f'wants numbers of shape (N, {len(self.card.bands)}, {size}){step}: bands '
                f'{", ".join(self.card.bands)} in {self.card.units}'
            )
        whole = not array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind != 'f'
        if not isinstance(array, Tensor):
            array = torch.from_numpy(np.require(array, np.float32, ['C', 'W']))
        array = array.to(torch.float32)
        if not torch.isfinite(array).all():
            raise UsageError(f'images hold NaN or infinite values: model {self.name!r} wants none')
        if len(array) and not whole:
            self._warn_of_fractions(array)
        return array

    def _fits(self, shape: tuple[int, ...]) -> bool:
        bands, *size = shape
        if bands != len(self.card.bands):
            return False
        if self.card.task == 'segmentation':
            return all(side > 0 and side % self.card.alignment == 0 for side in size)
        return all(side == self.card.input_size for side in size)

    def _warn_of_fractions(self, images: Tensor) -> None:
        """Warn of light as fractions, where what the network was trained on was far brighter."""
        light = [place for place, fill in enumerate(self.card.fill) if fill > 2 * FRACTIONS]
        brightest = float(images.amax((0, 2, 3))[light].max()) if light else 0.0
        if 0 < brightest <= FRACTIONS:
            factor = 255 if self.card.units == Units.EIGHT_BIT else 10_000
            warnings.warn(
                f'images hold no value above {brightest:.3g}, and model {self.name!r} wants '
                f'{self.card.units}: multiply fractions of 0 to 1 by {factor:,}',
                stacklevel=6,  # over `predict` and its two wrappers
            )
