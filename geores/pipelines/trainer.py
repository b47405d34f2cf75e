"""Lightning's Trainer as pipelines use it: silent, writing nothing, without a look at validation."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

__all__ = ['EXPECTED_WARNINGS', 'TERMINATED', 'make_trainer', 'quiet_trainer']

TERMINATED = 128 + signal.SIGTERM
"""Exit code of what SIGTERM has ended."""

EXPECTED_WARNINGS = (
    'The .*dataloader.* does not have many workers',  # images are held in memory
    'The number of training batches',  # of a small set
    'Found .* in eval mode at the start of training',  # an encoder that stays as it is
    r'`isinstance\(treespec, LeafSpec\)` is deprecated',  # Lightning's own use of torch
)
"""Patterns of warnings that say nothing to a user."""


def make_trainer(epochs: int, device: str, callbacks: Sequence[Callback] = ()) -> Trainer:
    """A trainer that trains for some epochs and does nothing else.

    Args:
        epochs: Passes over the training part.
        device: 'cpu', 'cuda' or 'cuda:N'.
        callbacks: To call.
    """
    index = torch.device(device).index
    return Trainer(
        max_epochs=epochs,
        accelerator='cpu' if device == 'cpu' else 'cuda',
        devices=1 if index is None else [index],
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )


@contextmanager
def quiet_trainer() -> Iterator[None]:
    """Keep Lightning from talking, and from turning Ctrl-C into an exit with code 1."""
    loggers = [logging.getLogger(name) for name in ('lightning.pytorch', 'lightning.fabric')]
    levels = [logger.level for logger in loggers]
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in EXPECTED_WARNINGS:
                warnings.filterwarnings('ignore', message)
            yield
    except SIGTERMException as error:
        raise SystemExit(TERMINATED) from error
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
