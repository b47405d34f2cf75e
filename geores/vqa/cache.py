"""A cache of feature maps on disk: hundreds of questions share an image, which is encoded once."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn

from geores.errors import OutputError, UsageError
from geores.io.whole_files import check_writable, whole_folder

__all__ = ['TURNS', 'FeatureCache', 'feature_key', 'turned']

TURNS = 8
"""Number of orientations: 0 to 3 quarter turns to the left, with and without mirroring first."""

_FILE = 'features.npy'
_FORMAT = 1

_VIEWS = 32
"""Images, each turn counted, that are encoded together."""


def turned(images: Tensor, turn: int) -> Tensor:
    """Mirror and turn images.

    Args:
        images: images, (..., H, W).
        turn: orientation 0 to 7: the number of quarter turns to the left, from 4 on after mirroring the
            image left to right.
    """
    return torch.rot90(images.flip(-1) if turn >= 4 else images, turn % 4, (-2, -1))


def feature_key(
    encoder: nn.Module,
    mean: Tensor,
    std: Tensor,
    images: Sequence[str],
    turns: int,
    device: str = 'cpu',
) -> str:
    """Key of a cache, a hash of everything that decides the features.

    Args:
        encoder: the encoder; its structure and weights are hashed.
        mean: mean of the normalisation.
        std: standard deviation of the normalisation.
        images: identity of each image, which has to differ when its content changes.
        turns: number of orientations that are encoded per image.
        device: kind of device that encodes, whose last digits are its own.
    """
    where = '' if device == 'cpu' else f'{device} fp32 '
    digest = hashlib.sha256(f'{_FORMAT} {where}{turns} {encoder!r} {vars_of(encoder)}'.encode())
    for name, tensor in [*encoder.state_dict().items(), ('mean', mean), ('std', std)]:
        values = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {values.dtype} {tuple(values.shape)}'.encode())
        digest.update(values.numpy().tobytes())
    digest.update(json.dumps(list(images)).encode())
    return digest.hexdigest()[:32]


def vars_of(encoder: nn.Module) -> dict[str, Any]:
    """Settings of a `FeatureMap` that its printed form does not show."""
    names = ('places', 'in_chans', 'grid', 'scale', 'looks')
    return {name: getattr(encoder, name, None) for name in names}


class FeatureCache:
    """Features of numbered images in all orientations, as float16 in one file.

    Args:
        folder: folder of all caches, each in a folder named after its key.
        key: key of the cache, from `feature_key`.

    Attributes:
        path: path of the file, which is complete or does not exist.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self.path = Path(folder) / key / _FILE
        self._array: NDArray[np.float16] | None = None

    def fill(
        self,
        encode: Callable[[Tensor], Tensor],
        image: Callable[[int], Tensor],
        count: int,
        turns: int = 1,
        watch: Callable[[int], None] = lambda number: None,
    ) -> bool:
        """Encode all images, unless the file exists already.

        Args:
            encode: maps images (N, C, H, W) to features (N, D, h, w).
            image: returns the image with a number, (C, H, W).
            count: number of images.
            turns: 1, or 8 for all orientations of each image.
            watch: called with the number of images done so far.

        Returns:
            Whether anything was encoded.

        Raises:
            UsageError: if features are not finite as float16.
            OutputError: if the file cannot be written there, or would not fit.
            WriteError: if writing failed.
        """
        if self.path.is_file():
            return False
        check_writable(self.path.parent, self.path.parent.parent)
        with whole_folder(self.path.parent, keep=True) as part:  # another run may finish first, with the same
            self._write(part, encode, image, count, turns, watch)
        return True

    def _write(
        self,
        part: Path,
        encode: Callable[[Tensor], Tensor],
        image: Callable[[int], Tensor],
        count: int,
        turns: int,
        watch: Callable[[int], None],
    ) -> None:
        array = None
        together = max(1, _VIEWS // turns)
        for first in range(0, count, together):
            numbers = range(first, min(first + together, count))
            views = [turned(one, turn) for one in map(image, numbers) for turn in range(turns)]
            features = encode(torch.stack(views)).cpu().to(torch.float16)
            wrong = ~torch.isfinite(features).flatten(1).all(1)
            if wrong.any():
                number = first + int(wrong.long().argmax()) // turns
                raise UsageError(f'features of image {number} are not finite as float16: do without a cache')
            if array is None:
                shape = (turns, count, *features.shape[1:])
                _check_space(part, 2 * int(np.prod(shape)))
                array = open_memmap(part / _FILE, 'w+', np.float16, shape)
            array[:, numbers.start : numbers.stop] = features.unflatten(0, (-1, turns)).swapaxes(0, 1).numpy()
            watch(numbers.stop)
        if array is not None:
            array.flush()

    def __call__(self, numbers: Tensor, turns: Tensor | None = None) -> Tensor:
        """Features of some images.

        Args:
            numbers: numbers of the images, (N,).
            turns: orientation of each image, (N,), 0 to 7; None turns none.

        Returns:
            Features (N, D, h, w), float32.
        """
        if self._array is None:
            self._array = np.load(self.path, mmap_mode='r')
        which = np.zeros(len(numbers), np.int64) if turns is None else turns.cpu().numpy()
        return torch.from_numpy(self._array[which, numbers.cpu().numpy()].astype(np.float32))


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f'{folder.parent}: features take {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: '
            'set a smaller grid, or another cache'
        )
