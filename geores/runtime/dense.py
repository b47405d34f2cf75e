"""Overlapping tiles at the cost of one pass: features of a region are computed once, and pooled per tile.

A convolutional network of timm makes a map that is smaller than its image by a whole factor, averages it over
the tile and classifies the mean. Where tiles and strides are multiples of that factor, the maps of all tiles
are parts of the region's. The answers are not those of tile by tile: there every tile is padded at its edges,
and here the pixels around it are seen.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.errors import GeoresError, UsageError
from geores.model import Model
from geores.runtime.base import DTYPES
from geores.runtime.eager import EagerRuntime, keep_runtime
from geores.runtime.nearness import LabelRule, NearTies
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
        ties: tells the tiles that are computed again in float32, on features of the whole region; none where
            not given.
    """

    revises = False
    """Never by the engine, which would compute tile by tile what is nearly tied."""

    def __init__(
        self,
        model: Model,
        runtime: EagerRuntime,
        reduction: int,
        tile: int,
        *,
        outputs: Outputs = scores_of_tiles,
        ties: NearTies | None = None,
    ) -> None:
        note = (
            'features were computed once for overlapping tiles (--dense): answers are near to those of tile '
            'by tile, not the same'
        )
        about = f'regions with tiles whose labels are nearly tied in {runtime.precision} were computed again'
        notes = (note,) if ties is None else (note, f'{about} in float32')
        super().__init__(model, runtime.precision, outputs=outputs, runtime=runtime, notes=notes, ties=ties)
        self._narrow = runtime
        self._reduction, self._tile = reduction, tile

    @torch.inference_mode()
    def of_region(self, values: NDArray[np.float32], places: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
        """Compute what `outputs` makes of some tiles of a region.

        Tiles that do not begin at a place of the map, as the last of a row may, are computed by themselves.

        Args:
            values: (C, h, w), in the card's units.
            places: top and left of each tile, in pixels of the region, (n, 2).
        """
        answers = self._answers(values, places, self._narrow)
        again = np.zeros(len(places), bool) if self.ties is None else self.ties.find(answers).numpy()
        if again.any():
            exact = keep_runtime(self.model.network, 'fp32', self.model.device)
            answers[torch.from_numpy(again)] = self._answers(values, places[again], exact)
        return {name: array.numpy() for name, array in self.outputs(answers).items()}

    def _answers(
        self, values: NDArray[np.float32], places: NDArray[np.int64], runtime: EagerRuntime
    ) -> Tensor:
        """Probabilities of tiles of a region, (n, K)."""
        aligned = (places % self._reduction == 0).all(axis=1)
        answers = torch.empty(len(places), len(self.model.card.labels))
        if aligned.any():
            parts = torch.from_numpy(places[aligned] // self._reduction)
            found = self._pooled(self._maps(values, runtime), parts, runtime)
            if not torch.isfinite(found).all():
                cure = 'is it damaged?' if runtime.precision == 'fp32' else 'give --precision fp32'
                raise GeoresError(f'model {self.model.name!r} answers with NaN: {cure}')
            answers[torch.from_numpy(aligned)] = found
        if not aligned.all():
            size = self._tile
            cut = [values[:, top : top + size, left : left + size] for top, left in places[~aligned]]
            alone = [
                self.probabilities(torch.from_numpy(np.stack(cut[start : start + 16])), runtime)
                for start in range(0, len(cut), 16)
            ]
            answers[torch.from_numpy(~aligned)] = torch.cat(alone)
        return answers

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
        found = self._pooled(self._maps(values, self._narrow), parts, self._narrow)
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

    def _maps(self, values: NDArray[np.float32], runtime: EagerRuntime) -> Tensor:
        """Features of a region, (1, F, h, w)."""
        height, width = (side - side % self._reduction for side in values.shape[1:])
        images = torch.from_numpy(values[None, :, :height, :width].copy())
        images = self.model.normalise_(images).to(DTYPES[runtime.precision])
        network: Any = runtime.network
        with _autocast(runtime):
            maps: Tensor = network.forward_features(images.contiguous(memory_format=torch.channels_last))
        return maps

    def _pooled(self, maps: Tensor, places: Tensor, runtime: EagerRuntime) -> Tensor:
        """Answers for the tiles that begin at places of the map, (n, K)."""
        side = self._tile // self._reduction
        parts = maps[0].unfold(1, side, 1).unfold(2, side, 1)  # (F, rows, cols, side, side), a view
        answers, head = [], cast(Any, runtime.network).forward_head
        for some in places.split(HEADS):
            with _autocast(runtime):
                logits = head(parts[:, some[:, 0], some[:, 1]].movedim(0, 1))
            answers.append(self.model.activate(logits))
        return torch.cat(answers)


def _autocast(runtime: EagerRuntime) -> torch.autocast:
    dtype = DTYPES[runtime.precision]
    return torch.autocast('cpu', dtype, enabled=dtype != torch.float32)


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
    rule: LabelRule | None = None,
) -> DensePredictor:
    """Make a predictor for regions, at the precision that `choose_predictor` finds.

    A region is computed again where a tile of it is nearly tied, so that ``auto`` is float32 where any tile
    of the probe is.

    Args:
        model: a model that labels tiles, on the CPU.
        precision: as the user gave it.
        probe: some tiles, to choose the precision by.
        tile: pixels along a side of a tile.
        stride: pixels from one tile to the next.
        runtime: as the user gave it; torch alone can.
        compile: whether it was asked that torch compiles the network, which does not go with this.
        rule: how scores become labels; the card's where not given.

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
    made = choose_predictor(model, precision, probe, rule=rule)
    if precision == 'auto' and made.ties is not None and made.ties.share > 0:
        made = choose_predictor(model, 'fp32', probe)
    if not isinstance(made.runtime, EagerRuntime):
        raise UsageError(f'--dense needs a network of torch, and model {model.name!r} has none: drop --dense')
    return DensePredictor(model, made.runtime, reduction, tile, ties=made.ties)
