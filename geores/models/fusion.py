"""Ways to bring a question's vector and an image's feature map together.

Each looks at an image once (`look`) and meets it with any number of questions (`forward`).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.errors import UsageError

__all__ = ['AttentionFusion', 'Fusion', 'ProductFusion', 'make_fusion']


class Fusion(nn.Module):
    """Brings a feature map and a question's vector together in one vector.

    Attributes:
        out_features: its length.
    """

    out_features: int

    def look(self, features: Tensor) -> Tensor:
        """Compute the part of an image that no question changes.

        Args:
            features: (N, D, h, w).

        Returns:
            (N, ...), for `forward`.
        """
        raise NotImplementedError

    def forward(self, seen: Tensor, text: Tensor) -> Tensor:
        """Meet images with questions, one each.

        Args:
            seen: (P, ...), rows of what `look` gave.
            text: (P, T).

        Returns:
            (P, out_features).
        """
        raise NotImplementedError


class ProductFusion(Fusion):
    """The product of both vectors, as published (Lobry et al. 2020, section IV).

    A 1x1 convolution brings the map to `flat` values; these and the question go through a layer of
    `width` each, tanh, product, tanh.

    Args:
        features: d, channels of the map.
        grid: its height and width.
        text: t, length of the question's vector.
        width: length of the vectors.
        flat: values that the map is brought to.
        dropout: dropout before each layer.
    """

    def __init__(
        self, features: int, grid: int, text: int, width: int = 1200, flat: int = 2048, dropout: float = 0.5
    ) -> None:
        super().__init__()
        if flat < grid * grid:
            raise UsageError(f'flat has to be {grid * grid} or more for maps of {grid} x {grid}, not {flat}')
        channels = flat // (grid * grid)
        self.out_features = width
        self.grid = grid
        self.reduce = nn.Conv2d(features, channels, 1)
        self.image = nn.Linear(channels * grid * grid, width)
        self.text = nn.Linear(text, width)
        self.dropout = nn.Dropout(dropout)

    def look(self, features: Tensor) -> Tensor:
        """The reduced map, (N, flat)."""
        if features.shape[-2:] != (self.grid, self.grid):
            height, width = features.shape[-2:]
            raise UsageError(
                f'feature maps are {height} x {width}, and this head takes {self.grid} x {self.grid}'
            )
        # A dropout before `image` differs from question to question: it comes in `forward`.
        reduced: Tensor = self.reduce(features)
        return reduced.flatten(1)

    def forward(self, seen: Tensor, text: Tensor) -> Tensor:
        """Meet images with questions; see `Fusion.forward`."""
        image, question = self.image(self.dropout(seen)).tanh(), self.text(self.dropout(text)).tanh()
        product: Tensor = image * question
        return product.tanh()


class AttentionFusion(Fusion):
    """The question looks over the map.

    Cells are keys by content and place. Of the `glimpses`, one half takes the mean of the cells by softmax
    ("what is there"), the other half sums what a sigmoid lets pass ("how much of it"), without
    competition between cells, which counts and shares need (Zhang et al. 2018, section 4, on why
    softmax cannot count).

    Args:
        features: d, channels of the map.
        grid: ignored; maps of any size do.
        text: t, length of the question's vector.
        width: length of the vectors of cells, question and result.
        glimpses: how many; even.
        dropout: dropout of cells and question.
    """

    def __init__(
        self, features: int, grid: int, text: int, width: int = 256, glimpses: int = 4, dropout: float = 0.25
    ) -> None:
        super().__init__()
        if glimpses < 2 or glimpses % 2:
            raise UsageError(f'glimpses has to be even and 2 or more, not {glimpses}')
        self.out_features = width
        self.cells = nn.Conv2d(features, width, 1)
        self.places = nn.Conv2d(6, width, 1, bias=False)
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(text, width)
        self.scores = nn.Linear(width, glimpses)
        self.image = nn.Linear(glimpses * width + glimpses // 2, width)
        self.text = nn.Linear(text, width)
        self.join = nn.Linear(3 * width, width)
        self.dropout = nn.Dropout(dropout)

    def look(self, features: Tensor) -> Tensor:
        """Cells with content and place: (N, h * w, width)."""
        cells = self.cells(features) + self.places(_places(features))
        normed: Tensor = self.norm(cells.flatten(2).transpose(1, 2))
        return normed

    def forward(self, seen: Tensor, text: Tensor) -> Tensor:
        """Meet images with questions; see `Fusion.forward`."""
        cells, text = self.dropout(seen), self.dropout(text)
        scores = self.scores((cells * self.query(text)[:, None]).tanh()).transpose(1, 2)
        which, much = scores.chunk(2, 1)
        gates = much.sigmoid()
        weights = torch.cat([which.softmax(2), gates / cells.shape[1]], 1)
        found = torch.cat([(weights @ cells).flatten(1), gates.mean(2)], 1)
        image, question = self.image(found).tanh(), self.text(text).tanh()
        return functional.relu(self.join(torch.cat([image, question, image * question], 1)))


def _places(features: Tensor) -> Tensor:
    """(1, 6, h, w): row and column from -1 to 1, their sizes and their squares."""
    height, width = features.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype)
    columns = torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype)
    place = torch.stack(torch.meshgrid(rows, columns, indexing='ij'))
    return torch.cat([place, place.abs(), place**2])[None]


_FUSIONS: dict[str, Callable[..., Fusion]] = {
    'product': ProductFusion,
    'attention': AttentionFusion,
}


def make_fusion(name: str, features: int, grid: int, text: int, **kwargs: Any) -> Fusion:  # noqa: ANN401
    """Build a fusion.

    Args:
        name: 'product' or 'attention'.
        features: channels of the map.
        grid: its height and width.
        text: length of the question's vector.
        **kwargs: further arguments of the class.

    Raises:
        UsageError: if the name is unknown, or an argument does not fit.
    """
    if name not in _FUSIONS:
        raise UsageError(f'no fusion is named {name!r}: take one of {", ".join(_FUSIONS)}')
    return _FUSIONS[name](features, grid, text, **kwargs)
