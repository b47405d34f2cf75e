"""The network of a VQA bundle: a head, and an image encoder that is its own or part of another bundle."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from geores import models
from geores.card import ModelCard
from geores.errors import BundleError, UsageError
from geores.model import Model
from geores.models.features import FeatureMap
from geores.models.vqa import VQAHead
from geores.vqa.tokens import Tokenizer
from geores.weight_files import check_tensors

__all__ = ['VQANetwork', 'build', 'own_encoder', 'rebuild_vqa', 'shared_encoder']


class VQANetwork(nn.Module):
    """Encoder and head; a shared encoder belongs to its own bundle and is neither trained nor saved here.

    Args:
        encoder: makes feature maps of images.
        head: answers questions from feature maps.
        shared: the bundle that the encoder is part of; None if the encoder belongs to this network.
    """

    def __init__(self, encoder: FeatureMap | None, head: VQAHead, shared: Model | None = None) -> None:
        super().__init__()
        self.head = head
        self.shared = shared
        # A plain list hides the shared encoder from `state_dict` and `parameters`.
        self._hidden = [encoder] if encoder is not None and shared is not None else []
        self.own = encoder if shared is None else None

    @property
    def encoder(self) -> FeatureMap:
        """The encoder, shared or own."""
        encoder = self.own if self.own is not None else self._hidden[0]
        assert isinstance(encoder, FeatureMap)  # noqa: S101 - for the type alone
        return encoder

    def encode(self, images: Tensor) -> Tensor:
        """Encode images.

        Args:
            images: normalised images, (N, C, H, W).

        Returns:
            Feature maps (N, D, h, w).
        """
        features: Tensor = self.encoder(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Refused: without a question there is no answer.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            'a VQA model answers questions and gives no labels: use ask, or choose another model'
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for module in self._hidden:
            module._apply(fn, recurse)  # type: ignore[no-untyped-call]
        applied: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return applied


def shared_encoder(
    model: Model,
    places: Mapping[str, str],
    bands: tuple[str, ...],
    grid: int | None,
    scale: float = 1.0,
    looks: bool = False,
) -> FeatureMap:
    """Adapt the encoder of another bundle to images with other bands.

    Args:
        model: the other bundle.
        places: band of the bundle by band of the image that replaces it. The image's bands are normalised by
            their own mean and standard deviation and used as if normalised by those of the bundle, which is
            an affine map of their values. The other bands of the bundle stay at their mean.
        bands: bands of the images.
        grid: rows and columns to which feature maps are averaged.
        scale: factor by which images are resized first.
        looks: whether to append channels of colour and texture.

    Raises:
        UsageError: if a band is missing on either side.
    """
    for band in bands:
        if places.get(band) not in model.card.bands:
            raise UsageError(
                f"the encoder's bands do not say where {band!r} goes: name one of "
                f'{", ".join(model.card.bands)}'
            )
    order = [model.card.bands.index(places[band]) for band in bands]
    if len(set(order)) != len(order):
        raise UsageError("two bands go to the same of the encoder's")
    encoder = FeatureMap(model.network, order, len(model.card.bands), grid, scale, looks)
    return encoder.eval().requires_grad_(requires_grad=False)


def own_encoder(
    architecture: str, kwargs: Mapping[str, Any], bands: tuple[str, ...], grid: int | None
) -> FeatureMap:
    """Create an encoder that belongs to the network: any architecture with feature maps.

    Args:
        architecture: name in `geores.models`.
        kwargs: arguments of the architecture, without bands and labels.
        bands: bands of the images.
        grid: rows and columns to which feature maps are averaged.
    """
    network = models.create(architecture, **{**kwargs, 'in_chans': len(bands), 'num_classes': 0})
    return FeatureMap(network, range(len(bands)), len(bands), grid)


def build(card: ModelCard, find: Callable[[str, str], Model] | None) -> VQANetwork:
    """Build the network of a card with initial weights; only a shared encoder has its trained ones.

    Args:
        card: card of a VQA bundle.
        find: finds the bundle of a shared encoder by name and hash; None leaves a shared encoder out.

    Raises:
        UsageError: if the card does not build a network.
    """
    head = models.create(card.architecture, **card.architecture_kwargs)
    if not isinstance(head, VQAHead):
        raise UsageError(f'architecture {card.architecture!r} is no head of visual question answering')
    spec = dict(card.encoder or {})
    if 'architecture' in spec:
        own = own_encoder(spec['architecture'], spec['architecture_kwargs'], card.bands, spec['grid'])
        return VQANetwork(own, head)
    if find is None:
        return VQANetwork(None, head)
    model = find(spec['name'], spec['sha256'])
    taken = (spec['bands'], card.bands, spec['grid'], spec.get('scale', 1.0), spec.get('looks', False))
    return VQANetwork(shared_encoder(model, *taken), head, model)


def rebuild_vqa(
    card: ModelCard, tensors: Mapping[str, Tensor], find: Callable[[str, str], Model] | None
) -> VQANetwork:
    """Build the network of a card with its weights.

    Args:
        card: card of a VQA bundle.
        tensors: weights of the head, and of the encoder if it is not shared.
        find: finds the bundle of a shared encoder by name and hash.

    Raises:
        UsageError: if card and weights do not fit each other.
    """
    with torch.device('meta'):
        shell = build(card, None)
    check_tensors(shell.state_dict(), tensors)
    if shell.own is None and find is None:
        raise BundleError('its encoder is another bundle, which is not here')
    network = build(card, find)
    network.load_state_dict(dict(tensors))
    check(network.float(), card, len(Tokenizer.from_dict(card.tokenizer or {})))
    return network


@torch.no_grad()
def check(network: VQANetwork, card: ModelCard, vocabulary: int) -> None:
    """Check by a forward pass that a network fits its card.

    Args:
        network: the network with its encoder.
        card: card of the network.
        vocabulary: number of tokens of the card's tokenizer.

    Raises:
        BundleError: if the network does not fit.
    """
    network.eval()
    try:
        channels, grid = network.encoder.shape(len(card.bands), card.input_size)
        tokens = torch.tensor([[vocabulary - 1, 0]])
        maps = torch.zeros(1, channels, grid, grid)
        forms = [None] if network.head.takes_forms else None
        logits = network.head(maps, tokens, torch.tensor([1]), forms=forms)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = ' '.join(str(error).split())
        raise BundleError(f'the head does not fit encoder and tokenizer: {reason}') from error
    if logits.shape != (1, len(card.labels)):
        raise BundleError(
            f'the head answers with shape {tuple(logits.shape)}, and the labels are {len(card.labels)}'
        )
