"""The network of a VQA bundle: a tokeniser, a head, and an image encoder of its own or of another bundle.

Questions become numbers by the words of the training questions, or as a pretrained text model does it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from geores import models
from geores.card import ModelCard
from geores.errors import BundleError, UsageError, import_extra
from geores.model import Model
from geores.models.features import FeatureMap
from geores.models.vqa import VQAHead
from geores.weight_files import check_tensors

__all__ = ['Tokenizer', 'VQANetwork', 'build', 'own_encoder', 'rebuild_vqa', 'shared_encoder']

MAX_TOKENS = 64
_PAD, _UNKNOWN = '[PAD]', '[UNK]'


class Tokenizer:
    """Turns questions into padded token ids, with the tokenizer of a pretrained text model or one of words.

    Raises:
        UsageError: if the definition is not one of a tokenizer, or the length is below 1.
    """

    def __init__(self, definition: Mapping[str, Any], max_tokens: int = MAX_TOKENS) -> None:
        import_extra('tokenizers')
        # Here, for reading cards and listing models needs no tokenizer.
        from tokenizers import Tokenizer as Definition

        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
            raise UsageError(f'max_tokens has to be a whole number above 0, not {max_tokens!r}')
        try:
            backend = Definition.from_str(json.dumps(dict(definition)))
        except Exception as error:  # the library raises a bare Exception
            raise UsageError(f'not the definition of a tokenizer: {error}') from error
        if backend.token_to_id(_PAD) != 0:
            raise UsageError(f'a tokenizer needs {_PAD} as its token 0')
        backend.no_truncation()
        backend.no_padding()
        self.definition = dict(definition)
        self.max_tokens = max_tokens
        self._tokenizer = backend

    @classmethod
    def from_questions(cls, questions: Iterable[str], max_tokens: int = MAX_TOKENS) -> Self:
        """Make a tokenizer with one token per word of the training questions.

        Case, repeated spaces and the marks at the end of a question are ignored. Words that did not occur in
        training become the unknown token.
        """
        from tokenizers import Regex, normalizers, pre_tokenizers
        from tokenizers import Tokenizer as Definition
        from tokenizers.models import WordLevel

        end = normalizers.Replace(Regex(r'[\s?.!]+$'), '')
        normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), end])
        splitter = pre_tokenizers.Whitespace()
        words = sorted(
            {
                word
                for question in set(questions)
                for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(question))
            }
        )
        vocabulary = {word: number for number, word in enumerate([_PAD, _UNKNOWN, *words])}
        backend = Definition(WordLevel(vocabulary, unk_token=_UNKNOWN))
        backend.normalizer = normalizer
        backend.pre_tokenizer = splitter
        return cls(json.loads(backend.to_str()), max_tokens)

    @classmethod
    def pretrained(cls, folder: str | Path, max_tokens: int = MAX_TOKENS) -> Self:
        """Load the tokenizer of a pretrained text model.

        Raises:
            UsageError: if the folder has no such file.
        """
        path = Path(folder) / 'tokenizer.json'
        try:
            definition = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f'{path}: cannot be read as a tokenizer: {error}') from error
        return cls(definition, max_tokens)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Make the tokenizer that `to_dict` wrote.

        Raises:
            UsageError: if a field is missing or wrong.
        """
        if not isinstance(fields, Mapping) or fields.keys() != {'definition', 'max_tokens'}:
            raise UsageError('a tokenizer has definition and max_tokens')
        return cls(fields['definition'], fields['max_tokens'])

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as plain JSON values."""
        return {'definition': self.definition, 'max_tokens': self.max_tokens}

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def __call__(self, questions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokenise questions.

        Returns:
            Token ids (Q, T), int64, padded with 0 at the end, and the number of tokens of each (Q,).

        Raises:
            UsageError: if a question is no string, empty, or longer than `max_tokens`.
        """
        check_texts(questions)
        # Checked before tokenising, which would take long for very long texts.
        for question in questions:
            if len(question) > 64 * self.max_tokens:
                raise self._too_long(question)
        ids = [found.ids for found in self._tokenizer.encode_batch(list(questions))]
        for question, numbers in zip(questions, ids, strict=True):
            if not numbers:
                raise UsageError(f'{_shown(question)} holds no word: ask in words')
            if len(numbers) > self.max_tokens:
                raise self._too_long(question)
        lengths = torch.tensor([len(numbers) for numbers in ids], dtype=torch.int64)
        tokens = torch.zeros(len(ids), max(map(len, ids), default=0), dtype=torch.int64)
        for row, numbers in zip(tokens, ids, strict=True):
            row[: len(numbers)] = torch.tensor(numbers)
        return tokens, lengths

    def _too_long(self, question: str) -> UsageError:
        return UsageError(
            f'{_shown(question)} is longer than {self.max_tokens} words: ask a shorter question'
        )


def check_texts(questions: Sequence[str]) -> None:
    """Validate a list of questions.

    Raises:
        UsageError: if they are a single string or no list, or one of them is no string or is empty.
    """
    if isinstance(questions, (str, bytes)):
        raise UsageError('questions have to be a list of texts, and this is one text: put it into a list')
    if not isinstance(questions, (Sequence, np.ndarray)):
        raise UsageError(f'questions have to be a list of texts, not {type(questions).__name__}')
    for question in questions:
        if not isinstance(question, str):
            raise UsageError(f'a question has to be text, not {type(question).__name__}')
        if not question.strip():
            raise UsageError('a question is empty: ask in words')


def _shown(question: str) -> str:
    text = repr(question[:60])
    return text if len(question) <= 60 else f'{text[:-1]}...{text[-1]}'


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
    """Create an encoder that belongs to the network: any architecture with feature maps."""
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
    with models.without_memory():
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
