"""Bundles that teach another network: distillation, and pseudo-labels for images without labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from geores.bundle import load_model
from geores.errors import UsageError


class Teachers:
    """The mean answer of several bundles (Hinton et al. 2015, Distilling the Knowledge, section 2).

    Args:
        bundles: Names or folders.
        labels: Of the network that learns: theirs have to be the same, in the same order.
        bands: Likewise.

    Raises:
        UsageError: A bundle does not fit, or cannot be loaded.
    """

    def __init__(self, bundles: Sequence[str], labels: Sequence[str], bands: Sequence[str]) -> None:
        self.models = [load_model(bundle) for bundle in bundles]
        for bundle, model in zip(bundles, self.models, strict=True):
            for name, theirs, ours in (
                ('labels', model.card.labels, labels),
                ('bands', model.card.bands, bands),
            ):
                if tuple(theirs) != tuple(ours):
                    raise UsageError(f'teacher {bundle} has other {name}: {", ".join(theirs)}')

    def to(self, device: torch.device) -> None:
        """Move to a device.

        Args:
            device: That the images will be on.
        """
        for model in self.models:
            model.network.to(memory_format=torch.channels_last)
            model.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Answer for images as the learning network sees them.

        Args:
            images: (N, C, H, W), float32, in the data's units.

        Returns:
            (N, K), float32, probabilities.
        """
        scores = [
            model.activate(
                model.network(model.normalise(images).contiguous(memory_format=torch.channels_last))
            )
            for model in self.models
        ]
        return torch.stack(scores).mean(0)
