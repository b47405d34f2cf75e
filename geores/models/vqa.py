"""Networks that answer questions about an image: heads on an image encoder's feature map."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from geores.models.fusion import make_fusion
from geores.models.registry import register
from geores.models.text import make_text_encoder

if TYPE_CHECKING:
    from geores.questions.forms import Form

__all__ = ['FusionHead', 'VQAHead']


class VQAHead(nn.Module):
    """Base of the heads of VQA bundles: from a feature map and a question to logits of answers.

    An image is looked at once and a question read once, however many meet. A subclass is registered
    (`geores.models.register`) under a name, and built from `features` (channels of the map), `grid` (its
    height and width), `vocabulary` (number of tokens), `num_classes` (answers) and what else it takes.

    Attributes:
        takes_forms: `read` wants the questions as the grammar parses them.
        decay: name of a part of the head -> weight decay of its matrices, in place of the task's.
    """

    takes_forms = False
    decay: ClassVar[Mapping[str, float]] = {}

    def prepare(
        self,
        features: Tensor,
        classifier: nn.Module | None = None,
        numbers: Tensor | None = None,
        asked: int = 0,
    ) -> None:
        """Learn of the training images before training starts; nothing unless a subclass does.

        Args:
            features: (N, D, h, w), maps of all training images, and of their turns.
            classifier: last layer of the bundle whose encoder is shared, if it is.
            numbers: (N,), which image each map is of.
            asked: number of training questions.
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
