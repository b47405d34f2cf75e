"""How near a runtime's answers are to float32, and the tiles whose labels rounding could change.

A narrow type moves scores a little, and labels only where two of them, or a score and its threshold, are
nearly equal: such tiles are computed again in float32. How far scores move is measured on tiles of the scene
in logits, where the error hardly depends on the score: the root of its mean square times one of `FACTORS`
is the bound below which labels count as nearly tied.
"""

from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.card import ModelCard
from geores.model import Model
from geores.runtime.base import Runtime

__all__ = [
    'FACTORS',
    'FP32_TOLERANCE',
    'TOLERANCE',
    'LabelRule',
    'NearTies',
    'is_near',
    'measure_ties',
    'moved_labels',
    'turn_tiles',
    'widen_probe',
]

TOLERANCE = 0.05
"""Most that a probability may move from float32 on the probe tiles for bf16 to be chosen on a CPU."""

FP32_TOLERANCE = 1e-3
"""The same for another runtime than torch in float32; of values of any size, as a share of the largest."""

OUTLIERS = 1e-3
"""Share of pixels that may move by more: there are millions, and some lie on the edge of two labels."""

FLIPS = 5e-3
"""Share of pixels whose label may be another."""

INT8_FLIPS = {'tiles': 0.05, 'pixels': 0.02}
"""Most labels that may be others in int8: 0.02 are meant, which a probe of 32 tiles is too small to tell."""

PROBE_TILES = 32
"""Tiles that errors are measured on, mirrored and turned ones among them."""

PROBE_PIXELS = 2**19
"""Pixels of them, at most; as many tiles as the probe has at least."""

FACTORS = {'softmax': 3.0, 'sigmoid': 2.0}
"""How many times the usual error of a difference a difference has to be, not to be looked at again.

So chosen on patches of the data of three bundles, under torch and OpenVINO: at most one tile of 800 of one
label, and none of 400 of several, of which each has a margin, had another label in bf16 than in float32. Half
as much leaves one of 400 on patches, and one of 100 on a scene of other ground, whose errors differ more.
"""

SMALLEST = 1e-12
"""Nearest that a probability comes to 0 and 1, whose logits are infinite."""

DIGITS = 2
"""Digits of a bound: it stands in the journal's key."""


@dataclass(frozen=True)
class LabelRule:
    """How scores become labels.

    Attributes:
        softmax: whether the scores of a tile sum to 1 and the best one is its label.
        thresholds: what the score of each label has to reach, (K,); 0 where it does not matter.
        count: most labels per tile; None for any number.
    """

    softmax: bool
    thresholds: tuple[float, ...]
    count: int | None = None

    @classmethod
    def of(cls, card: ModelCard) -> 'LabelRule':
        """The rule of a card, as long as the user gives no other."""
        usual = 0.0 if card.activation == 'softmax' else 0.5
        return cls(card.activation == 'softmax', tuple(card.thresholds or [usual] * len(card.labels)))

    def logits(self, scores: Tensor) -> Tensor:
        """Logarithms of probabilities of which one label is right, logits of others, (N, K)."""
        scores = scores.double()
        if self.softmax:
            return scores.clamp_min(SMALLEST).log()
        return torch.logit(scores, eps=SMALLEST)

    def margins(self, scores: Tensor) -> Tensor:
        """How far logits would have to move for the labels to change, (N,).

        Args:
            scores: probabilities, (N, K).
        """
        logits = self.logits(scores)
        least = torch.logit(torch.tensor(self.thresholds, dtype=torch.float64))  # none is minus infinity
        # A score has to reach its threshold as a logit, whatever the activation.
        above = torch.logit(scores.double(), eps=SMALLEST) - least
        nearest = above.abs().amin(dim=1)
        best, which = logits.sort(dim=1, descending=True)
        if self.softmax and best.shape[1] > 1:
            nearest = torch.minimum(nearest, best[:, 0] - best[:, 1])
        if self.count is not None and self.count < best.shape[1]:
            # Two labels that change places change something where either of them reaches its threshold.
            short = (-above).gather(1, which)
            behind = best[:, : self.count, None] - best[:, None, self.count :]
            short = torch.minimum(short[:, : self.count, None], short[:, None, self.count :])
            nearest = torch.minimum(nearest, torch.maximum(behind, short).amin(dim=(1, 2)))
        return nearest

    def labels(self, scores: Tensor) -> Tensor:
        """Which labels tiles have by their probabilities, (N, K), but for the limit on their number."""
        reached = scores >= torch.tensor(self.thresholds)
        if self.softmax and not any(self.thresholds):
            return torch.nn.functional.one_hot(scores.argmax(dim=1), scores.shape[1]).bool()
        return reached

    def errors(self, found: Tensor, exact: Tensor) -> Tensor:
        """Mean square of what differences of logits are wrong by, of each tile, (N,).

        Args:
            found: logits, (N, K), as they are activated.
            exact: the same in float32.
        """
        wrong = found.double() - exact.double()
        if not self.softmax:
            return wrong.square().mean(dim=1)
        return 2 * wrong.var(dim=1)  # of two labels; what all have in common changes nothing


