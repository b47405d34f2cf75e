"""Lightning's Trainer as geores uses it: silent, writing nothing; and the export of a run without one."""

import logging
import re
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from geores.scenes.bands import SENTINEL1_BANDS, SENTINEL2_BANDS

__all__ = ['EXPECTED_WARNINGS', 'TERMINATED', 'default_export', 'make_trainer', 'quiet_trainer']

TERMINATED = 128 + signal.SIGTERM
"""Exit code of what SIGTERM has ended."""

EXPECTED_WARNINGS = (
    'The .*dataloader.* does not have many workers',  # images are held in memory
    'The number of training batches',  # of a small set
    'Found .* in eval mode at the start of training',  # an encoder that stays as it is
    r'`isinstance\(treespec, LeafSpec\)` is deprecated',  # Lightning's own use of torch
)
"""Patterns of warnings that say nothing to a user."""

UNKNOWN = 'unknown: say it in export'

ANY_SIZE = (1e-3, 1e6)
"""Metres of a pixel where nobody says: every scene is taken as it is."""

_PICTURE = {'red', 'green', 'blue'}


def make_trainer(epochs: int, device: str, callbacks: Sequence[Callback] = ()) -> Trainer:
    """A trainer that trains for some epochs and does nothing else.

    Args:
        epochs: passes over the training part.
        device: 'cpu', 'cuda' or 'cuda:N'.
        callbacks: callbacks to call.
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
    """Silence Lightning, and keep it from turning Ctrl-C into an exit with code 1."""
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


def default_export(task: Any, data: Any, name: str) -> tuple[Callback, str] | None:  # noqa: ANN401
    """Make the callback that writes the bundle of a task whose configuration names none.

    A task says which by a method `export_type()`: a class like `geores.tasks.ExportBundle`. A datamodule says
    in `card_text`, a mapping, what it knows of the card.

    Args:
        task: the Lightning module.
        data: datamodule of the task, or None.
        name: name of the configuration, and the model's.

    Returns:
        The callback, and a sentence on what on the card was guessed or is unknown; None where the task or the
        data do not say how to export.
    """
    if not hasattr(task, 'export_type') or not all(
        hasattr(data, one) for one in ('split', 'bands', 'dataset')
    ):
        return None
    bands = tuple(data.bands)
    known = dict(getattr(data, 'card_text', {}))
    guessed = {key: value for key, value in _guesses(bands).items() if key not in known}
    sources = ', '.join(_sources(data))
    text: dict[str, Any] = {
        'description': f'{type(task).__name__} trained on {sources}.',
        'sensor': UNKNOWN,
        'processing_level': UNKNOWN,
        'units': UNKNOWN,
        'gsd': ANY_SIZE,
        'training_data': f'{sources} (licence {UNKNOWN})',
        'licence': UNKNOWN,
    }
    unknown = [key for key in text if key not in {**known, **guessed, 'description': ''}]
    export: Any = task.export_type()(name=_name(name), **{**text, **guessed, **known})
    export.needs_figures = False
    parts = [
        f'guessed from the bands: {", ".join(f"{key} {value}" for key, value in guessed.items())}'
        if guessed
        else '',
        f'unknown: {", ".join(unknown)}' if unknown else '',
    ]
    said = '; '.join(part for part in parts if part)
    return export, f'no export is configured; of the card, {said} (say it in export)' if said else ''


def _guesses(bands: tuple[str, ...]) -> dict[str, Any]:
    if set(bands) <= set(SENTINEL2_BANDS):
        return {'sensor': 'Sentinel-2 MSI', 'units': 'reflectance*10000', 'gsd': (10.0, 10.0)}
    if set(bands) <= set(SENTINEL1_BANDS):
        return {'sensor': 'Sentinel-1 C-SAR', 'units': 'dB', 'gsd': (10.0, 10.0)}
    if set(bands) == _PICTURE:
        return {'units': '8-bit'}
    return {}


def _sources(data: Any) -> list[str]:  # noqa: ANN401 - a datamodule
    """Names of the data sets."""
    roots = getattr(data, 'roots', None) or getattr(data, 'root', None) or []
    folders = [roots] if isinstance(roots, str | Path) else list(roots)
    names = sorted({Path(one).resolve().name for one in folders})
    return names or sorted({str(one) for one in getattr(data.dataset, 'sources', ())}) or ['data of its own']


def _name(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('._-') or 'model'
