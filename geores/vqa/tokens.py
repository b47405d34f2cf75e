"""Tokenise questions: by the words of the training questions, or as a pretrained text model does."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from geores.errors import UsageError
from geores.extras import import_extra

__all__ = ['Tokenizer']

MAX_TOKENS = 64
_PAD, _UNKNOWN = '[PAD]', '[UNK]'


class Tokenizer:
    """Turns questions into padded token ids, with a fast tokenizer of transformers.

    Args:
        definition: the tokenizer as the `tokenizers` library writes it in JSON.
        max_tokens: maximum number of tokens of a question.

    Raises:
        UsageError: if the definition is not one of a tokenizer, or the length is below 1.
    """

    def __init__(self, definition: Mapping[str, Any], max_tokens: int = MAX_TOKENS) -> None:
        import_extra('transformers')
        # Here, for reading cards and listing models needs no tokenizer.
        from tokenizers import Tokenizer as Definition
        from transformers import PreTrainedTokenizerFast

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
        self._tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token=_PAD, unk_token=_UNKNOWN, clean_up_tokenization_spaces=False
        )

    @classmethod
    def from_questions(cls, questions: Iterable[str], max_tokens: int = MAX_TOKENS) -> Self:
        """Make a tokenizer with one token per word of the training questions.

        Case, repeated spaces and the marks at the end of a question are ignored. Words that did not occur in
        training become the unknown token.

        Args:
            questions: questions of the training part only.
            max_tokens: maximum number of tokens of a question.
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

        Args:
            folder: folder with the `tokenizer.json`.
            max_tokens: maximum number of tokens of a question.

        Raises:
            UsageError: if the folder has no such file.
        """
        path = Path(folder) / 'tokenizer.json'
        try:
            definition = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
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
        return len(self._tokenizer)

    def __call__(self, questions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokenise questions.

        Args:
            questions: texts of Q questions.

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
        ids = self._tokenizer(list(questions))['input_ids'] if questions else []
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

    Args:
        questions: texts of the questions.

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
