"""A head of few parameters for few images: what is asked meets a handful of numbers about the image.

Some tens of images with a hundred questions each teach a network of many parameters to know the images
again, and nothing about others. This head knows a question by its parts (`geores.questions.forms`) and an
image by a few principal components of its features. Objects asked about get latent amounts, a bilinear
function of the two (a factorisation, as Koren et al. 2009 factorise users and items), and comparisons look
at the amounts of both sides.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError
from geores.models.question_parts import Decider, PartsHead, one_of_each
from geores.models.registry import register

__all__ = ['FactorHead']

_SAME = 1e-5  # standard deviation of a component, of features of 1, that only rounding has


class _Member(Decider):
    """One of the networks that are averaged."""

    def __init__(self, parts: int, kinds: int, components: int, rank: int, width: int, answers: int) -> None:
        super().__init__(parts, kinds, rank, width, answers)
        self.image = nn.Linear(components, rank)
        self.place = nn.Linear(components, answers, bias=False)
        nn.init.zeros_(self.place.weight)

    def forward(self, seen: Tensor, first: Tensor, second: Tensor, kind: Tensor) -> Tensor:
        """Logits: (P, K)."""
        logits = self.answer(self.image(seen), self.ask(first, second, kind))
        shown: Tensor = kind[:, :1] * self.place(seen)
        return logits + shown


@register('vqa-factors')
class FactorHead(PartsHead):
    """Mean of some networks that meet the parts of a question with a few components of an image.

    Args:
        features: channels of the map.
        grid: its height and width.
        vocabulary: number of tokens; not looked at, for questions come as forms.
        num_classes: number of answers.
        categories: categories of objects, the most frequent first; all others together are one more.
        classes: labels of the encoder's bundle, whose answers over the map are looked at too.
        components: principal components of the image that are kept.
        rank: how many of their combinations change the amounts of objects.
        width: number of latent amounts of an object.
        members: networks that are averaged. Each question of a training batch trains one of them.
        noise: standard deviation of what is added to the components in training, in their own.

    Raises:
        UsageError: if a number is below 1, or there are more components than features.
    """

    decay: ClassVar[Mapping[str, float]] = {'image': 0.5, 'place': 0.5}

    mean: Tensor
    axes: Tensor

    def __init__(
        self,
        features: int,
        grid: int,
        vocabulary: int,
        num_classes: int,
        categories: Sequence[str],
        classes: int = 0,
        components: int = 5,
        rank: int = 1,
        width: int = 8,
        members: int = 4,
        noise: float = 0.5,
    ) -> None:
        del grid, vocabulary
        if min(components, rank, width, members) < 1 or not categories:
            raise UsageError('components, rank, width, members and categories have to be 1 or more')
        summary = features + 3 * classes
        if components > summary:
            raise UsageError(f'{components} components of {summary} features')
        super().__init__(features, classes, categories)
        self.noise = noise
        self.register_buffer('mean', torch.zeros(summary))
        self.register_buffer('axes', torch.zeros(summary, components))
        parts, kinds = self.questions.parts, self.questions.kinds
        self.members = nn.ModuleList(
            _Member(parts, kinds, components, rank, width, num_classes) for _ in range(members)
        )

    @torch.no_grad()
    def prepare(
        self,
        features: Tensor,
        classifier: nn.Module | None = None,
        numbers: Tensor | None = None,
        asked: int = 0,
    ) -> None:
        """Find the principal components of the training images, whose lengths become 1.

        Args:
            features: (N, D, h, w), of all training images, and of their turns.
            classifier: last layer of the encoder's bundle, for `classes`.
            numbers: not looked at.
            asked: not looked at.

        Raises:
            UsageError: if the classifier has not as many labels as `classes`, or the images are too few.
        """
        del numbers, asked
        self._take_labels(classifier)
        summary = self._summary(features)
        count = self.axes.shape[1]
        if len(summary) <= count:
            raise UsageError(f'{len(summary)} images are too few for {count} components')
        self.mean.copy_(summary.mean(0))
        scale = summary.std(0) + 1e-3
        # Each group of features weighs as much as another, however many it has.
        scale *= torch.cat([torch.full((size,), size**0.5) for size in self._groups()])
        vectors = torch.linalg.svd((summary - self.mean) / scale, full_matrices=False).Vh[:count].T
        axes = vectors / scale[:, None]
        lengths = ((summary - self.mean) @ axes).std(0)
        if not (lengths > _SAME).all():
            raise UsageError(f'the training images are too much alike for {count} components')
        self.axes.copy_(axes / lengths)

    def _groups(self) -> list[int]:
        classes = self.probe.out_features if self.probe is not None else 0
        return [len(self.mean) - 3 * classes] + [3 * classes] * (classes > 0)

    def _summary(self, features: Tensor) -> Tensor:
        pooled = features.mean((2, 3))
        if self.probe is None:
            return pooled
        answers = self.probe(features.flatten(2).transpose(1, 2))
        return torch.cat([pooled, answers.mean(1), answers.amax(1), answers.std(1)], dim=1)

    def look(self, features: Tensor) -> Tensor:
        """Compute components of images: (N, D, h, w) to (N, C)."""
        return (self._summary(features) - self.mean) @ self.axes

    def decide(self, seen: Tensor, text: Tensor) -> Tensor:
        """Answer: (P, K), log-probabilities of the members' mean; in training those of one member each."""
        first, second, kind = self.questions.split(text)
        if self.training:
            seen = seen + self.noise * torch.randn_like(seen)
        logits = torch.stack([member(seen, first, second, kind) for member in self.members])
        if self.training:
            return one_of_each(logits)
        return functional.log_softmax(logits, dim=2).exp().mean(0).clamp_min(1e-9).log()