@dataclass(frozen=True)
class NearTies:
    """Which tiles are computed again.

    Attributes:
        rule: how scores become labels.
        bound: margin below which labels count as nearly tied, in logits.
        share: of the tiles that it was measured on, those that were nearly tied.
    """

    rule: LabelRule
    bound: float
    share: float

    def key(self) -> list[Any]:
        """What decides which tiles are computed again."""
        return [self.bound, list(self.rule.thresholds), self.rule.count]

    def find(self, scores: Tensor) -> Tensor:
        """Tell tiles that are nearly tied by their scores, (N, K) to (N,)."""
        return self.rule.margins(scores) < self.bound


@torch.inference_mode()
def measure_ties(
    model: Model, rule: LabelRule, rough: Runtime, exact: Runtime, probe: NDArray[np.float32]
) -> NearTies:
    """Measure how far a narrow type moves logits, and how many tiles are nearly tied.

    Args:
        model: a model that labels tiles.
        rule: how scores become labels.
        rough: the network in the narrow type.
        exact: the network in float32.
        probe: some tiles, (N, C, H, W), N above 0.
    """
    images = model.normalise_(torch.from_numpy(widen_probe(probe)).to(model.device))
    found, true = (runtime(images.clone()).cpu() for runtime in (rough, exact))
    usual = float(rule.errors(model.calibrate(found), model.calibrate(true)).mean().sqrt())
    # A narrow type may overflow: then nothing that it says can be told apart.
    factor = FACTORS[model.card.activation or 'softmax']
    bound = float(f'{factor * usual:.{DIGITS - 1}e}') if isfinite(usual) else inf
    ties = NearTies(rule, bound, 0.0)
    return replace(ties, share=float(ties.find(model.activate(found)).double().mean()))


def widen_probe(probe: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probe with mirrored and turned tiles, as many as errors are measured on."""
    return turn_tiles(probe, min(PROBE_TILES, PROBE_PIXELS // (probe.shape[2] * probe.shape[3])))


def turn_tiles(tiles: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Tiles with their mirror images and turns, at most so many: a network rounds each of them otherwise.

    Args:
        tiles: (N, C, H, W).
        most: how many are wanted; all tiles are given where they are more.
    """
    upright = [tiles, tiles[..., ::-1], tiles[..., ::-1, :], tiles[..., ::-1, ::-1]]
    square = tiles.shape[2] == tiles.shape[3]
    turned = [image.swapaxes(2, 3) for image in upright] if square else []
    return np.ascontiguousarray(np.concatenate([*upright, *turned])[: max(most, len(tiles))])


@torch.inference_mode()
def is_near(model: Model, runtime: Runtime, probe: NDArray[np.float32], ties: NearTies | None = None) -> bool:
    """Whether no answer moves by more than `TOLERANCE`, or in float32 by more than `FP32_TOLERANCE`.

    Of pixels, all but `OUTLIERS` have to stay near, and all but `FLIPS` have to keep their label.

    Args:
        model: the model.
        runtime: its network, as it would be run.
        probe: some tiles, (N, C, H, W), in the card's units.
        ties: tells the tiles that would be computed again, which do not count.
    """
    if runtime.precision == 'int8':
        return (
            moved_labels(model, runtime, probe, ties) <= INT8_FLIPS['tiles' if ties is not None else 'pixels']
        )
    images = model.normalise(torch.from_numpy(probe).to(model.device))
    exact = model.activate(model.network(images)).cpu()
    found = model.activate(runtime(images)).cpu()
    if found.shape != exact.shape or not torch.isfinite(found).all():  # beyond what a narrow type holds
        return False
    most = TOLERANCE if runtime.precision != 'fp32' else FP32_TOLERANCE
    if model.card.activation == 'identity':
        most *= float(exact.abs().max())
    far = (exact - found).abs().amax(dim=1) > most
    if model.card.task != 'segmentation':
        return not bool((far if ties is None else far & ~ties.find(found)).any())
    flips = float((exact.argmax(dim=1) != found.argmax(dim=1)).float().mean())
    return float(far.float().mean()) <= OUTLIERS and flips <= FLIPS


@torch.inference_mode()
def moved_labels(model: Model, runtime: Runtime, probe: NDArray[np.float32], ties: NearTies | None) -> float:
    """Share of tiles, or of pixels, whose labels are others than in float32; 1 where answers are not finite.

    Args:
        model: the model.
        runtime: its network, as it would be run.
        probe: some tiles, (N, C, H, W), in the card's units.
        ties: tells the tiles that would be computed again, and their rule; None of pixels.
    """
    images = model.normalise_(torch.from_numpy(widen_probe(probe) if ties else probe.copy()))
    exact, found = model.activate(model.network(images.clone())), model.activate(runtime(images))
    if found.shape != exact.shape or not torch.isfinite(found).all():
        return 1.0
    if ties is None:
        return float((exact.argmax(dim=1) != found.argmax(dim=1)).double().mean())
    other = ties.rule.labels(exact) != ties.rule.labels(found)
    return float((other.any(dim=1) & ~ties.find(found)).double().mean())
