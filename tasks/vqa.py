"""Answers to questions about images, as classes (Lobry et al. 2020)."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler

from geores import models
from geores.datasets._sampling import process_count
from geores.errors import UsageError
from geores.models.vqa import VQAHead
from geores.tasks._vqa_parts import (
    Predictions,
    TaskEncoder,
    freeze_unused,
    make_cache,
    make_encoder,
    numbers_told,
    statistics,
)
from geores.tasks.schedule import (
    count_warmup_steps,
    draw_apart,
    sync_whole_norms,
    weight_decay_groups,
    with_warm_up,
)
from geores.vqa.comparison import fitting, forms_of
from geores.vqa.model import TURNS, FeatureCache
from geores.vqa.network import MAX_TOKENS, Tokenizer, VQANetwork


class VisualQuestionAnswering(LightningModule):
    """Trains a head, and an encoder if wanted, on questions and answers of `RSVQADataModule`.

    Tokenizer, answers and statistics come from the datamodule's training part when fitting starts. A
    twin of the head is trained beside it, from the same weights on the same batches, with zeros for what it
    sees: the question-only model, without which no accuracy of visual question answering can be interpreted.

    Args:
        encoder: bundle whose encoder gives feature maps, frozen and shared: name or folder.
        encoder_bands: band of the images -> band of that bundle; None finds those of the same name or colour
            (red goes to B04). Other bands of the bundle stay at their mean.
        architecture: architecture of an own encoder instead, such as 'resnet152'.
        architecture_kwargs: arguments of the architecture; `pretrained: true` downloads timm's weights.
        start: weights that the encoder starts from, as in `geores.tasks.start`.
        tune: train the encoder too; else it is frozen, and in evaluation mode.
        grid: height and width to which feature maps are averaged; None leaves them.
        scale: factor by which images are resized for a shared encoder, such as 0.5 where it was trained on
            pixels twice as large.
        looks: append channels of colour and texture (`geores.models.features`) to a shared encoder's map.
        head: name of the head in `geores.models`.
        head_kwargs: arguments of the head, beside features, grid, vocabulary and num_classes.
        text: 'words' makes tokens of the words of training questions; else the folder of a pretrained text
            model of transformers, whose tokenizer is taken.
        max_tokens: most tokens of a question.
        cache: folder for features of a frozen encoder, each image encoded once for all epochs and runs; None
            encodes in each step.
        question_only: train the question-only twin.
        learning_rate: learning rate after warm-up.
        weight_decay: weight decay of matrices and kernels.
        warmup: share of all steps in which the learning rate rises.
        schedule: 'cosine' lets the learning rate fall after that, 'constant' keeps it.
        label_smoothing: share of the target that is spread over all answers.
        mean: per band, 0 to 255; None takes a shared encoder's, ImageNet's, or the training images'.
        std: per band; None likewise.

    Raises:
        UsageError: if arguments contradict each other.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: str | None = None,
        encoder_bands: Mapping[str, str] | None = None,
        architecture: str | None = None,
        architecture_kwargs: Mapping[str, Any] | None = None,
        start: str | None = None,
        tune: bool = False,
        grid: int | None = None,
        scale: float = 1.0,
        looks: bool = False,
        head: str = 'vqa-fusion',
        head_kwargs: Mapping[str, Any] | None = None,
        text: str = 'words',
        max_tokens: int = MAX_TOKENS,
        cache: str | None = None,
        question_only: bool = True,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        warmup: float = 0.1,
        schedule: Literal['cosine', 'constant'] = 'cosine',
        label_smoothing: float = 0.0,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if tune and (cache is not None or architecture is None):
            raise UsageError(
                'tune trains an encoder of its own: set architecture, and neither encoder nor cache'
            )
        if not 0 <= label_smoothing < 1 or not 0 <= warmup < 1:
            raise UsageError('label_smoothing and warmup have to be in [0, 1)')
        self.labels: tuple[str, ...] = ()
        self.cache: FeatureCache | None = None
        self.question_only: VQAHead | None = None

    def setup(self, stage: str) -> None:
        """Take tokenizer, answers and statistics of the training part, and build the network.

        Raises:
            UsageError: if the data are no `RSVQADataModule`, or the head does not fit.
        """
        data: Any = getattr(self.trainer, 'datamodule', None)
        if not all(hasattr(data, name) for name in ('vocabulary', 'dataset', 'split')):
            raise UsageError('VisualQuestionAnswering needs RSVQADataModule, or one like it')
        sync_whole_norms(self.trainer)
        if self.labels:
            return
        self.bands, self.labels = tuple(data.bands), tuple(data.vocabulary.answers)
        self.size = int(data.dataset.image_shape[-1])
        self.tokenizer = self._make_tokenizer(data)
        self._build(data)
        if self.hparams['cache'] is not None:
            self.cache = make_cache(
                self.hparams['cache'],
                self.network.encoder,
                self.mean,
                self.std,
                data,
                self.trainer.strategy.root_device,
            )
            data.with_images = False

    def _make_tokenizer(self, data: Any) -> Tokenizer:  # noqa: ANN401 - a datamodule
        limit = self.hparams['max_tokens']
        if self.hparams['text'] != 'words':
            return Tokenizer.pretrained(self.hparams['text'], limit)
        questions = data.dataset.questions
        return Tokenizer.from_questions(
            (questions[index].text for index in data.questions(data.split.train)), limit
        )

    def _build(self, data: Any) -> None:  # noqa: ANN401
        given = self.hparams
        encoder: TaskEncoder = make_encoder(
            given['encoder'],
            given['architecture'],
            given['architecture_kwargs'] or {},
            given['start'],
            given['encoder_bands'],
            self.bands,
            given['grid'],
            given['scale'],
            given['looks'],
        )
        self.encoder_spec = encoder.spec
        if not given['tune']:
            encoder.features.requires_grad_(requires_grad=False)
        channels, grid = encoder.features.shape(len(self.bands), self.size)
        self.head_kwargs = {
            **(given['head_kwargs'] or {}),
            'features': channels,
            'grid': grid,
            'vocabulary': len(self.tokenizer),
            'num_classes': len(self.labels),
        }
        head = self._make_head()
        self.network = VQANetwork(encoder.features, head, encoder.shared)
        self.question_only = copy.deepcopy(head) if given['question_only'] else None
        if self.question_only is not None and process_count() > 1:
            freeze_unused(self.question_only, channels, grid)
        mean, std = statistics(encoder, given['mean'], given['std'], data, self.bands)
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1))
        self.predictions = Predictions(self.labels)

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Show the head the training images, of which it may learn before training.

        Raises:
            UsageError: if the head learns of them, and they are to change in training, or there are none to
                see.
        """
        draw_apart()
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        head, shared = self.network.head, self.network.shared
        # A run that goes on has what it learnt, and a twin of its own weights.
        if type(head).prepare is VQAHead.prepare or self.trainer.ckpt_path is not None:
            return
        if self.hparams['tune']:
            raise UsageError(f'head {self.hparams["head"]!r} learns of fixed features: leave tune off')
        unseen = getattr(data, 'unseen', ())
        numbers = torch.tensor([one for one in data.split.train if one not in unseen], dtype=torch.int64)
        if not len(numbers):
            raise UsageError(f'head {self.hparams["head"]!r} has no training image (questions_only)')
        if self.cache is not None:
            turns = [None] if data.turning == 'none' else [torch.full_like(numbers, k) for k in range(TURNS)]
            maps = torch.cat([self.cache(numbers, turn) for turn in turns])
        else:
            batch = [data.dataset.image(int(number))[None].to(self.device) for number in numbers]
            maps = torch.cat([self.network.encoder((one - self.mean) / self.std).cpu() for one in batch])
        get: Any = getattr(shared.network, 'get_classifier', None) if shared is not None else None
        asked = forms_of([data.dataset.questions[one].text for one in data.questions(data.split.train)])
        repeated = numbers.repeat(len(maps) // len(numbers))
        told = numbers_told(data, numbers.tolist()) if head.takes_numbers else ()
        head.cpu().prepare(maps, get() if get is not None else None, repeated, asked, told)
        head.to(self.device)
        if self.question_only is not None:
            self.question_only.load_state_dict(head.state_dict())

    def _make_head(self) -> VQAHead:
        kwargs = dict(self.head_kwargs)
        network = models.create(self.hparams['head'], **kwargs)
        if not isinstance(network, VQAHead):
            raise UsageError(f'{self.hparams["head"]!r} is no head of visual question answering')
        network.learn_answers(self.labels)
        # Where a text model's weights lie is nothing that a card could say; its configuration is.
        text = dict(kwargs.get('text_kwargs') or {})
        if text.pop('start', None) is not None:
            self.head_kwargs['text_kwargs'] = text | {'config': network.text.config}  # type: ignore[union-attr]
        return network

    def train(self, mode: bool = True) -> 'VisualQuestionAnswering':
        """Switch to training or evaluation; a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.labels and not self.hparams['tune']:
            self.network.encoder.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Keep a frozen encoder's statistics: Lightning trains each part in the mode in which it finds it."""
        self.train()

    def features(self, batch: Mapping[str, Any]) -> Tensor:
        """Feature maps of a batch's images: (N, D, h, w)."""
        if self.cache is not None:
            maps = self.cache(batch['image_number'], batch.get('turn'))
            maps = maps.pin_memory() if self.device.type == 'cuda' else maps
            return maps.to(self.device, non_blocking=True)
        with torch.set_grad_enabled(self.hparams['tune'] and torch.is_grad_enabled()):
            features: Tensor = self.network.encoder((batch['image'] - self.mean) / self.std)
        return features

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Answer the questions of a batch.

        Returns:
            (Q, K), logits of the model, and of the question-only model if there is one.
        """
        logits, *blind = [head.decide(seen, text) for head, seen, text in self._sides(batch)]
        return logits, blind[0] if blind else None

    def _sides(self, batch: Mapping[str, Any]) -> list[tuple[VQAHead, Tensor, Tensor]]:
        """Head, what it sees and what it reads, of the model and of its twin if there is one: (Q, ...)."""
        head, images = self.network.head, batch['image_index']
        tokens, lengths = self.tokenizer(batch['question'])
        tokens = tokens.to(self.device)
        forms = forms_of(batch['question']) if head.takes_forms else None
        known = head.recall(batch['image_number']) if self.training else None
        seen = head.look(self.features(batch)) if known is None else known
        if batch.get('unseen') is not None:
            seen = seen * ~batch['unseen'].to(self.device).view(-1, *[1] * (seen.ndim - 1))
        sides = [(head, seen[images], head.read(tokens, lengths, forms))]
        if self.question_only is not None:
            text = self.question_only.read(tokens, lengths, forms)
            nothing = torch.zeros_like(seen[:1]).expand(len(text), *seen.shape[1:])
            sides.append((self.question_only, nothing, text))
        return sides

    def answers(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Like `forward`, with -inf for answers of another kind than the question's, as a bundle answers."""
        allowed = fitting(self.labels, forms_of(batch['question'])).to(self.device)
        logits, blind = self(batch)
        return (
            logits.masked_fill(~allowed, -torch.inf),
            None if blind is None else blind.masked_fill(~allowed, -torch.inf),
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch, the twin's added: they share no weights."""
        total = torch.zeros((), device=self.device)
        for head, seen, text in self._sides(batch):
            weigh = None
            if 'number' in batch:
                weigh = partial(head.weigh_numbers, seen=seen, text=text, numbers=batch['number'])
            loss = self._loss(head.decide(seen, text), batch['label'], weigh)
            if head is self.network.head:
                self.log('train/loss', loss, on_step=False, on_epoch=True, batch_size=len(text))
            total = total + loss + head.penalty()
        return total

    def _loss(
        self, logits: Tensor, target: Tensor, weigh: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Mean loss of the questions whose answer is a class: cross-entropy, which `weigh` may change."""
        known = target > 0
        # An answer that the data call of another kind than the grammar does cannot be given.
        known &= torch.isfinite(logits.gather(1, target[:, None])[:, 0])
        # An answer that cannot be given has a logarithm of -inf, of which no share can be asked.
        smoothing = self.hparams['label_smoothing'] if self.training else 0.0
        losses = functional.cross_entropy(
            torch.where(known[:, None], logits.float(), 0.0),
            target,
            reduction='none',
            label_smoothing=smoothing,
        )
        losses = losses if weigh is None else weigh(losses)
        # Divided by their number, which may be 0, without waiting for the device to tell it.
        return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep answers of a batch."""
        logits, blind = self.answers(batch)
        self.log('val/loss', self._loss(logits, batch['label']), batch_size=len(logits), sync_dist=True)
        self.predictions.update(batch, logits, blind)

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of the last validation."""
        self.predictions.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all batches."""
        if self.predictions.answers or process_count() > 1:
            self.predictions.learn(self.trainer.datamodule)  # type: ignore[attr-defined]
            self.predictions.gather()
            figures = self.predictions.comparison().figures()
            self.log_dict({f'val/{name}': value for name, value in figures.items()})

    def on_validation_end(self) -> None:
        """Log model, question-only model and majority side by side, where this is no epoch of training."""
        if not self.trainer.sanity_checking and self.trainer.state.fn != 'fit':
            self.predictions.log_table()

    def on_fit_end(self) -> None:
        """Log the table of the last validation."""
        if self.predictions.answers and self.trainer.is_global_zero:
            self.predictions.log_table()

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end
    on_test_end = on_validation_end

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip model and twin each by itself, so that neither shapes the other's steps."""
        del optimizer, gradient_clip_algorithm
        if gradient_clip_val:
            for part in (self.network, self.question_only):
                if part is not None:
                    nn.utils.clip_grad_norm_(part.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW (Adam, without weight decay), with warm-up and cosine decay step by step if wanted."""
        rate, decay = self.hparams['learning_rate'], self.hparams['weight_decay']
        groups = weight_decay_groups(self.parameters(), decay, self._own_decay())
        optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        share = self.hparams['warmup']
        rise = count_warmup_steps(steps, share) if share else 0
        scheduler: LRScheduler = ConstantLR(optimizer, 1.0)
        if self.hparams['schedule'] == 'cosine':
            scheduler = CosineAnnealingLR(optimizer, T_max=steps - rise)
        if rise:
            scheduler = with_warm_up(optimizer, rise, scheduler)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}

    def _own_decay(self) -> dict[float, list[nn.Parameter]]:
        """Matrices of heads that ask for a weight decay of their own, by that decay."""
        own: dict[float, list[nn.Parameter]] = {}
        heads = [head for head in (self.network.head, self.question_only) if head is not None]
        for head in heads:
            for name, part in head.named_parameters():
                wanted = [decay for key, decay in head.decay.items() if key in name.split('.')]
                if wanted and part.ndim > 1 and part.requires_grad:
                    own.setdefault(wanted[0], []).append(part)
        return own
