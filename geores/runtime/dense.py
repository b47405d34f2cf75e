"""Overlapping tiles at the cost of one pass: features of a region are computed once, and pooled per tile.

A convolutional network of timm makes a map that is smaller than its image by a whole factor, averages it over
the tile and classifies the mean. Where tiles and strides are multiples of that factor, the maps of all tiles
are parts of the region's. The answers are not those of tile by tile: there every tile is padded at its edges,
and here the pixels around it are seen.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.errors import GeoresError, UsageError
from geores.model import Model
from geores.runtime.base import DTYPES
from geores.runtime.eager import EagerRuntime
from geores.runtime.predictor import Outputs, Predictor, choose_predictor, scores_of_tiles

__all__ = ['FAMILIES', 'DensePredictor', 'choose_dense_predictor', 'reduction_of']

FAMILIES = ('efficientnet_lite', 'tf_efficientnet_lite', 'resnet')
"""Networks that look at places alone: others weigh channels, or all pixels, by the whole image."""

AGREEMENT = 0.95
"""Least share of labels that have to be those of tile by tile, in the middle of the scene.

Small maps are made of padding for the most part: a network that was trained on tiles of 2 x 2 places has
never seen what it gets here.
"""

HEADS = 256
"""Tiles whose parts of the map are pooled at once."""


class DensePredictor(Predictor):
    """A step of the engine that is given whole regions, on the CPU.

    Args:
        model: a model that labels tiles.
        runtime: the network under torch.
        reduction: pixels along a side of one place of the map.
        tile: pixels along a side of a tile.
        outputs: what is made of the probabilities.
    """

    def __init__(
        self,
        model: Model,
        runtime: EagerRuntime,
        reduction: int,
        tile: int,
        *,
        outputs: Outputs = scores_of_tiles,
    ) -> None:
        note = (
            'features were computed once for overlapping tiles (--dense): answers are near to those of tile '
            'by tile, not the same'
        )
        super().__init__(model, runtime.precision, outputs=outputs, runtime=runtime, notes=(note,))
        self._network: Any = runtime.network
        self._reduction, self._tile = reduction, tile

    @torch.inference_mode()
    def of_region(self, values: NDArray[np.float32], places: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
        """Compute what `outputs` makes of some tiles of a region.

        Tiles that do not begin at a place of the map, as the last of a row may, are computed by themselves.

        Args:
            values: (C, h, w), in the card's units.
            places: top and left of each tile, in pixels of the region, (n, 2).
        """
        aligned = (places % self._reduction == 0).all(axis=1)
        answers = torch.empty(len(places), len(self.model.card.labels))
        if aligned.any():
            found = self._pooled(self._maps(values), torch.from_numpy(places[aligned] // self._reduction))
            if not torch.isfinite(found).all():
                raise GeoresError(f'model {self.model.name!r} answers with NaN: give --precision fp32')
            answers[torch.from_numpy(aligned)] = found
        if not aligned.all():
            size = self._tile
            cut = [values[:, top : top + size, left : left + size] for top, left in places[~aligned]]
            alone = [
                self.probabilities(torch.from_numpy(np.stack(cut[start : start + 16])))
                for start in range(0, len(cut), 16)
            ]
            answers[torch.from_numpy(~aligned)] = torch.cat(alone)
        return {name: array.numpy() for name, array in self.outputs(answers).items()}

    @torch.inference_mode()
    def refuse_far(self, values: NDArray[np.float32], stride: int) -> None:
        """Refuse a network whose labels are others than those of tile by tile.

        Args:
            values: part of the scene, (C, h, w), in the card's units.
            stride: pixels from one tile to the next.

        Raises:
            UsageError: if less than `AGREEMENT` of the labels are the same.
        """
        tile = self._tile
        tops, lefts = (np.arange(0, side - tile + 1, stride) for side in values.shape[1:])
        places = np.stack(np.meshgrid(tops, lefts, indexing='ij'), axis=-1).reshape(-1, 2)
        if not len(places):
            return
        parts = torch.from_numpy(places // self._reduction)
        found = self._pooled(self._maps(values), parts)
        cut = np.stack([values[:, top : top + tile, left : left + tile] for top, left in places])
        exact = torch.cat([self.probabilities(some.clone()) for some in torch.from_numpy(cut).split(16)])
        if self.model.card.task == 'single-label':
            same = float((found.argmax(1) == exact.argmax(1)).float().mean())
        else:
            same = float(((found >= 0.5) == (exact >= 0.5)).float().mean())
        if same < AGREEMENT:
            raise UsageError(
                f'--dense moves the labels of model {self.model.name!r}: in the middle of this scene '
                f'{same:.0%} are those of tile by tile; drop --dense'
            )

    def _maps(self, values: NDArray[np.float32]) -> Tensor:
        """Features of a region, (1, F, h, w)."""
        height, width = (side - side % self._reduction for side in values.shape[1:])
        images = torch.from_numpy(values[None, :, :height, :width].copy())
        images = self.model.normalise_(images).to(self._dtype).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            maps: Tensor = self._network.forward_features(images)
        return maps

    def _pooled(self, maps: Tensor, places: Tensor) -> Tensor:
        """Answers for the tiles that begin at places of the map, (n, K)."""
        side = self._tile // self._reduction
        parts = maps[0].unfold(1, side, 1).unfold(2, side, 1)  # (F, rows, cols, side, side), a view
        answers = []
        for some in places.split(HEADS):
            with self._autocast():
                logits = self._network.forward_head(parts[:, some[:, 0], some[:, 1]].movedim(0, 1))
            answers.append(self.model.activate(logits))
        return torch.cat(answers)

    @property
    def _dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    def _autocast(self) -> torch.autocast:
        return torch.autocast('cpu', self._dtype, enabled=self._dtype != torch.float32)


def reduction_of(model: Model) -> int:
    """How many pixels along a side one place of a network's map stands for.

    Raises:
        UsageError: if the network is of another kind than `FAMILIES`, or not on the CPU.
    """
    network: Any = model.network
    known = model.card.architecture.startswith(FAMILIES) and hasattr(network, 'forward_features')
    if not known:
        raise UsageError(
            f'--dense needs a network of {", ".join(FAMILIES)}, and model {model.name!r} is '
            f'{model.card.architecture}: drop --dense'
        )
    if model.device.type != 'cpu':
        raise UsageError(f'--dense computes on the CPU, not on {model.device}: drop it, or give --device cpu')
    size = model.card.input_size
    with torch.inference_mode():
        maps = network.forward_features(torch.zeros(1, len(model.card.bands), size, size))
    return size // int(maps.shape[-1])


def choose_dense_predictor(
    model: Model,
    precision: str,
    probe: NDArray[np.float32],
    tile: int,
    stride: int,
    *,
    runtime: str = 'auto',
    compile: bool = False,
) -> DensePredictor:
    """Make a predictor for regions, at the precision that `choose_predictor` finds.

    Args:
        model: a model that labels tiles, on the CPU.
        precision: as the user gave it.
        probe: some tiles, to choose the precision by.
        tile: pixels along a side of a tile.
        stride: pixels from one tile to the next.
        runtime: as the user gave it; torch alone can.
        compile: whether it was asked that torch compiles the network, which does not go with this.

    Raises:
        UsageError: if network, tile, stride or options do not allow it.
    """
    if precision == 'int8':
        raise UsageError('--dense runs under torch, which has no int8: drop --precision int8')
    if compile or runtime not in ('auto', 'torch'):
        raise UsageError(f'--dense runs under torch as it is: drop {"--compile" if compile else "--runtime"}')
    reduction = reduction_of(model)
    for name, value in (('tile', tile), ('stride', stride)):
        if value % reduction:
            raise UsageError(
                f'--dense needs a {name} that is a multiple of {reduction} pixels for model {model.name!r}, '
                f'not {value}: give --{name} {max(value // reduction, 1) * reduction}'
            )
    made = choose_predictor(model, precision, probe).runtime
    if not isinstance(made, EagerRuntime):
        raise UsageError(f'--dense needs a network of torch, and model {model.name!r} has none: drop --dense')
    return DensePredictor(model, made, reduction, tile)
