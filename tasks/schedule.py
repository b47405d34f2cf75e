"""What the tasks share about fitting: optimizer, learning rate, frozen parts, values per band, a base."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, distributed, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from geores.errors import UsageError

__all__ = [
    'SETTINGS',
    'ImageTask',
    'NormSync',
    'check_schedule',
    'count_warmup_steps',
    'draw_apart',
    'freeze_parts',
    'make_optimizer',
    'per_band',
    'sync_whole_norms',
    'weight_decay_groups',
    'with_warm_up',
]

SETTINGS = (
    'learning_rate',
    'weight_decay',
    'decay_norms',
    'warmup',
    'warmup_steps',
    'warmup_start',
    'rate_end',
)
"""Arguments of a task that `make_optimizer` takes."""

WARMUP_START = 0.01
"""Learning rate of the first step, as a share of the full one, unless a task sets another."""


def check_schedule(warmup: float, steps: int | None, start: float, end: float) -> None:
    """Check the arguments of a learning rate schedule, see `make_optimizer`.

    Raises:
        UsageError: if a number is out of range.
    """
    if not 0 <= warmup <= 1 or (steps is not None and steps < 0):
        raise UsageError(
            'warmup is a share from 0 to 1 of all steps, and warmup_steps a whole number not below 0'
        )
    if not 0 < start <= 1 or not 0 <= end <= 1:
        raise UsageError('warmup_start and rate_end are shares of the learning rate, and the first above 0')


def weight_decay_groups(
    parameters: Iterable[nn.Parameter],
    weight_decay: float,
    own_decay: Mapping[float, Sequence[nn.Parameter]] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups of an optimizer that decays matrices and kernels, but neither biases nor norms.

    A bias or a norm has few values and does not overfit; drawing it towards zero only shifts its outputs.

    Args:
        parameters: those to fit; frozen ones are left out.
        weight_decay: weight decay of matrices and kernels.
        own_decay: weight decay of matrices that ask for another one, with those matrices.

    Returns:
        Matrices, then biases and norms, then one group for each entry of `own_decay`. The order is part of
        the checkpoints of an optimizer.
    """
    own_decay = own_decay or {}
    apart = {id(one) for group in own_decay.values() for one in group}
    trained = [one for one in parameters if one.requires_grad]
    matrices = [one for one in trained if one.ndim > 1 and id(one) not in apart]
    vectors = [one for one in trained if one.ndim <= 1]
    return [
        {'params': matrices, 'weight_decay': weight_decay},
        {'params': vectors, 'weight_decay': 0.0},
        *({'params': list(group), 'weight_decay': decay} for decay, group in own_decay.items()),
    ]


def count_warmup_steps(steps: int, share: float, given: int | None = None) -> int:
    """Number of steps in which the learning rate rises: at least one, at most all but one.

    At least one, so that a longer or shorter run has a schedule of the same parts: checkpoints hold each.

    Args:
        steps: number of steps of the whole training, at least 2.
        share: share of all steps.
        given: this many steps instead.
    """
    return min(max(round(share * steps) if given is None else given, 1), steps - 1)


def with_warm_up(
    optimizer: torch.optim.Optimizer, steps: int, then: LRScheduler, start: float = WARMUP_START
) -> SequentialLR:
    """Let the learning rate rise linearly before another schedule begins.

    Args:
        optimizer: whose learning rate changes.
        steps: number of steps in which it rises.
        then: schedule of the steps after these.
        start: learning rate of the first step, as a share of the full one.
    """
    rise = LinearLR(optimizer, start, total_iters=steps)
    return SequentialLR(optimizer, [rise, then], milestones=[steps])


def make_optimizer(
    network: nn.Module,
    steps: int,
    *,
    learning_rate: float,
    weight_decay: float,
    decay_norms: bool,
    warmup: float,
    warmup_steps: int | None,
    warmup_start: float,
    rate_end: float,
) -> OptimizerLRSchedulerConfig:
    """AdamW, with warm-up and cosine decay step by step (Loshchilov and Hutter 2017, equation 5).

    Args:
        network: to fit; frozen parameters are left out.
        steps: number of steps of the whole training.
        learning_rate: learning rate after warm-up.
        weight_decay: weight decay of matrices and kernels.
        decay_norms: whether biases and norms decay too.
        warmup: share of all steps in which the learning rate rises.
        warmup_steps: this many steps instead, at most all but one.
        warmup_start: learning rate of the first step, as a share of `learning_rate`.
        rate_end: learning rate of the last step, likewise.
    """
    groups: list[dict[str, Any]] = [{'params': [one for one in network.parameters() if one.requires_grad]}]
    if not decay_norms:
        groups = weight_decay_groups(network.parameters(), weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay)
    steps = max(steps, 2)
    rise = count_warmup_steps(steps, warmup, warmup_steps)
    fall = CosineAnnealingLR(optimizer, T_max=steps - rise, eta_min=rate_end * learning_rate)
    scheduler = with_warm_up(optimizer, rise, fall, warmup_start)
    return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}


