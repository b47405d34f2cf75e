"""Encoders of questions: recurrent ones, trained from scratch, and pretrained ones of transformers."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from geores.errors import UsageError, import_extra

__all__ = ['RecurrentText', 'TextEncoder', 'TransformerText', 'make_text_encoder']

Pooling = Literal['last', 'mean', 'attention']


class TextEncoder(nn.Module):
    """Turns tokens into one vector per question.

    Attributes:
        out_features: length of the vector.
    """

    out_features: int

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Encode questions.

        Args:
            tokens: (Q, T), int64, padded at the end.
            lengths: (Q,), int64: how many tokens of each count; 1 or more.

        Returns:
            (Q, out_features).
        """
        raise NotImplementedError


class RecurrentText(TextEncoder):
    """Word embeddings and a recurrent network.

    Args:
        vocabulary: number of different tokens.
        width: length of the vector; of two directions each has half.
        embedding: length of a word's vector.
        cell: 'gru' (Cho et al. 2014) or 'lstm' (Hochreiter and Schmidhuber 1997).
        layers: recurrent layers.
        bidirectional: read backwards too.
        pooling: 'last' takes the last state of each direction, 'mean' the mean of all states, and
            'attention' their mean weighted by a learned score (Yang et al. 2016, section 2.2).
        dropout: share of word vectors' values that training drops.

    Raises:
        UsageError: if an argument is none of its values.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int = 256,
        embedding: int = 128,
        cell: Literal['gru', 'lstm'] = 'gru',
        layers: int = 1,
        bidirectional: bool = False,
        pooling: Pooling = 'last',
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kinds: dict[str, type[nn.GRU] | type[nn.LSTM]] = {'gru': nn.GRU, 'lstm': nn.LSTM}
        if cell not in kinds or pooling not in {'last', 'mean', 'attention'}:
            raise UsageError(
                f"no cell {cell!r} ('gru', 'lstm') or pooling {pooling!r} ('last', 'mean', 'attention')"
            )
        directions = 2 if bidirectional else 1
        if width % directions:
            raise UsageError(f'width has to be even for two directions, not {width}')
        self.out_features = width
        self.pooling = pooling
        self.directions = directions
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = kinds[cell](
            embedding, width // directions, layers, batch_first=True, bidirectional=bidirectional
        )
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False))
        if pooling != 'attention':
            self.score = nn.Sequential()

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Encode questions; see `TextEncoder.forward`."""
        words = self.dropout(self.embedding(tokens))
        packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, state = self.recurrent(packed)
        if self.pooling == 'last':
            last: Tensor = state[0] if isinstance(state, tuple) else state
            return last[-self.directions :].transpose(0, 1).flatten(1)
        states, _ = pad_packed_sequence(out, batch_first=True)
        outside = beyond(lengths.to(states.device), states.shape[1])
        if self.pooling == 'mean':
            weights = (~outside).to(states.dtype)
            mean: Tensor = (states * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
            return mean
        scores: Tensor = self.score(states)[..., 0].masked_fill(outside, float('-inf'))
        pooled: Tensor = (scores.softmax(1)[..., None] * states).sum(1)
        return pooled


class TransformerText(TextEncoder):
    """A text model of transformers: the mean of its last hidden states (Reimers and Gurevych 2019).

    Args:
        vocabulary: number of different tokens, the model's own.
        config: the model's configuration, `model_type` among it, as its `config.json` says it.
        start: folder with pretrained weights (`AutoModel.from_pretrained`); None leaves fresh ones, which
            a bundle's fill. Never part of a card.
        frozen: train none of its weights.

    Raises:
        UsageError: if the configuration or the folder is none of transformers', or the vocabulary differs.
    """

    def __init__(
        self,
        vocabulary: int,
        config: Mapping[str, Any] | None = None,
        start: str | None = None,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        import_extra('transformers')
        from transformers import AutoConfig, AutoModel

        if start is not None:
            self.model = AutoModel.from_pretrained(start, local_files_only=True, use_safetensors=None)
        else:
            kwargs = dict(config or {})
            kind = kwargs.pop('model_type', None)
            if kind is None:
                raise UsageError("a transformer's config needs its model_type")
            self.model = AutoModel.from_config(AutoConfig.for_model(kind, **kwargs))
        if self.model.config.vocab_size < vocabulary:
            raise UsageError(f'the text model knows {self.model.config.vocab_size} tokens, not {vocabulary}')
        self.frozen = frozen
        self.model.requires_grad_(not frozen)
        self.out_features = int(self.model.config.hidden_size)

    @property
    def config(self) -> dict[str, Any]:
        """Configuration that rebuilds the model without its weights, as plain JSON values."""
        return cast(dict[str, Any], self.model.config.to_diff_dict()) | {
            'model_type': self.model.config.model_type
        }

    def train(self, mode: bool = True) -> 'TransformerText':
        """Training mode, in which a frozen model keeps to evaluation."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Encode questions; see `TextEncoder.forward`."""
        mask = (~beyond(lengths.to(tokens.device), tokens.shape[1])).long()
        states: Tensor = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)


_ENCODERS: dict[str, Callable[..., TextEncoder]] = {
    'recurrent': RecurrentText,
    'transformer': TransformerText,
}


def make_text_encoder(name: str, vocabulary: int, **kwargs: Any) -> TextEncoder:  # noqa: ANN401
    """Build an encoder of questions.

    Args:
        name: 'recurrent' or 'transformer'.
        vocabulary: number of different tokens.
        **kwargs: arguments of `RecurrentText` or `TransformerText`.

    Raises:
        UsageError: if the name is unknown, or an argument does not fit.
    """
    if name not in _ENCODERS:
        raise UsageError(f'no text encoder is named {name!r}: take one of {", ".join(_ENCODERS)}')
    return _ENCODERS[name](vocabulary, **kwargs)


def beyond(lengths: Tensor, width: int) -> Tensor:
    """Tell which places are padding.

    Args:
        lengths: (Q,).
        width: t.

    Returns:
        (Q, T) of bool.
    """
    return torch.arange(width, device=lengths.device)[None] >= lengths[:, None]
