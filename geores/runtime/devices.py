"""Several devices in one command: each computes some of the batches, and no result depends on which."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import count
from threading import local
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geores.errors import UsageError
from geores.model import Model
from geores.runtime.base import pick_device
from geores.runtime.predictor import Predictor

__all__ = ['ManyDevices', 'pick_devices']


def pick_devices(names: str) -> tuple[str, ...]:
    """Choose devices: one as `pick_device` does, several with commas between them, or 'all' GPUs.

    Raises:
        UsageError: if one is not there, or they are of different kinds, whose results differ.
    """
    if names == 'all':
        found = torch.cuda.device_count()
        if not found:
            raise UsageError('device all: no CUDA device is here: use cpu')
        return _alike(tuple(f'cuda:{number}' for number in range(found)))
    return _alike(tuple(pick_device(name.strip()) for name in names.split(',')))


def _alike(devices: tuple[str, ...]) -> tuple[str, ...]:
    if len(devices) > 1:
        kinds = {torch.cuda.get_device_name(one) if one.startswith('cuda') else 'cpu' for one in devices}
        if len(kinds) > 1:
            raise UsageError(
                f'devices {",".join(devices)} are of different kinds ({", ".join(sorted(kinds))}), '
                'whose results differ in their last digits: give those of one kind'
            )
    return devices


class ManyDevices(Predictor):
    """A step whose threads each compute on one of several devices, in turn.

    Batches are those of one device, and every batch is computed as one device would.

    Args:
        first: the predictor on the first device, which has decided precision and runtime.
        devices: all devices, of one kind.
    """

    def __init__(self, first: Predictor, devices: Sequence[str]) -> None:
        vars(self).update(vars(first))
        self.each = (first, *(_on_device(first, device) for device in devices[1:]))
        self._own, self._turns = local(), count()

    def __call__(self, tiles: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Compute tiles as `Predictor` does, on the device of this thread."""
        if not hasattr(self._own, 'predictor'):
            self._own.predictor = self.each[next(self._turns) % len(self.each)]
        own: Predictor = self._own.predictor
        return own(tiles)


def _on_device(first: Predictor, device: str) -> Predictor:
    """The same on another device, with a copy of the network."""
    model = Model(first.model.card, deepcopy(first.model.network), device)
    shared = None if first.runtime.name == 'torch' else first.runtime  # which runs on the CPU alone
    return Predictor(model, first.precision, outputs=first.outputs, runtime=shared, full=first.full)
