"""Verifying that a model's file is what its card says, for users who have the file of a published model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from geores.bundle import find_bundle, load_model
from geores.card import ModelCard
from geores.datasets._module import collate
from geores.datasets.reben import ReBEN
from geores.errors import UsageError
from geores.hub import is_snapshot, read_snapshot
from geores.hub.reben import BANDS, PUBLISHED, release_of
from geores.metrics import multi_label_report
from geores.model import Model
from geores.runtime.base import pick_device
from geores.weight_files import WEIGHTS_FILE, read_weights

__all__ = ['TEST_PATCHES', 'TOLERANCE', 'ModelVerification', 'verify_model']

TEST_PATCHES = 119_825
"""Number of patches of reBEN's recommended test split."""

TOLERANCE = 0.005
"""Largest difference from a published figure that counts as agreement."""

FIGURES = ('ap_macro', 'ap_micro', 'f1_macro', 'f1_micro')

SplitName = Literal['train', 'val', 'test']


@dataclass(frozen=True)
class ModelVerification:
    """What verifying a model's file has shown.

    Attributes:
        name: of the model.
        sha256: of the weights file.
        architecture: with which the tensors were compared.
        matched: number of tensors of the network that the file has.
        prefix: of their names in the file.
        missing: names of tensors that the file lacks.
        unexpected: names of tensors that the network does not have.
        bands: in the assumed order of the input.
        labels: in the order of the logits.
        patches: number of patches that figures were measured on; 0 without data.
        split: of the data.
        measured: figures on these patches.
        published: figures of the published card, on the recommended test split.
        orders: release -> macro AP with its order of bands; that of the model's own should be the best.
    """

    name: str
    sha256: str
    architecture: str
    matched: int
    prefix: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    bands: tuple[str, ...]
    labels: tuple[str, ...]
    patches: int = 0
    split: str = ''
    measured: Mapping[str, float] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    orders: Mapping[str, float] = field(default_factory=dict)

    @property
    def keys_match(self) -> bool:
        """Whether the file has exactly the tensors of the network."""
        return not self.missing and not self.unexpected

    @property
    def comparable(self) -> bool:
        """Whether measured and published figures are of the same patches."""
        return bool(self.published) and self.split == 'test' and self.patches == TEST_PATCHES

    @property
    def agrees(self) -> bool | None:
        """Whether the figures agree with the published ones; None where they cannot be compared."""
        if not self.comparable:
            return None
        return all(abs(self.measured[name] - value) <= TOLERANCE for name, value in self.published.items())

    @property
    def passed(self) -> bool:
        """Whether tensors match and no figure disagrees."""
        return self.keys_match and self.agrees is not False

    def to_dict(self) -> dict[str, Any]:
        """All fields and verdicts as plain JSON values."""
        verdict = {'keys_match': self.keys_match, 'comparable': self.comparable, 'agrees': self.agrees}
        return asdict(self) | verdict | {'passed': self.passed}


def verify_model(
    model: str | Path,
    data: str | Path | None = None,
    *,
    split: SplitName = 'test',
    metadata: str | Path | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    device: str = 'auto',
    progress: Callable[[int, int], None] | None = None,
) -> ModelVerification:
    """Compare a model's file with what is known of it, and measure its figures on reBEN.

    Args:
        model: as in `load_model`: `hf:owner/name@revision`, the folder of a snapshot, or a bundle.
        data: root of reBEN, as in `geores.datasets.ReBEN`; None to measure nothing.
        split: 'train', 'val' or 'test'; published figures are of 'test'.
        metadata: table of reBEN, where it is not beside the data.
        batch_size: patches in one forward pass.
        num_workers: processes that read patches.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        progress: called with the number of patches just measured, and of all.

    Raises:
        UsageError: if the model or the data cannot be used, or the model has other labels than reBEN.
        ReadError: if the model cannot be downloaded.
    """
    if batch_size < 1:
        raise UsageError(f'batch size must be at least 1, not {batch_size}')
    folder = find_bundle(model)
    found = _compare_files(folder, str(model))
    if data is None or not found.keys_match:
        return found
    patches = _open_patches(load_model(folder).card, data, split, metadata)
    loaded = load_model(model, pick_device(device))
    orders = _band_orders(loaded.card, folder, str(model))
    loader = DataLoader(patches, batch_size, num_workers=num_workers, collate_fn=collate)
    scores, target = _scores(loaded, orders, loader, len(patches), progress or (lambda done, of: None))
    thresholds = torch.tensor(loaded.card.thresholds)
    reports = {name: multi_label_report(values, target, thresholds) for name, values in scores.items()}
    own = reports[next(iter(orders))]
    return replace(
        found,
        patches=len(patches),
        split=split,
        measured={name: own[name] for name in FIGURES},
        orders={name: report['ap_macro'] for name, report in reports.items()} if len(reports) > 1 else {},
    )


def _compare_files(folder: Path, name: str) -> ModelVerification:
    """Verify what the files alone tell: the tensors against the network."""
    if is_snapshot(folder):
        snapshot = read_snapshot(folder, name)
        card, prefix = snapshot.card, snapshot.prefix
        missing, unexpected = snapshot.missing, snapshot.unexpected
        matched = len(snapshot.tensors.keys() - set(unexpected) - set(missing))
    else:
        card = load_model(folder).card  # raises where tensors do not match
        prefix, matched = '', len(read_weights(folder / WEIGHTS_FILE))
        missing = unexpected = ()
    return ModelVerification(
        name=card.name,
        sha256=card.sha256,
        architecture=card.architecture,
        matched=matched,
        prefix=prefix,
        missing=missing,
        unexpected=unexpected,
        bands=card.bands,
        labels=card.labels,
        published=PUBLISHED.get(card.name, {}),
    )


def _open_patches(card: ModelCard, data: str | Path, split: SplitName, metadata: str | Path | None) -> ReBEN:
    patches = ReBEN(data, split, card.bands, metadata=metadata)
    if tuple(patches.labels) != tuple(card.labels):
        raise UsageError(f'model {card.name!r} has other labels than reBEN: its figures there mean nothing')
    if patches.side != card.input_size:
        raise UsageError(
            f'model {card.name!r} takes {card.input_size} pixels, and patches have {patches.side}'
        )
    if not len(patches):
        raise UsageError(f'{data}: no patches of split {split!r} are here')
    return patches


def _band_orders(card: ModelCard, folder: Path, name: str) -> Mapping[str, Sequence[str]]:
    """Orders of bands to measure, by release; the model's own comes first."""
    if not is_snapshot(folder):
        return {'card': card.bands}
    release = release_of(folder, name)
    others = {version: bands for (version, sensors), bands in BANDS.items() if sensors == release.sensors}
    return {release.version: card.bands} | others


def _scores(
    model: Model,
    orders: Mapping[str, Sequence[str]],
    loader: DataLoader[Any],
    count: int,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Scores (N, K) for each order of bands, and targets (N, K)."""
    bands = list(model.card.bands)
    indices = {name: [bands.index(band) for band in order] for name, order in orders.items()}
    found: dict[str, list[torch.Tensor]] = {name: [] for name in orders}
    targets = []
    progress(0, count)
    with torch.inference_mode():
        for batch in loader:
            images = model.normalise(batch['image'].to(model.device))
            for name, index in indices.items():
                found[name].append(model.activate(model.network(images[:, index])).cpu())
            targets.append(batch['label'])
            progress(len(images), count)
    return {name: torch.cat(parts) for name, parts in found.items()}, torch.cat(targets)
