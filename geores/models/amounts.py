"""A head for few images that reads amounts of objects from an image, and answers from them.

Questions that ask for a number say much about an image: 449 buildings, 12 roads. How far their answers are
above those of the same questions on other images is the image's amount of a kind of object. Amounts are told
from features by ridge regression (Hoerl and Kennard 1970), which some tens of images can bear, and answers
from amounts by small networks. These are trained on what regressions without the image itself say of each
training image (stacking, Wolpert 1992), so that they know how far such amounts can be trusted.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError
from geores.models.features import balanced_scale, points_of_images
from geores.models.latents import FactorDecider
from geores.models.registry import register
from geores.models.vqa import PartsHead, one_of_each

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = ['AmountHead']

_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)  # of which the best for images left out is taken, amount by amount
_COMMON = 4  # questions that a wording needs for an average of its own
_SEEN_IN = 3  # images that a regression needs


@register('vqa-amounts')
class AmountHead(PartsHead):
    """Amounts of objects by regression on an image's features, and answers from them.

    Args:
        features: channels of the map.
        grid: its height and width.
        vocabulary: number of tokens; not looked at, for questions come as forms.
        num_classes: number of answers.
        categories: categories of objects, the most frequent first; all others together are one more.
        images: most training images.
        counts: categories whose number is read from an image.
        areas: categories whose area is.
        looks: channels at the map's end that are no features of the encoder (`geores.models.features`).
        rank: combinations of amounts that change answers.
        width: number of latent amounts of an object.
        members: networks that are averaged. Each question of a training batch trains one of them.
        noise: standard deviation of what is added to amounts in training, in their own.

    Raises:
        UsageError: if a number is below 1, or nothing is read.
    """

    takes_numbers = True
    decay: ClassVar[Mapping[str, float]] = {'image': 0.1, 'place': 0.1}

    numbers: Tensor
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    held: Tensor

    def __init__(
        self,
        features: int,
        grid: int,
        vocabulary: int,
        num_classes: int,
        categories: Sequence[str],
        images: int,
        counts: Sequence[str],
        areas: Sequence[str] = (),
        looks: int = 0,
        rank: int = 3,
        width: int = 8,
        members: int = 4,
        noise: float = 0.3,
    ) -> None:
        del grid, vocabulary
        if min(images, rank, width, members) < 1 or not categories or not [*counts, *areas]:
            raise UsageError('images, rank, width, members, categories and counts have to be 1 or more')
        if not 0 <= looks < features:
            raise UsageError(f'{looks} of {features} channels cannot be looks')
        super().__init__(features - looks, 0, categories)
        self.looks, self.noise = looks, noise
        self.read_off = [('count', name) for name in counts] + [('area', name) for name in areas]
        amounts, summary = len(self.read_off), features + 3 * looks
        parts, kinds = self.questions.parts, self.questions.kinds
        self.members = nn.ModuleList(
            FactorDecider(parts, kinds, amounts, rank, width, num_classes) for _ in range(members)
        )
        self.register_buffer('numbers', torch.full((images,), -1))
        self.register_buffer('mean', torch.zeros(summary))
        self.register_buffer('scale', torch.ones(summary))
        self.register_buffer('weight', torch.zeros(amounts, summary))
        self.register_buffer('bias', torch.zeros(amounts))
        self.register_buffer('held', torch.zeros(images, amounts))

    @torch.no_grad()
    def prepare(
        self,
        features: Tensor,
        classifier: nn.Module | None = None,
        numbers: Tensor | None = None,
        asked: int = 0,
        told: 'Sequence[tuple[int, Form, float]]' = (),
    ) -> None:
        """Learn to tell amounts from features.

        Args:
            features: (N, D, h, w), of all training images, and of their turns, which are averaged.
            classifier: not looked at.
            numbers: (N,), which image each map is of; None takes them as of one each.
            asked: not looked at.
            told: image, question and answer of each training question that was answered by a number.

        Raises:
            UsageError: if there are more images than `images`, or too few have questions about an amount.
        """
        del classifier, asked
        known, points = points_of_images(self._summary(features), numbers, _SEEN_IN, len(self.numbers))
        self.numbers[: len(known)] = known
        self.mean.copy_(points.mean(0))
        self.scale.copy_(balanced_scale(points, 4 * self.looks))
        points = (points - self.mean) / self.scale
        # Their mean square length becomes 1, which ridges are shares of.
        length = points.square().sum(1).mean().sqrt().clamp_min(1e-9)
        self.scale *= length
        points = (points / length).double()
        amounts, asked_of = self._amounts(known, told)
        for place, (kind, name) in enumerate(self.read_off):
            has = asked_of[:, place] > 0
            if has.sum() < _SEEN_IN:
                raise UsageError(
                    f'{int(has.sum())} training images have questions about the {kind} of {name!r}'
                )
            weight, bias, without = _regress(points[has], amounts[has, place], asked_of[has, place])
            seen = points @ weight + bias
            seen[has] = without
            middle, spread = seen.mean(), seen.std().clamp_min(1e-6)
            self.held[: len(known), place] = ((seen - middle) / spread).float()
            self.weight[place] = (weight / spread).float()
            self.bias[place] = ((bias - middle) / spread).float()

    def _amounts(self, known: Tensor, told: 'Sequence[tuple[int, Form, float]]') -> tuple[Tensor, Tensor]:
        """Average what numbers say beyond their wording's usual one.

        Returns:
            Mean of each image and amount, and of how many questions: (I, A) both.
        """
        order = {int(number): place for place, number in enumerate(known)}
        columns = {one: place for place, one in enumerate(self.read_off)}
        usual: dict[Form, list[float]] = defaultdict(list)
        for _, form, number in told:
            usual[form].append(math.log1p(number))
        sums = torch.zeros(2, len(order), len(columns), dtype=torch.float64)
        for image, form, number in told:
            column = columns.get((form.type, next(iter(form.parts())).category))
            if column is None or image not in order or len(usual[form]) < _COMMON:
                continue
            beyond = math.log1p(number) - sum(usual[form]) / len(usual[form])
            sums[0, order[image], column] += beyond
            sums[1, order[image], column] += 1
        return sums[0] / sums[1].clamp_min(1), sums[1]

    def _summary(self, features: Tensor) -> Tensor:
        maps = features.flatten(2)
        parts = [maps.mean(2)]
        if self.looks:
            looks = maps[:, maps.shape[1] - self.looks :]
            less = min(1, maps.shape[2] - 1)  # a map of one cell has a deviation of 0
            parts += [looks.amax(2), looks.std(2, correction=less), looks.amin(2)]
        return torch.cat(parts, dim=1)

    def recall(self, numbers: Tensor) -> Tensor:
        """Give what regressions without an image say of it: (N, A).

        Args:
            numbers: (N,), of training images, as `prepare` got them; others have amounts of 0.
        """
        same = numbers.to(self.numbers.device)[:, None] == self.numbers
        held: Tensor = self.held[same.int().argmax(1)] * same.any(1)[:, None]
        return held

    @torch.no_grad()
    def look(self, features: Tensor) -> Tensor:
        """Tell amounts, in standard deviations over training images: (N, D, h, w) to (N, A)."""
        if not (self.numbers >= 0).any():
            raise UsageError('vqa-amounts has not seen its training images: prepare it')
        seen: Tensor = ((self._summary(features) - self.mean) / self.scale) @ self.weight.T + self.bias
        return seen

    def decide(self, seen: Tensor, text: Tensor) -> Tensor:
        """Answer: (P, K), log-probabilities of the members' mean; in training those of one member each."""
        first, second, kind = self.questions.split(text)
        if self.training:
            # An image that is not shown is 0, and stays so.
            seen = seen + self.noise * torch.randn_like(seen) * (seen != 0).any(1, keepdim=True)
            if len(seen) >= len(self.members):
                return self._share_out(seen, first, second, kind)
        logits = torch.stack([member(seen, first, second, kind) for member in self.members])
        if self.training:
            return one_of_each(logits)
        return functional.log_softmax(logits, dim=2).exp().mean(0).clamp_min(1e-9).log()

    def _share_out(self, *question: Tensor) -> Tensor:
        """Answer each question by one network, drawn at random, at the cost of one: (P, K)."""
        drawn = torch.randperm(len(question[0]), device=question[0].device)
        shares = drawn.tensor_split(len(self.members))
        logits = [
            member(*(part[rows] for part in question))
            for member, rows in zip(self.members, shares, strict=True)
        ]
        return torch.cat(logits)[drawn.argsort()]


def _regress(points: Tensor, amounts: Tensor, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Regress amounts on points, by the ridge that does best for points left out.

    Args:
        points: (I, D), float64.
        amounts: (I,).
        asked: (I,), of how many questions each is the mean: the more, the less noise.

    Returns:
        Weights (D,), bias, and what regressions without each point say of it (I,).
    """
    kernel = points @ points.T
    tried: list[tuple[float, Tensor, Tensor, Tensor]] = []
    for ridge in _RIDGES:
        inverse = torch.linalg.inv(kernel + ridge * torch.diag(1 + 1 / asked))
        row = inverse.sum(0)
        bias = (row @ amounts) / row.sum()
        # With the bias estimated anew without each point, too.
        free = inverse - torch.outer(row, row) / row.sum()
        dual = free @ amounts
        without = amounts - dual / free.diagonal()
        error = float(((amounts - without) ** 2 * asked).sum())
        tried.append((error, points.T @ dual, bias, without))
    return min(tried, key=lambda one: one[0])[1:]
