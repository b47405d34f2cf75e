"""Networks rebuilt from their cards and weights."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from geores import models
from geores.card import ModelCard
from geores.errors import BundleError, GeoresError
from geores.model import Model
from geores.models.lite import LITE0, LiteNetwork
from geores.vqa.network import rebuild_vqa
from geores.weight_files import check_tensors

__all__ = ['rebuild', 'try_forward']


def rebuild(
    card: ModelCard,
    tensors: Mapping[str, Tensor],
    find: Callable[[str, str], Model] | None = None,
    *,
    tried: bool = False,
) -> nn.Module:
    """Build the network of a card with its weights.

    Args:
        card: the model's card.
        tensors: its weights by name, all of them and no other.
        find: gives the bundle of a name and hash, whose encoder the model shares; only VQA models do.
        tried: whether the network is known to take what its card says and to be finite, as those that ship
            are. It is built for inference where that is quicker.

    Raises:
        UsageError: if they do not fit each other.
    """
    if card.task == 'vqa':
        return rebuild_vqa(card, tensors, find)
    # On the meta device first, where a card that asks for a huge network takes no memory.
    build = LiteNetwork if tried and card.architecture == LITE0 else partial(models.create, card.architecture)
    with models.without_memory():
        shell = build(**card.architecture_kwargs).eval()
    check_tensors(shell.state_dict(), tensors, finite=not tried)
    if not tried:
        try_forward(shell, card)
    if not _is_all_in(shell, tensors):
        shell = build(**card.architecture_kwargs)
    # Where all is in the file, random weights need not be drawn first only to be written over.
    shell.load_state_dict(tensors, assign=True)
    return shell.float().eval()


def _is_all_in(shell: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a network on the meta device holds no tensor that is not among its weights."""
    names = {name for name, _ in (*shell.named_buffers(), *shell.named_parameters())}
    kept = (value for module in shell.modules() for value in vars(module).values())
    loose = (one for value in kept for one in (value if isinstance(value, list | tuple) else [value]))
    return names <= tensors.keys() and not any(isinstance(one, Tensor) for one in loose)


def try_forward(shell: nn.Module, card: ModelCard, device: str = 'meta') -> None:
    """Check that a network takes what its card says, and answers in its labels.

    Args:
        shell: the network.
        card: the model's card.
        device: device on which to try one image: on the meta device nothing is computed.

    Raises:
        BundleError: if it does not.
    """
    size = (1, len(card.bands), card.input_size, card.input_size)
    try:
        logits = shell(torch.zeros(size, device=device))
    except (RuntimeError, ValueError, GeoresError) as error:
        raise BundleError(f'the network does not take input of shape {size}: {error}') from error
    pixels = size[2:] if card.task == 'segmentation' else ()
    if logits.shape != (1, len(card.labels), *pixels):
        raise BundleError(
            f"the network answers with shape {tuple(logits.shape)}, and the card's labels are "
            f'{len(card.labels)}{" for every pixel" if pixels else ""}'
        )
