"""A loaded VQA bundle: it encodes images once and answers any number of questions about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from geores.card import ModelCard
from geores.card_values import Units
from geores.errors import UsageError
from geores.model import Model
from geores.vqa.answers import UNKNOWN, AnswerEncoding
from geores.vqa.comparison import answer_kind, fitting, forms_of, kind_of
from geores.vqa.network import Tokenizer, VQANetwork, check_texts

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = ['Answer', 'VQAModel']

MAP_AXES = 4
"""Number of axes of feature maps: images, channels, rows, columns."""

PAIRS = 2048
"""Maximum number of pairs of image and question in a batch of the head."""


@dataclass(frozen=True)
class Answer:
    """The answer of a model to one question about one image.

    Attributes:
        text: the most probable answer, in the card's encoding, such as 'between 0 and 10'.
        probability: calibrated probability of the answer.
        question_type: type of the parsed question, such as 'presence' or 'count'; if it does not parse, the
            type that the answer belongs to.
        probabilities: probability of every answer that the model knows; they sum to 1.
    """

    text: str
    probability: float
    question_type: str
    probabilities: dict[str, float] = field(repr=False)


class VQAModel(Model):
    """A network that answers questions about images.

    Args:
        card: card of task 'vqa'.
        network: the network with its weights and its encoder.
        device: device to move the network to.

    Raises:
        UsageError: if the device does not exist, or the tokenizer of the card is invalid.

    Attributes:
        tokenizer: turns questions into tokens.
        encoding: encoding of the answers.
    """

    network: VQANetwork

    def __init__(self, card: ModelCard, network: VQANetwork, device: str | torch.device = 'cpu') -> None:
        if card.task != 'vqa' or card.tokenizer is None or card.answer_encoding is None:
            raise UsageError(f'{card.name}: not the card of a VQA model')
        self.tokenizer = Tokenizer.from_dict(card.tokenizer)
        self.encoding = AnswerEncoding.from_dict(dict(card.answer_encoding))
        super().__init__(card, network, device)

    def __repr__(self) -> str:
        return f'VQA{super().__repr__()}'

    def to(self, device: str | torch.device) -> Self:
        """Move to a device with the bundle whose encoder it shares: see `Model.to`."""
        super().to(device)
        if self.network.shared is not None:
            self.network.shared.to(device)
        return self

    def predict(self, images: ArrayLike | Tensor, batch_size: int = 64) -> NoReturn:
        """Refused: without a question there is no answer.

        Raises:
            UsageError: always.
        """
        raise UsageError(f'{self.name} answers questions: use answer(image, questions)')

    @torch.inference_mode()
    def encode(self, images: ArrayLike | Tensor, batch_size: int = 16) -> Tensor:
        """Encode images, which is most of the work, once for all questions.

        Args:
            images: images (N, C, H, W) in the units, band order and input size of the card.
            batch_size: number of images per batch.

        Returns:
            Features (N, D, h, w), float32, on the device of the model.

        Raises:
            UsageError: if the images do not fit the card, or the batch size is below 1.
        """
        if batch_size < 1:
            raise UsageError(f'batch_size has to be 1 or more, not {batch_size}')
        tensor = self._check(images)
        if self.card.units == Units.EIGHT_BIT and tensor.numel() and (tensor.min() < 0 or tensor.max() > 255):
            raise UsageError(
                f'images hold values of {tensor.min():g} to {tensor.max():g}, and model {self.name!r} takes '
                '8-bit ones, 0 to 255: stretch them'
            )
        if not len(tensor):
            return self._encode(torch.zeros(1, *tensor.shape[1:]))[:0]
        return torch.cat([self._encode(batch) for batch in torch.split(tensor, batch_size)])

    def _encode(self, images: Tensor) -> Tensor:
        return self.network.encode(self.normalise(images.to(self.device)))

    @torch.inference_mode()
    def probabilities(self, features: Tensor, questions: Sequence[str]) -> Tensor:
        """Probabilities of all answers to every question about every image.

        Args:
            features: features (N, D, h, w) from `encode`.
            questions: texts of Q questions.

        Returns:
            Probabilities (N, Q, K), float32, in the order of the card's labels. If a question parses,
            answers of other types have probability 0; the class of unknown answers always has.

        Raises:
            UsageError: if a question is empty, too long or no string, or the features are not from this
            model.
        """
        check_texts(questions)
        if not isinstance(features, Tensor) or features.ndim != MAP_AXES:
            shape = tuple(getattr(features, 'shape', ()))
            raise UsageError(f'features have to be a tensor (N, D, h, w) of encode, not of shape {shape}')
        count, labels = len(features), len(self.card.labels)
        if not count or not questions:
            return torch.zeros(count, len(questions), labels)
        head = self.network.head
        tokens, lengths = self.tokenizer(questions)
        try:
            seen = head.look(features.to(self.device, torch.float32))
        except RuntimeError as error:
            reason = str(error).split('\n')[0]
            raise UsageError(f'features are not of {self.name!r}: {reason}') from error
        forms = forms_of(questions)
        text = head.read(tokens.to(self.device), lengths, forms if head.takes_forms else None)
        rows = torch.arange(count * len(questions))
        logits = torch.cat(
            [
                head.decide(seen[part // len(questions)], text[part % len(questions)])
                for part in rows.to(self.device).split(PAIRS)
            ]
        )
        allowed = fitting(self.card.labels, forms).to(self.device)
        logits = logits.view(count, len(questions), labels).masked_fill(~allowed, -torch.inf)
        return self.activate(logits.flatten(0, 1)).view_as(logits).cpu()

    def answer_features(self, features: Tensor, questions: Sequence[str]) -> list[list[Answer]]:
        """Answer every question about every encoded image.

        Args:
            features: features (N, D, h, w) from `encode`.
            questions: texts of the questions.

        Returns:
            One list per image with one answer per question.

        Raises:
            UsageError: as for `probabilities`, and if the model has no answers of a question's type.
        """
        check_texts(questions)
        forms = forms_of(questions)
        self._check_kinds(questions, forms)
        scores = self.probabilities(features, questions).numpy()
        return [[self._answer(row, form) for row, form in zip(image, forms, strict=True)] for image in scores]

    def answer(self, image: ArrayLike | Tensor, questions: Sequence[str]) -> list[Answer]:
        """Answer questions about one image.

        Args:
            image: image (C, H, W) in the units of the card, such as 8-bit RGB, at its input size.
            questions: texts of the questions.

        Returns:
            One answer per question.

        Raises:
            UsageError: if the image does not fit the card, or a question is empty, too long, no string, or of
                a type that the model has no answers to.
        """
        array: Any = image if isinstance(image, Tensor) else np.asarray(image)
        if array.ndim != 3:
            size = self.card.input_size
            raise UsageError(
                f'an image has shape {tuple(array.shape)}, and model {self.name!r} wants '
                f'({len(self.card.bands)}, {size}, {size})'
            )
        check_texts(questions)
        self.tokenizer(questions)  # raises before the expensive encoding
        self._check_kinds(questions, forms_of(questions))
        return self.answer_features(self.encode(array[None]), questions)[0]

    def _check_kinds(self, questions: Sequence[str], forms: 'Sequence[Form | None]') -> None:
        """Raise if the model could only give an answer of another type, such as "no" to "how many"."""
        known = {kind_of(label) for label in self.card.labels if label != UNKNOWN}
        for question, form in zip(questions, forms, strict=True):
            if form is not None and answer_kind(form) not in known:
                raise UsageError(
                    f'{self.name} has no answer to {question!r}, which is of the kind {form.type}, but to '
                    f'{", ".join(sorted(known))}'
                )

    def _answer(self, scores: Any, form: 'Form | None') -> Answer:  # noqa: ANN401 - a row of an array
        best = int(scores.argmax())
        text = self.card.labels[best]
        known = {
            label: float(score)
            for label, score in zip(self.card.labels, scores, strict=True)
            if label != UNKNOWN
        }
        kind = form.type if form is not None else kind_of(text)
        return Answer(text, float(scores[best]), kind, known)
