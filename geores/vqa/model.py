"""A loaded VQA bundle, and the cache of feature maps: images are encoded once for all questions."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from geores.card import ModelCard
from geores.card_values import Units
from geores.errors import OutputError, UsageError
from geores.io.whole_files import check_writable, whole_folder
from geores.model import Model
from geores.vqa.answers import UNKNOWN, AnswerEncoding
from geores.vqa.comparison import answer_kind, fitting, forms_of, kind_of
from geores.vqa.network import Tokenizer, VQANetwork, check_texts

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = ['TURNS', 'Answer', 'FeatureCache', 'VQAModel', 'feature_key', 'turned']

TURNS = 8
"""Number of orientations: 0 to 3 quarter turns to the left, with and without mirroring first."""

_FILE = 'features.npy'
_FORMAT = 1

_VIEWS = 32
"""Images, each turn counted, that are encoded together."""


def turned(images: Tensor, turn: int) -> Tensor:
    """Mirror and turn images.

    Args:
        images: images, (..., H, W).
        turn: orientation 0 to 7: the number of quarter turns to the left, from 4 on after mirroring the
            image left to right.
    """
    return torch.rot90(images.flip(-1) if turn >= 4 else images, turn % 4, (-2, -1))


def feature_key(
    encoder: nn.Module, mean: Tensor, std: Tensor, images: Sequence[str], turns: int, device: str = 'cpu'
) -> str:
    """Key of a cache, a hash of everything that decides the features.

    Args:
        encoder: the encoder; its structure and weights are hashed.
        mean: mean of the normalisation.
        std: standard deviation of the normalisation.
        images: identity of each image, which has to differ when its content changes.
        turns: number of orientations that are encoded per image.
        device: kind of device that encodes, whose last digits are its own.
    """
    where = '' if device == 'cpu' else f'{device} fp32 '
    digest = hashlib.sha256(f'{_FORMAT} {where}{turns} {encoder!r} {vars_of(encoder)}'.encode())
    for name, tensor in [*encoder.state_dict().items(), ('mean', mean), ('std', std)]:
        values = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {values.dtype} {tuple(values.shape)}'.encode())
        digest.update(values.numpy().tobytes())
    digest.update(json.dumps(list(images)).encode())
    return digest.hexdigest()[:32]


def vars_of(encoder: nn.Module) -> dict[str, Any]:
    """Settings of a `FeatureMap` that its printed form does not show."""
    names = ('places', 'in_chans', 'grid', 'scale', 'looks')
    return {name: getattr(encoder, name, None) for name in names}


class FeatureCache:
    """Features of numbered images in all orientations, as float16 in one file.

    Args:
        folder: folder of all caches, each in a folder named after its key.
        key: key of the cache, from `feature_key`.

    Attributes:
        path: path of the file, which is complete or does not exist.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self.path = Path(folder) / key / _FILE
        self._array: NDArray[np.float16] | None = None

    def fill(
        self,
        encode: Callable[[Tensor], Tensor],
        image: Callable[[int], Tensor],
        count: int,
        turns: int = 1,
        watch: Callable[[int], None] = lambda number: None,
    ) -> bool:
        """Encode all images, unless the file exists already.

        Args:
            encode: maps images (N, C, H, W) to features (N, D, h, w).
            image: returns the image with a number, (C, H, W).
            count: number of images.
            turns: 1, or 8 for all orientations of each image.
            watch: called with the number of images done so far.

        Returns:
            Whether anything was encoded.

        Raises:
            UsageError: if features are not finite as float16.
            OutputError: if the file cannot be written there, or would not fit.
            WriteError: if writing failed.
        """
        if self.path.is_file():
            return False
        check_writable(self.path.parent, self.path.parent.parent)
        with whole_folder(self.path.parent, keep=True) as part:  # another run may finish first, with the same
            self._write(part, encode, image, count, turns, watch)
        return True

    def _write(
        self,
        part: Path,
        encode: Callable[[Tensor], Tensor],
        image: Callable[[int], Tensor],
        count: int,
        turns: int,
        watch: Callable[[int], None],
    ) -> None:
        array = None
        together = max(1, _VIEWS // turns)
        for first in range(0, count, together):
            numbers = range(first, min(first + together, count))
            views = [turned(one, turn) for one in map(image, numbers) for turn in range(turns)]
            features = encode(torch.stack(views)).cpu().to(torch.float16)
            wrong = ~torch.isfinite(features).flatten(1).all(1)
            if wrong.any():
                number = first + int(wrong.long().argmax()) // turns
                raise UsageError(f'features of image {number} are not finite as float16: do without a cache')
            if array is None:
                shape = (turns, count, *features.shape[1:])
                _check_space(part, 2 * int(np.prod(shape)))
                array = open_memmap(part / _FILE, 'w+', np.float16, shape)
            array[:, numbers.start : numbers.stop] = features.unflatten(0, (-1, turns)).swapaxes(0, 1).numpy()
            watch(numbers.stop)
        if array is not None:
            array.flush()

    def __call__(self, numbers: Tensor, turns: Tensor | None = None) -> Tensor:
        """Features of some images.

        Args:
            numbers: numbers of the images, (N,).
            turns: orientation of each image, (N,), 0 to 7; None turns none.

        Returns:
            Features (N, D, h, w), float32.
        """
        if self._array is None:
            self._array = np.load(self.path, mmap_mode='r')
        which = np.zeros(len(numbers), np.int64) if turns is None else turns.cpu().numpy()
        return torch.from_numpy(self._array[which, numbers.cpu().numpy()].astype(np.float32))


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f'{folder.parent}: features take {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: '
            'set a smaller grid, or another cache'
        )


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
