"""Networks that answer questions about an image: heads on an image encoder's feature map.

Heads that know a question by its parts compare amounts of what those name; their base stands here too.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError
from geores.models.fusion import make_fusion
from geores.models.registry import register
from geores.models.text import make_text_encoder

if TYPE_CHECKING:
    from geores.questions.forms import Form, Objects

__all__ = ['Decider', 'FusionHead', 'PartsHead', 'QuestionParts', 'VQAHead']


class VQAHead(nn.Module):
    """Base of the heads of VQA bundles: from a feature map and a question to logits of answers.

    An image is looked at once and a question read once, however many meet. A subclass is registered
    (`geores.models.register`) under a name, and built from `features` (channels of the map), `grid` (its
    height and width), `vocabulary` (number of tokens), `num_classes` (answers) and what else it takes.

    Attributes:
        takes_forms: `read` wants the questions as the grammar parses them.
        takes_numbers: `prepare` wants the training questions that were answered by a number, and
            `weigh_numbers` the numbers of a training batch.
        decay: name of a part of the head -> weight decay of its matrices, in place of the task's.
    """

    takes_forms = False
    takes_numbers = False
    decay: ClassVar[Mapping[str, float]] = {}

    def prepare(
        self,
        features: Tensor,
        classifier: nn.Module | None = None,
        numbers: Tensor | None = None,
        asked: 'Sequence[Form | None]' = (),
        told: 'Sequence[tuple[int, Form, float]]' = (),
    ) -> None:
        """Learn of the training images before training starts; nothing unless a subclass does.

        Args:
            features: (N, D, h, w), maps of all training images, and of their turns.
            classifier: last layer of the bundle whose encoder is shared, if it is.
            numbers: (N,), which image each map is of.
            asked: all training questions, None for one that does not parse.
            told: where `takes_numbers`, image, question and answer (a number) of training questions.
        """

    def learn_answers(self, answers: Sequence[str]) -> None:
        """Learn what the answers mean, when the head is built to be trained; nothing unless a subclass does.

        Args:
            answers: the answers that are told apart, in their order.
        """

    def recall(self, numbers: Tensor) -> Tensor | None:
        """Give what the head keeps of each training image, for `decide` in place of `look`.

        Args:
            numbers: (N,), of training images.

        Returns:
            (N, ...), or None: it looks at training images as at any.
        """
        del numbers
        return None

    def weigh_numbers(self, losses: Tensor, seen: Tensor, text: Tensor, numbers: Tensor) -> Tensor:
        """Let the loss of training questions depend on the number that was answered, not on its bin alone.

        Args:
            losses: (P,), of the classes of answers.
            seen: (P, ...), rows of what `recall` or `look` gave.
            text: (P, ...), rows of what `read` gave.
            numbers: (P,), as in the files; NaN where a question was not answered by one.

        Returns:
            (P,), those given unless a subclass knows better.
        """
        del seen, text, numbers
        return losses

    def penalty(self) -> Tensor | float:
        """Term that training adds to the loss of a batch."""
        return 0.0

    def look(self, features: Tensor) -> Tensor:
        """Compute the part of an image that no question changes; by default the map itself.

        Args:
            features: (N, D, h, w).

        Returns:
            (N, ...), for `decide`.
        """
        return features

    def read(self, tokens: Tensor, lengths: Tensor, forms: 'Sequence[Form | None] | None' = None) -> Tensor:
        """Compute the part of a question that no image changes.

        Args:
            tokens: (Q, T), int64, padded with 0 at the end.
            lengths: (Q,), int64: how many tokens count.
            forms: where `takes_forms`, one form per question, None where it does not parse.

        Returns:
            (Q, ...), for `decide`.
        """
        raise NotImplementedError

    def decide(self, seen: Tensor, text: Tensor) -> Tensor:
        """Answer questions about images, one each.

        Args:
            seen: (P, ...), rows of what `look` gave.
            text: (P, ...), rows of what `read` gave.

        Returns:
            (P, K), logits in the order of the card's labels.
        """
        raise NotImplementedError

    def forward(
        self,
        features: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        images: Tensor | None = None,
        forms: 'Sequence[Form | None] | None' = None,
    ) -> Tensor:
        """Answer questions.

        Args:
            features: (N, D, h, w).
            tokens: (Q, T), int64.
            lengths: (Q,), int64.
            images: (Q,), int64: which image each question is about; None where they come in pairs.
            forms: as `read` takes them.

        Returns:
            (Q, K), logits.
        """
        seen = self.look(features)
        return self.decide(seen if images is None else seen[images], self.read(tokens, lengths, forms))


@register('vqa-fusion')
class FusionHead(VQAHead):
    """A text encoder, a fusion and a classifier of two layers (Lobry et al. 2020, section IV).

    With its defaults it is the published model's head: product of 1200 values, 256 hidden ones,
    tanh and dropout before each layer.

    Args:
        features: channels of the map.
        grid: its height and width.
        vocabulary: number of tokens.
        num_classes: number of answers.
        text: name of the text encoder (`geores.models.text`).
        text_kwargs: its arguments.
        fusion: name of the fusion (`geores.models.fusion`).
        fusion_kwargs: its arguments.
        hidden: values between the two layers of the classifier.
        dropout: dropout before each of them.
    """

    def __init__(
        self,
        features: int,
        grid: int,
        vocabulary: int,
        num_classes: int,
        text: str = 'recurrent',
        text_kwargs: Mapping[str, Any] | None = None,
        fusion: str = 'product',
        fusion_kwargs: Mapping[str, Any] | None = None,
        hidden: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.text = make_text_encoder(text, vocabulary, **(text_kwargs or {}))
        self.fusion = make_fusion(fusion, features, grid, self.text.out_features, **(fusion_kwargs or {}))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(self.fusion.out_features, hidden),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def look(self, features: Tensor) -> Tensor:
        """Bring maps to what the fusion meets questions with."""
        return self.fusion.look(features)

    def read(self, tokens: Tensor, lengths: Tensor, forms: 'Sequence[Form | None] | None' = None) -> Tensor:
        """Encode questions: (Q, T)."""
        del forms
        encoded: Tensor = self.text(tokens, lengths)
        return encoded

    def decide(self, seen: Tensor, text: Tensor) -> Tensor:
        """Answer: (P, K), logits."""
        logits: Tensor = self.classifier(self.fusion(seen, text))
        return logits


_SIZES = (None, 'small', 'medium', 'large')
_SHAPES = (None, 'square', 'rectangular', 'circular')
_PLACES = (None, 'top', 'right', 'bottom', 'left', 'next')
_TYPES = ('rural_urban', 'presence', 'count', 'comp', 'area')
_CHOICES = ('less', 'more', 'equal')
_KEPT = 2**14  # questions whose numbers are kept: training asks each again and again
_COMMON = 8  # of the first categories, whose sizes and shapes have weights of their own


class QuestionParts:
    """Turns questions as the grammar parses them into numbers.

    Args:
        categories: categories of objects, the most frequent first; all others together are one more.

    Attributes:
        parts: how many numbers a side of a question is.
        kinds: how many numbers say what kind of question it is.
    """

    def __init__(self, categories: Sequence[str]) -> None:
        self.categories = {name: number for number, name in enumerate(categories)}
        other = len(self.categories) + 1
        self.parts = 2 * other + len(_SIZES) + len(_SHAPES) + len(_PLACES) + 8 * _COMMON
        self.kinds = len(_TYPES) + len(_CHOICES) + 1
        self._known: dict[Form | None, Tensor] = {}

    def __call__(self, forms: 'Sequence[Form | None]') -> Tensor:
        """Turn questions into numbers: (Q, 2 P + 9), 0 for None.

        Args:
            forms: one form per question, None where it does not parse.
        """
        for form in forms:
            if form not in self._known:
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[form] = self._question(form)
        return torch.stack([self._known[form] for form in forms])

    def split(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split the numbers of questions into first side, second side and kind.

        Args:
            text: (Q, 2 P + 9).
        """
        first, second, kind = text.split([self.parts, self.parts, self.kinds], dim=1)
        return first, second, kind

    def wordings(self, sides: Tensor) -> Tensor:
        """Number sides of questions so that two have the same where they name the same objects: (P,), int64.

        The four sides of other objects are one place, as an image may be turned. None at all is 0.

        Args:
            sides: (P, parts).
        """
        others = len(self.categories) + 2
        digits: list[tuple[int, Sequence[int]]] = [(1, range(1, others)), (others, range(4))]
        digits += [(4 * others, range(4)), (16 * others, (0, 1, 1, 1, 1, 2)), (48 * others, range(1, others))]
        values = torch.tensor([unit * value for unit, of in digits for value in of], device=sides.device)
        # No product of matrices, which mixed precision would round.
        return (sides[:, : len(values)] * values).sum(1, dtype=torch.float32).round().long()

    def _question(self, form: 'Form | None') -> Tensor:
        kind = torch.zeros(self.kinds)
        sides: list[Objects] = [] if form is None else list(form.parts())
        if form is not None and form.type in _TYPES:
            kind[_TYPES.index(form.type)] = 1
        choice = getattr(form, 'choice', None)
        if choice is not None:
            kind[len(_TYPES) + _CHOICES.index(choice)] = 1
            kind[-1] = sides[0].category == sides[1].category
        objects = [self._objects(one) for one in sides[:2]]
        while len(objects) < 2:
            objects.append(torch.zeros(self.parts))
        return torch.cat([*objects, kind])

    def _objects(self, one: 'Objects') -> Tensor:
        """Encode a side of a question: category, size, shape, relation, and a block for frequent ones."""
        number = self.categories.get(one.category, len(self.categories))
        size, shape = _SIZES.index(one.size), _SHAPES.index(one.shape)
        relation = one.relation
        blocks = [
            (len(self.categories) + 1, number),
            (len(_SIZES), size),
            (len(_SHAPES), shape),
            (len(_PLACES), _PLACES.index(relation.place if relation else None)),
        ]
        vectors = [functional.one_hot(torch.tensor(at), length) for length, at in blocks]
        other = torch.zeros(len(self.categories) + 1)
        if relation:
            other[self.categories.get(relation.other.category, len(self.categories))] = 1
        common = torch.zeros(_COMMON, 8)
        if number < _COMMON:
            common[number, size] = common[number, 4 + shape] = 1
        return torch.cat([*vectors, other, common.flatten()])


