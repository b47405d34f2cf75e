"""Answers of a validation, and what they are worth beside those that need no image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from geores.vqa.answers import UNKNOWN
from geores.vqa.comparison import MAJORITY, MODEL, QUESTION_ONLY, Comparison, Majority, compare

__all__ = ['Predictions']


class Predictions:
    """Answers to all questions of a validation, by the model, by its question-only twin and by majority.

    Args:
        labels: Answers in the order of logits.

    Attributes:
        answers: True ones, encoded; one that training never gave is among them, and nobody's.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._majority: Majority | None = None
        self._raw: dict[str, str] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all answers."""
        self.answers: list[str] = []
        self._types: list[str] = []
        self._questions: list[str] = []
        self._ids: list[str] = []
        self._images: set[str] = set()
        self._logits: dict[str, list[Tensor]] = {QUESTION_ONLY: [], MODEL: []}

    def learn(self, data: Any) -> None:  # noqa: ANN401 - a datamodule
        """Take the most frequent answers of the training part, and the raw answers of all, once.

        Args:
            data: `RSVQADataModule`.
        """
        if self._majority is not None:
            return
        dataset, chosen = data.dataset, data.questions(data.split.train)
        texts, types = (
            [kinds[index] for index in chosen] for kinds in (dataset.questions, dataset.question_types)
        )
        answers = [dataset.answers[index] for index in chosen]
        self._majority = Majority.of([one.text for one in texts], types, answers)
        self._raw = {name: one.answer for name, one in zip(dataset.ids, dataset.questions, strict=True)}

    def update(self, batch: Mapping[str, Any], logits: Tensor, blind: Tensor | None) -> None:
        """Keep the answers of a batch.

        Args:
            batch: Of `RSVQADataModule`.
            logits: (Q, K), of the model.
            blind: (Q, K), of the question-only model.
        """
        self.answers += batch['answer']
        self._types += batch['question_type']
        self._questions += batch['question']
        self._ids += batch['id']
        self._images |= set(batch['image_id'])
        for name, part in ((QUESTION_ONLY, blind), (MODEL, logits)):
            if part is not None:
                self._logits[name].append(part.detach().float().cpu())

    def logits(self) -> tuple[Tensor, Tensor]:
        """The model's, (Q, K), and the class of each true answer, (Q,), 0 where there is none."""
        order = {label: place for place, label in enumerate(self.labels) if label != UNKNOWN}
        target = torch.tensor([order.get(answer, 0) for answer in self.answers])
        return torch.cat(self._logits[MODEL]), target

    def comparison(self) -> Comparison:
        """Model, question-only model and majority on the same questions."""
        said: dict[str, Sequence[str]] = {}
        if self._majority is not None:
            said[MAJORITY] = self._majority.answer(self._questions, self._types)
        for name, parts in self._logits.items():
            if parts:
                said[name] = [self.labels[best] for best in torch.cat(parts).argmax(1).tolist()]
        raw = [self._raw.get(name, answer) for name, answer in zip(self._ids, self.answers, strict=True)]
        return compare(said, self.answers, self._types, raw=raw, images=len(self._images), known=self.labels)

    def print(self) -> None:
        """Show the comparison."""
        comparison = self.comparison()
        title = f'{comparison.questions:,} questions on {comparison.images:,} images'
        if comparison.unknown:
            title += f'; {comparison.unknown:,} answers that training never gave'
        Console(highlight=False).print(comparison.table(title))
