"""The last stages of a network trained on maps that the stages before them, left as they are, gave once.

Most of the work of a convolutional network lies in its first stages, and what these see (edges, textures,
parts) serves other images too (Yosinski et al. 2014). With their maps computed once and kept, a pass over the
images is several times cheaper, where there is no GPU.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geores.datasets._module import Images
from geores.errors import UsageError
from geores.protocol.features import Answers, Classes, look
from geores.runtime.base import Precision
from geores.splits import Split

__all__ = ['Maps', 'Stages', 'score_last', 'split_network', 'stage_maps', 'train_last', 'tune_last']

Maps = NDArray[np.float16]

EPOCHS = 12
_BATCH = 64
_RATE = 1e-3
_DECAY = 0.05  # of the weights
_SMOOTHING = 0.1  # of the labels
_MIXUP = 0.2
_DROPOUT = 0.2
_AVERAGING = 0.99  # of the weights that are kept
_WARM_UP = 0.1
_MOST_GRADIENT = 5.0


class Stages(NamedTuple):
    """A network in two parts; modules are those of the network itself.

    Attributes:
        trunk: images, (N, C, H, W), to maps, (N, D, h, w).
        tail: maps to pooled features, (N, F).
    """

    trunk: nn.Module
    tail: nn.Module


def split_network(network: nn.Module) -> Stages:
    """Divide a network without head, a ResNet or one of EfficientNet's kind, before its last stages.

    Of EfficientNets these are the last block of the last stage but one and what follows it; of ResNets the
    last stage.

    Args:
        network: a network of `geores.models`, built with `num_classes=0`.

    Raises:
        UsageError: if it is of another kind.
    """
    one: Any = network
    if hasattr(one, 'blocks') and hasattr(one, 'conv_head'):
        *first, last = one.blocks[-2]
        trunk = [one.conv_stem, one.bn1, *one.blocks[:-2], *first]
        return Stages(
            nn.Sequential(*trunk),
            nn.Sequential(last, *one.blocks[-1], one.conv_head, one.bn2, one.global_pool),
        )
    if hasattr(one, 'layer4') and hasattr(one, 'conv1'):
        trunk = [one.conv1, one.bn1, one.act1, one.maxpool, one.layer1, one.layer2, one.layer3]
        return Stages(nn.Sequential(*trunk), nn.Sequential(one.layer4, one.global_pool))
    raise UsageError(
        f"'last' knows the stages of ResNets and EfficientNets, not of {type(network).__name__}: leave it out"
    )


def stage_maps(
    trunk: nn.Module,
    images: Images,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = 'cpu',
    precision: Precision = 'fp32',
) -> Maps:
    """Compute the maps of images.

    Args:
        trunk: first part of a `split_network`.
        images: each (C, H, W), all of one size.
        mean: mean per channel, in the images' units.
        std: standard deviation per channel, in the images' units.
        device: device, as torch names it.
        precision: 'fp32' or 'bf16'.

    Returns:
        (N, D, h, w), float16.
    """
    batches = look(trunk, images, mean, std, device, _BATCH, precision)
    return np.concatenate([batch.astype(np.float16) for batch in batches])


def tune_last(
    tail: nn.Module,
    maps: Maps,
    split: Split,
    classes: Classes,
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: str = 'cpu',
) -> Answers:
    """Train the last stages and a new head on a training part, and classify the rest.

    Args:
        tail: second part of a `split_network`; it is not changed.
        maps: of all images.
        split: training part, and the test part as `val`.
        classes: of the training part, (N,).
        epochs: passes over the training part; None takes `EPOCHS`.
        seed: of the order and the augmentations.
        device: 'cpu', 'cuda' or 'cuda:N'.

    Returns:
        Classes of the test part in its order, and the number of epochs.
    """
    epochs = epochs or EPOCHS
    known = np.unique(classes)
    trained = train_last(
        tail, maps, split.train, np.searchsorted(known, classes), epochs=epochs, seed=seed, device=device
    )
    scores = score_last(trained, maps, split.val, device)
    return Answers(known[scores.argmax(1)], f'{epochs} epochs')


def train_last(
    tail: nn.Module,
    maps: Maps,
    rows: Sequence[int],
    classes: Classes,
    *,
    epochs: int,
    seed: int = 0,
    device: str = 'cpu',
) -> nn.Sequential:
    """Train the last stages with a new head.

    Maps are flipped and turned, as their images might have been, and mixed in pairs (mixup, Zhang et al.
    2018); labels are smoothed; batch norms keep their statistics; what is kept is the moving average of
    the weights.

    Args:
        tail: second part of a `split_network`; it is not changed.
        maps: of all images.
        rows: places of the training images among them.
        classes: of the training images, 0 to K - 1.
        epochs: passes over the training images.
        seed: of the order and the augmentations.
        device: 'cpu', 'cuda' or 'cuda:N'.

    Returns:
        Stages, dropout and head, which give logits (N, K), in evaluation mode.
    """
    places, target = np.asarray(rows), torch.from_numpy(np.asarray(classes)).to(device)
    count = int(target.max()) + 1
    batch = min(_BATCH, len(places))
    steps = epochs * (len(places) // batch)
    draw = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[] if device == 'cpu' else [torch.device(device).index or 0]):
        torch.manual_seed(seed)
        network = _with_head(tail, torch.from_numpy(maps[places[:2]]).float(), count).to(device)
        kept = deepcopy(network).eval()
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        rates = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _RATE, total_steps=steps + 1, pct_start=_WARM_UP, cycle_momentum=False
        )
        for step, chosen in enumerate(_batches(len(places), batch, epochs, draw)):
            seen = torch.from_numpy(maps[places[chosen]]).to(device).float()
            wanted = functional.one_hot(target[chosen], count).float()
            seen, wanted = _mixed(_turned(seen, draw), wanted, draw)
            logits = network(seen.contiguous(memory_format=torch.channels_last))
            loss = functional.cross_entropy(logits, wanted, label_smoothing=_SMOOTHING)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), _MOST_GRADIENT)
            optimizer.step()
            rates.step()
            _average(kept, network, min(_AVERAGING, (1 + step) / (10 + step)))
    return kept


@torch.inference_mode()
def score_last(
    network: nn.Module, maps: Maps, rows: Sequence[int], device: str = 'cpu'
) -> NDArray[np.float32]:
    """Logits of images by trained stages.

    Args:
        network: of `train_last`.
        maps: of all images.
        rows: places of the images among them.
        device: where the network is.

    Returns:
        (M, K).
    """
    places = np.asarray(rows)
    found = [
        network(torch.from_numpy(maps[places[start : start + _BATCH]]).to(device).float()).cpu()
        for start in range(0, len(places), _BATCH)
    ]
    return np.asarray(torch.cat(found).numpy())


def _with_head(tail: nn.Module, maps: Tensor, classes: int) -> nn.Sequential:
    """A copy of the stages with dropout and a head, ready to train: batch norms keep their statistics."""
    copied = deepcopy(tail).eval()
    with torch.no_grad():
        head = nn.Linear(copied(maps).shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    network = nn.Sequential(copied, nn.Dropout(_DROPOUT), head).to(memory_format=torch.channels_last)
    network[1].train()
    return network


def _batches(images: int, size: int, epochs: int, draw: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Places of the images of each step; the few that fill no batch are left out of an epoch."""
    for _ in range(epochs):
        order = draw.permutation(images)
        for start in range(0, images - size + 1, size):
            yield order[start : start + size]


def _turned(maps: Tensor, draw: np.random.Generator) -> Tensor:
    """A batch of maps, flipped or turned."""
    for axis in (2, 3):
        if draw.random() < 0.5:
            maps = maps.flip(axis)
    return maps.transpose(2, 3) if draw.random() < 0.5 else maps


def _mixed(maps: Tensor, wanted: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Maps and labels of a batch, each mixed with those of another image; the larger part is its own."""
    part = torch.from_numpy(draw.beta(_MIXUP, _MIXUP, len(maps))).to(maps)
    part = torch.maximum(part, 1 - part)
    other = torch.from_numpy(draw.permutation(len(maps))).to(maps.device)
    share, weight = part.view(-1, 1, 1, 1), part.view(-1, 1)
    return share * maps + (1 - share) * maps[other], weight * wanted + (1 - weight) * wanted[other]


@torch.no_grad()
def _average(kept: nn.Module, network: nn.Module, decay: float) -> None:
    for old, new in zip(kept.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
