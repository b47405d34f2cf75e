"""A head of few parameters for few images: what is asked meets a handful of numbers about the image.

Some tens of images with a hundred questions each teach a network of many parameters to know the images
again, and nothing about others. This head knows a question by its parts (`geores.questions.forms`) and an
image by a few principal components of its features. Objects asked about get latent amounts, a bilinear
function of the two (a factorisation, as Koren et al. 2009 factorise users and items), and comparisons look
at the amounts of both sides.

A head for few images that learns from their answers what sets them apart, and then to see it.

A few latent factors of each training image are estimated from its answers, with their uncertainty
(variational, as Kingma and Welling 2014, with parameters of each image's own), together with how they
change answers. What of them an image shows is a regression on its features: a Gaussian process of the
training images (Rasmussen and Williams 2006, section 2.2), which says for any image how sure it is. Answers
are means over that uncertainty, so that an image unlike all others is answered as images are on the whole.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError
from geores.models.features import balanced_scale, points_of_images
from geores.models.registry import register
from geores.models.vqa import Decider, PartsHead, one_of_each

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = ['FactorDecider', 'FactorHead', 'LatentHead']

_SAME = 1e-5  # standard deviation of a component, of features of 1, that only rounding has


class FactorDecider(Decider):
    """Answers a question about combinations of what is known of an image.

    Args:
        parts: numbers of a side of a question.
        kinds: numbers that say what kind of question it is.
        components: numbers of an image.
        rank: combinations of them.
        width: latent amounts of objects.
        answers: number of answers.
    """

    def __init__(self, parts: int, kinds: int, components: int, rank: int, width: int, answers: int) -> None:
        super().__init__(parts, kinds, rank, width, answers)
        self.image = nn.Linear(components, rank)
        self.place = nn.Linear(components, answers, bias=False)
        nn.init.zeros_(self.place.weight)

    def forward(self, seen: Tensor, first: Tensor, second: Tensor, kind: Tensor) -> Tensor:
        """Answer: (P, K), logits.

        Args:
            seen: (P, components).
            first: (P, parts).
            second: (P, parts), 0 where there is none.
            kind: (P, kinds).
        """
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
            FactorDecider(parts, kinds, components, rank, width, num_classes) for _ in range(members)
        )

    @torch.no_grad()
    def prepare(
        self,
        features: Tensor,
        classifier: nn.Module | None = None,
        numbers: Tensor | None = None,
        asked: int = 0,
        told: 'Sequence[tuple[int, Form, float]]' = (),
    ) -> None:
        """Find the principal components of the training images, whose lengths become 1.

        Args:
            features: (N, D, h, w), of all training images, and of their turns.
            classifier: last layer of the encoder's bundle, for `classes`.
            numbers: not looked at.
            asked: not looked at.
            told: not looked at.

        Raises:
            UsageError: if the classifier has not as many labels as `classes`, or the images are too few.
        """
        del numbers, asked, told
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


_PACE = 3.0  # how much faster than weights the factors of images are learnt
_SHOWN = 0.9  # share of a factor's variance that features could show at best
_DRAWS = 8


@register('vqa-latents')
class LatentHead(PartsHead):
    """Latent factors of images, learnt from their answers and regressed on their features.

    Args:
        features: channels of the map.
        grid: its height and width.
        vocabulary: number of tokens; not looked at, for questions come as forms.
        num_classes: number of answers.
        categories: categories of objects, the most frequent first; all others together are one more.
        images: most training images.
        classes: labels of the encoder's bundle, whose answers over the map are looked at; 0 looks at the map.
        looks: channels at the map's end that are no features of the encoder (`geores.models.features`).
        rank: factors of an image.
        width: number of latent amounts of an object.
        members: networks that are averaged. Each question of a training batch trains one of them.
        reach: length scale of the kernel, in standard deviations of a feature.

    Raises:
        UsageError: if a number is below 1, or the reach not above 0.
    """

    decay: ClassVar[Mapping[str, float]] = {'centre': 0.0, 'spread': 0.0}

    numbers: Tensor
    points: Tensor
    mean: Tensor
    scale: Tensor
    draws: Tensor
    asked: Tensor

    def __init__(
        self,
        features: int,
        grid: int,
        vocabulary: int,
        num_classes: int,
        categories: Sequence[str],
        images: int,
        classes: int = 0,
        looks: int = 0,
        rank: int = 3,
        width: int = 8,
        members: int = 4,
        reach: float = 1.3,
    ) -> None:
        del grid, vocabulary
        if min(images, rank, width, members) < 1 or not categories or not reach > 0:
            raise UsageError('images, rank, width, members, categories and reach have to be 1 or more')
        if not 0 <= looks < features:
            raise UsageError(f'{looks} of {features} channels cannot be looks')
        super().__init__(features - looks, classes, categories)
        self.looks, self.reach = looks, reach
        parts, kinds = self.questions.parts, self.questions.kinds
        self.members = nn.ModuleList(Decider(parts, kinds, rank, width, num_classes) for _ in range(members))
        self.centre = nn.Parameter(torch.empty(images, members, rank).normal_(0, 0.1 / _PACE))
        self.spread = nn.Parameter(torch.full((images, members, rank), -1 / _PACE))
        summary = 3 * (classes or features - looks) + 4 * looks
        self.register_buffer('numbers', torch.full((images,), -1))
        self.register_buffer('points', torch.zeros(images, summary))
        self.register_buffer('mean', torch.zeros(summary))
        self.register_buffer('scale', torch.ones(summary))
        self.register_buffer('draws', torch.randn(_DRAWS, members, rank))
        self.register_buffer('asked', torch.ones(()))

    @torch.no_grad()
    def prepare(
        self,
        features: Tensor,
        classifier: nn.Module | None = None,
        numbers: Tensor | None = None,
        asked: int = 0,
        told: 'Sequence[tuple[int, Form, float]]' = (),
    ) -> None:
        """Remember the training images.

        Args:
            features: (N, D, h, w), of all training images, and of their turns, which are averaged.
            classifier: last layer of the encoder's bundle, for `classes`.
            numbers: (N,), which image each map is of; None takes them as of one each.
            asked: number of training questions.
            told: not looked at.

        Raises:
            UsageError: if the classifier has not as many labels as `classes`, or there are more images than
                `images`, or fewer than two.
        """
        del told
        self._take_labels(classifier)
        known, points = points_of_images(self._summary(features), numbers, 2, len(self.points))
        self.numbers[: len(known)] = known
        self.mean.copy_(points.mean(0))
        self.scale.copy_(balanced_scale(points, 4 * self.looks))
        self.points[: len(known)] = (points - self.mean) / self.scale
        self.asked.fill_(max(asked, 1))

    def _summary(self, features: Tensor) -> Tensor:
        maps = features.flatten(2)
        cut = maps.shape[1] - self.looks
        seen, looks = maps[:, :cut], maps[:, cut:]
        if self.probe is not None:
            seen = self.probe(seen.transpose(1, 2)).transpose(1, 2)
        less = min(1, maps.shape[2] - 1)  # a map of one cell has a deviation of 0
        parts = [seen.mean(2), seen.amax(2), seen.std(2, correction=less)]
        if self.looks:
            parts += [looks.mean(2), looks.amax(2), looks.std(2, correction=less), looks.amin(2)]
        return torch.cat(parts, dim=1)

    def _learnt(self, places: Tensor | slice) -> tuple[Tensor, Tensor]:
        return self.centre[places] * _PACE, (self.spread[places] * _PACE).exp()

    def recall(self, numbers: Tensor) -> Tensor:
        """Recall factors of training images and their standard deviations: (N, 2, M, R).

        Args:
            numbers: (N,), as `prepare` got them; others have factors of 0.
        """
        same = numbers.to(self.numbers.device)[:, None] == self.numbers
        factors = torch.stack(self._learnt(same.int().argmax(1)), dim=1)
        return factors * same.any(1).view(-1, 1, 1, 1)

    def penalty(self) -> Tensor:
        """Kullback-Leibler divergence of the factors from a standard normal distribution, per question."""
        centre, spread = self._learnt(self.numbers >= 0)
        divergence = (centre**2 + spread**2 - 1) / 2 - spread.log()
        return divergence.sum() / len(self.members) / self.asked

    @torch.no_grad()
    def look(self, features: Tensor) -> Tensor:
        """Estimate factors that images show and their standard deviations: (N, D, h, w) to (N, 2, M, R).

        Args:
            features: (N, D, h, w).
        """
        known = self.numbers >= 0
        if not known.any():
            raise UsageError('vqa-latents has not seen its training images: prepare it')
        centre, spread = self._learnt(known)
        seen = (self._summary(features) - self.mean) / self.scale
        # What is usual is the prior mean of the process; the variance over images, with the uncertainty of
        # their factors, is its prior variance.
        usual, variance = centre.mean(0), (spread**2).mean(0)
        total = (centre.var(0, correction=0) + variance).sqrt()
        points = self.points[known]
        inner = self._kernel(points, points) + (1 - _SHOWN) * torch.eye(len(points), device=points.device)
        near = self._kernel(points, seen)
        weights = torch.linalg.solve(inner, near)
        # Share of the prior deviation that stays: 1 far from every training image, less near them.
        left = (1 - (near * weights).sum(0)).clamp_min(0).sqrt()
        shown = torch.einsum('pn,pmr->nmr', weights, centre - usual) + usual
        return torch.stack([shown, left[:, None, None] * total], dim=1)

    def _kernel(self, one: Tensor, other: Tensor) -> Tensor:
        return _SHOWN * (-(torch.cdist(one, other) ** 2) / (2 * self.reach**2)).exp()

    def decide(self, seen: Tensor, text: Tensor) -> Tensor:
        """Answer: (P, K), log-probabilities, means over draws and members; in training one of each."""
        sides = self.questions.split(text)
        asked = [member.ask(*sides) for member in self.members]  # type: ignore[operator]
        centre, spread = seen.unbind(1)
        if not self.training:
            return self._mean(centre, spread, asked)
        factors = centre + spread * torch.randn_like(centre)
        return one_of_each(self._logits(factors, asked))

    def _logits(self, factors: Tensor, asked: Sequence[tuple[Tensor, ...]]) -> Tensor:
        answers = [
            member.answer(factors[:, place], one)  # type: ignore[operator]
            for place, (member, one) in enumerate(zip(self.members, asked, strict=True))
        ]
        return torch.stack(answers)

    def _mean(self, centre: Tensor, spread: Tensor, asked: Sequence[tuple[Tensor, ...]]) -> Tensor:
        shares = [
            functional.softmax(self._logits(centre + spread * draw, asked), dim=2).mean(0)
            for draw in self.draws
        ]
        return torch.stack(shares).mean(0).clamp_min(1e-9).log()