class Decider(nn.Module):
    """Answers a question about factors of an image.

    Args:
        parts: numbers of a side of a question.
        kinds: numbers that say what kind of question it is.
        rank: factors of an image.
        width: latent amounts of objects.
        answers: number of answers.
    """

    def __init__(self, parts: int, kinds: int, rank: int, width: int, answers: int) -> None:
        super().__init__()
        self.rank, self.width = rank, width
        self.usual = nn.Linear(parts, width)
        self.change = nn.Linear(parts, rank * width, bias=False)
        nn.init.normal_(self.change.weight, std=0.1)
        self.direct = nn.Linear(2 * parts + kinds, answers)
        nn.init.zeros_(self.direct.weight)
        self.decide = nn.Sequential(
            nn.Linear(4 * width + kinds, 6 * width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6 * width, answers)
        )

    def ask(self, first: Tensor, second: Tensor, kind: Tensor) -> tuple[Tensor, ...]:
        """Compute the part of an answer that no image changes, for `answer`.

        Args:
            first: (P, parts).
            second: (P, parts), 0 where there is none.
            kind: (P, kinds).
        """
        asked = (second.sum(1, keepdim=True) > 0).float()
        direct = self.direct(torch.cat([first, second, kind], dim=1))
        sides = [part(side) for side in (first, second) for part in (self.usual, self.change)]
        return (*sides, asked, kind, direct)

    def answer(self, factors: Tensor, question: tuple[Tensor, ...]) -> Tensor:
        """Logits: (P, K).

        Args:
            factors: (P, rank), of the image that each question is about.
            question: what `ask` gave.
        """
        usual, change, other_usual, other_change, asked, kind, direct = question
        one = self._amounts(usual, change, factors)
        other = self._amounts(other_usual, other_change, factors) * asked
        logits: Tensor = self.decide(torch.cat([kind, one, other, one - other, (one - other).abs()], dim=1))
        return logits + direct

    def _amounts(self, usual: Tensor, change: Tensor, factors: Tensor) -> Tensor:
        changes = change.view(-1, self.rank, self.width)
        return usual + torch.einsum('prw,pr->pw', changes, factors)


class PartsHead(VQAHead):
    """Base of heads that know a question by its parts and average several networks.

    Args:
        features: channels of the map that the encoder's labels are told from.
        classes: labels of the encoder's bundle that are looked at; 0 for none.
        categories: categories of objects, the most frequent first; all others together are one more.
    """

    takes_forms = True

    def __init__(self, features: int, classes: int, categories: Sequence[str]) -> None:
        super().__init__()
        self.probe = nn.Linear(features, classes).requires_grad_(requires_grad=False) if classes else None
        self.questions = QuestionParts(categories)

    def read(self, tokens: Tensor, lengths: Tensor, forms: 'Sequence[Form | None] | None' = None) -> Tensor:
        """Turn the parts of questions into numbers: (Q, 2 P + 9)."""
        del lengths
        return self.questions(forms or [None] * len(tokens)).to(tokens.device)

    def _take_labels(self, classifier: nn.Module | None) -> None:
        """Tell labels as the last layer of the encoder's bundle does."""
        if self.probe is None:
            return
        if not isinstance(classifier, nn.Linear) or classifier.weight.shape != self.probe.weight.shape:
            raise UsageError(f'classes: the encoder has not {self.probe.out_features} labels')
        self.probe.load_state_dict(classifier.state_dict())