def freeze_parts(network: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Freeze parts of a network, named such as 'blocks.0', in place, and return them.

    Raises:
        UsageError: if it has no such part.
    """
    modules = dict(network.named_modules())
    missing = [name for name in names if name not in modules]
    if missing:
        parts = ', '.join(name for name, _ in network.named_children())
        raise UsageError(f'freeze: the network has no part {missing[0]!r}; parts are {parts}')
    return [modules[name].requires_grad_(requires_grad=False) for name in names]


def draw_apart() -> None:
    """Give every process but the first random numbers of its own, from the start of fitting.

    Lightning seeds all alike, which weights that are drawn need; augmentations, mixup and dropout would then
    be the same for the batches of all processes.
    """
    if distributed.is_available() and distributed.is_initialized() and distributed.get_rank():
        torch.manual_seed(torch.initial_seed() + distributed.get_rank())


class NormSync(TorchSyncBatchNorm):
    """Batch norms that count over all processes, timm's with the activation that they hold.

    Lightning's own way (`sync_batchnorm: true`) makes torch's of them, which have none: an EfficientNet would
    lose every activation without a word.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert the norms of a model; others are left as they are."""
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the model: outside training the converted norms compute what the others do."""
        return model


def sync_whole_norms(trainer: Any) -> None:  # noqa: ANN401 - a Trainer
    """Let a trainer that synchronises batch norms keep their activations, before the strategy is set up."""
    if isinstance(getattr(trainer.strategy, '_layer_sync', None), TorchSyncBatchNorm):
        trainer.strategy._layer_sync = NormSync()


def per_band(values: Sequence[float] | None, bands: Sequence[str], default: float) -> Tensor:
    """Shape one number per band so that it broadcasts over images (N, C, H, W).

    Args:
        values: one per band; None takes the default for all.
        bands: names of the bands.
        default: value of every band where `values` is None.

    Returns:
        (C, 1, 1), float32.

    Raises:
        UsageError: if there are not as many values as bands.
    """
    values = [default] * len(bands) if values is None else values
    if len(values) != len(bands):
        raise UsageError(f'{len(values)} values of mean or std for {len(bands)} bands')
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


class ImageTask(LightningModule):
    """Base of the tasks that label images or their pixels: statistics, frozen parts and the optimizer.

    Subclasses make `labels`, `bands`, `network` and `frozen`, and call `_register`.
    """

    labels: tuple[str, ...]
    bands: tuple[str, ...]
    network: nn.Module
    frozen: list[nn.Module]
    mean: Tensor
    std: Tensor
    weight: Tensor | None

    def _register(
        self,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        class_weights: Literal['balanced'] | list[float] | None,
    ) -> None:
        """Register the buffers of statistics and of class weights, which the data may fill later."""
        self.register_buffer('mean', per_band(mean, self.bands, 0.0))
        self.register_buffer('std', per_band(std, self.bands, 1.0))
        self.register_buffer('weight', None if class_weights is None else torch.ones(len(self.labels)))
        if isinstance(class_weights, list):
            if len(class_weights) != len(self.labels):
                raise UsageError(f'{len(class_weights)} class_weights for {len(self.labels)} labels')
            self.weight = torch.tensor(class_weights)

    def _balanced(self, data: Any) -> Tensor:  # noqa: ANN401 - a datamodule
        """Weights that balance the classes of a datamodule's training part."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Take statistics of the training part, and lay the network out for quick convolutions.

        Args:
            stage: only 'fit' does anything.

        Raises:
            UsageError: if there is neither `mean` and `std` nor a datamodule that knows them.
        """
        if stage != 'fit':
            return
        sync_whole_norms(self.trainer)
        # Here and no later: DDP keeps the layout that it finds, and would permute the first gradients.
        self.network.to(memory_format=torch.channels_last)
        data: Any = getattr(self.trainer, 'datamodule', None)
        if self.hparams['mean'] is None or self.hparams['std'] is None:
            if not hasattr(data, 'statistics'):
                raise UsageError('mean and std are needed where the data has no statistics')
            mean, std = data.statistics
            self.mean.copy_(per_band(mean, self.bands, 0.0))
            self.std.copy_(per_band(std, self.bands, 1.0))
        if self.hparams['class_weights'] == 'balanced':
            self.weight = self._balanced(data).to(self.device)

    def on_fit_start(self) -> None:
        """Find frozen parts that synchronised norms have replaced, and draw apart from other processes."""
        self.frozen = freeze_parts(self.network, self.hparams['freeze'])
        draw_apart()

    def on_train_start(self) -> None:
        """Put frozen parts into evaluation: Lightning keeps the mode it finds, and norms would average on."""
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen parts stay in evaluation.

        Args:
            mode: whether to train.
        """
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, with warm-up and cosine decay step by step; see `geores.tasks.schedule`."""
        steps = int(self.trainer.estimated_stepping_batches)
        return make_optimizer(self.network, steps, **{name: self.hparams[name] for name in SETTINGS})
