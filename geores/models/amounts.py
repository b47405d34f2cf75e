"""A head for few images that reads amounts of objects from an image, and answers from them.

Questions that ask for a number say much about an image: 449 buildings, 12 roads. How far their answers are
above those of the same questions on other images is the image's amount of a kind of object. Amounts are told
from features by ridge regression (Hoerl and Kennard 1970), which some tens of images can bear. From them
follows what number of any objects is expected, and how surely; and from the distribution of numbers every
answer: in which bin a number lies, whether it is 0, which of two is larger. These distributions are
fitted to what regressions without the image itself say of each training image (stacking, Wolpert 1992), so
that they know how far it can be trusted.
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
from geores.models.registry import register
from geores.models.vqa import PartsHead
from geores.vqa.answers import AnswerEncoding

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = ['AmountHead']

_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)  # of which the best for images left out is taken, amount by amount
_COMMON = 4  # questions that a wording needs for an average of its own
_SEEN_IN = 3  # images that a regression needs
_STEEP = 1.7  # makes the logistic distribution nearly a standard normal one, with heavier tails
_FAR = 50.0  # a logarithm that no number reaches
_LEAST = 1e-6  # probability of an answer at least
_NONE = 2**62  # above the number of any wording
_NARROW = 0.15  # half of the interval, in logarithms, that an exact number stands for, at least
_RIDGE = 1.0  # of the weights of answers that are neither numbers nor yes and no
_AREA = 4  # of the numbers that say what kind of question it is
_ANSWERS = ('yes', 'no', 'count', 'area')  # what answers can be, beside others such as 'rural'


class Numbers(nn.Module):
    """Distribution of log(1 + number) of objects in an image: logistic, around what the amounts say.

    Args:
        parts: how many numbers describe objects.
        amounts: how many amounts an image has.
        wordings: how many wordings have an effect of their own, on the centre.
    """

    ridges: ClassVar[Mapping[str, float]] = {'usual': 0.5, 'own': 3.0, 'change': 8.0, 'spread': 3.0}

    def __init__(self, parts: int, amounts: int, wordings: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.ones(()))
        self.width = nn.Parameter(torch.zeros(()))
        self.usual = nn.Parameter(torch.zeros(parts))
        self.own = nn.Parameter(torch.zeros(wordings))
        self.change = nn.Parameter(torch.zeros(parts, amounts))
        self.spread = nn.Parameter(torch.zeros(parts))

    def forward(self, seen: Tensor, objects: Tensor, wording: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and scale of the distributions: (P,) both.

        Args:
            seen: (P, amounts).
            objects: (P, parts).
            wording: (P,), places of wordings.
            known: (P,), whether a wording has an effect.
        """
        usual = self.level + objects @ self.usual + self.own[wording] * known
        centre = usual + ((objects @ self.change) * seen).sum(1)
        return centre, (self.width + objects @ self.spread).clamp(-2, 2).exp()

    def penalty(self) -> Tensor:
        """Squares of the weights, each kind times its ridge."""
        squares = [ridge * getattr(self, name).square().sum() for name, ridge in self.ridges.items()]
        return torch.stack(squares).sum()


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
        noise: standard deviation of what is added to amounts in training, in their own.
        exact: share of the loss of questions answered by a number that is the number's, not its bin's.
        wordings: most wordings of objects that have an effect of their own, the most frequent.

    Raises:
        UsageError: if a number is out of its range, or nothing is read.
    """

    takes_numbers = True

    numbers: Tensor
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    held: Tensor
    asked: Tensor
    wordings: Tensor
    ends: Tensor
    kinds: Tensor

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
        noise: float = 0.5,
        exact: float = 0.5,
        wordings: int = 512,
    ) -> None:
        del grid, vocabulary
        if min(images, wordings) < 1 or not categories or not [*counts, *areas]:
            raise UsageError('images, wordings, categories and counts have to be 1 or more')
        if not 0 <= exact <= 1 or not 0 <= noise < math.inf:
            raise UsageError(f'exact has to be from 0 to 1 and noise 0 or more, not {exact} and {noise}')
        if not 0 <= looks < features:
            raise UsageError(f'{looks} of {features} channels cannot be looks')
        super().__init__(features - looks, 0, categories)
        self.looks, self.noise, self.exact = looks, noise, exact
        self.read_off = [('count', name) for name in counts] + [('area', name) for name in areas]
        amounts, summary = len(self.read_off), features + 3 * looks
        self.count = Numbers(self.questions.parts, amounts, wordings)
        self.area = Numbers(self.questions.parts, amounts, wordings)
        # Of two numbers: how far apart they are at least, and when they are the same.
        self.apart = nn.Parameter(torch.tensor(0.2))
        self.same = nn.Parameter(torch.tensor([-3.0, -1.0, 0.0]))
        self.other = nn.Linear(amounts, num_classes)
        self.register_buffer('numbers', torch.full((images,), -1))
        self.register_buffer('mean', torch.zeros(summary))
        self.register_buffer('scale', torch.ones(summary))
        self.register_buffer('weight', torch.zeros(amounts, summary))
        self.register_buffer('bias', torch.zeros(amounts))
        self.register_buffer('held', torch.zeros(images, amounts))
        self.register_buffer('asked', torch.ones((), dtype=torch.int64))
        self.register_buffer('wordings', torch.full((wordings,), _NONE))
        self.register_buffer('ends', torch.zeros(2, num_classes))
        self.register_buffer('kinds', torch.zeros(len(_ANSWERS), num_classes))

    def learn_answers(self, answers: Sequence[str]) -> None:
        """Learn which answers are numbers, from where to where, and which say yes and no.

        Args:
            answers: those of a bundle, in its order.
        """
        bounds = AnswerEncoding().bounds
        for place, answer in enumerate(answers):
            limits = bounds(answer)
            if limits is not None:
                low, high = limits
                # A number of 3 stands for what lies between 2.5 and 3.5; 0 for all that is below 0.5.
                self.ends[0, place] = math.log(low + 0.5) if low > 0 else -_FAR
                self.ends[1, place] = math.log(high + 1.5) if math.isfinite(high) else _FAR
            kind = ('area' if answer.endswith('m2') else 'count') if limits is not None else answer
            if kind in _ANSWERS:
                self.kinds[_ANSWERS.index(kind), place] = 1

    @torch.no_grad()
    def prepare(
        self,
        features: Tensor,
        classifier: nn.Module | None = None,
        numbers: Tensor | None = None,
        asked: 'Sequence[Form | None]' = (),
        told: 'Sequence[tuple[int, Form, float]]' = (),
    ) -> None:
        """Learn to tell amounts from features.

        Args:
            features: (N, D, h, w), of all training images, and of their turns, which are averaged.
            classifier: not looked at.
            numbers: (N,), which image each map is of; None takes them as of one each.
            asked: all training questions, whose wordings are learnt.
            told: image, question and answer of each training question that was answered by a number.

        Raises:
            UsageError: if there are more images than `images`, or too few have questions about an amount.
        """
        del classifier
        self._learn_wordings(asked)
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

    def _learn_wordings(self, asked: 'Sequence[Form | None]') -> None:
        self.asked.fill_(max(len(asked), 1))
        first, second, _ = self.questions.split(self.questions([*asked, None]))
        numbers, often = self.questions.wordings(torch.cat([first, second])).unique(return_counts=True)
        often[numbers == 0] = 0  # questions without a second side, or without any
        common = numbers[often.argsort(descending=True, stable=True)][: int((often > 0).sum())]
        common = common[: len(self.wordings)].sort().values
        self.wordings.fill_(_NONE)
        self.wordings[: len(common)] = common

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

    def penalty(self) -> Tensor:
        """Logarithm of the normal prior of the weights, per training question."""
        other = _RIDGE * self.other.weight.square().sum()
        return (self.count.penalty() + self.area.penalty() + other) / self.asked

    def decide(self, seen: Tensor, text: Tensor) -> Tensor:
        """Answer: (P, K), log-probabilities."""
        first, second, kind = self.questions.split(text)
        seen = self._disturbed(seen)
        _, presence, count, comparison, area, less, more, equal, _ = kind.T
        one, width = self._number(self.count, seen, first)
        another, its_width = self._number(self.count, seen, second)
        any_there = _below((one - math.log(1.5)) / width)
        both = (width**2 + its_width**2).sqrt()
        gap, apart = (one - another) / both, self.apart.abs() / both
        rest = torch.stack([torch.ones_like(gap), gap.abs(), 1 - any_there], dim=1)
        true = presence * any_there + less * _below(-gap - apart) + more * _below(gap - apart)
        true = true + equal * torch.sigmoid(rest @ self.same)
        yes, no, counts, areas = self.kinds
        closed = (presence + comparison)[:, None] * (true[:, None] * yes + (1 - true)[:, None] * no)
        numbers = count[:, None] * self._within(one, width) * counts
        covered = area[:, None] * self._within(*self._number(self.area, seen, first)) * areas
        left = (1 - presence - comparison - count - area)[:, None]
        shares: Tensor = closed + numbers + covered + left * functional.softmax(self.other(seen), dim=1)
        return shares.clamp_min(_LEAST).log()

    def weigh_numbers(self, losses: Tensor, seen: Tensor, text: Tensor, numbers: Tensor) -> Tensor:
        """Let the number that was answered, such as 449, have its share of a question's loss: (P,).

        The loss of a number is that of the interval it stands for; large ones are hardly exact, and stand
        for some neighbours too.
        """
        first, _, kind = self.questions.split(text)
        seen, known = self._disturbed(seen), numbers.isfinite()
        number = torch.where(known, numbers, 0.0)
        high, low = (number + 1.5).log(), (number + 0.5).log()
        wider = (_NARROW - (high - low) / 2).clamp_min(0) * (number > 0)
        low = torch.where(number > 0, low - wider, -_FAR)
        area = kind[:, _AREA] > 0
        told = zip(self._number(self.count, seen, first), self._number(self.area, seen, first), strict=True)
        centre, width = (torch.where(area, covered, count) for count, covered in told)
        share = _below((high + wider - centre) / width) - _below((low - centre) / width)
        mixed = (1 - self.exact) * losses - self.exact * share.clamp_min(_LEAST).log()
        return torch.where(known, mixed, losses)

    def _number(self, kind: Numbers, seen: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        wording = self.questions.wordings(objects)
        places = torch.searchsorted(self.wordings, wording).clamp_max(len(self.wordings) - 1)
        centre, width = kind(seen, objects, places, self.wordings[places] == wording)
        return centre, width

    def _disturbed(self, seen: Tensor) -> Tensor:
        """Add noise in training; an image that is not shown is 0, and stays so."""
        if not self.training:
            return seen
        return seen + self.noise * torch.randn_like(seen) * (seen != 0).any(1, keepdim=True)

    def _within(self, centre: Tensor, width: Tensor) -> Tensor:
        """Probability that a number lies between the ends of each answer: (P, K)."""
        low, high = ((ends - centre[:, None]) / width[:, None] for ends in self.ends)
        return _below(high) - _below(low)


def _below(value: Tensor) -> Tensor:
    return torch.sigmoid(_STEEP * value)


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
