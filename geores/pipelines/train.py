"""Training by a YAML file, on Lightning's own command line."""

import argparse
import atexit
import logging
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from torch import distributed

from geores.errors import GeoresError, UsageError
from geores.pipelines.trainer import EXPECTED_WARNINGS
from geores.plugins import DATASETS, TASKS, plugins

_EXPECTED_WARNINGS = (
    *EXPECTED_WARNINGS,
    "LightningCLI's args parameter",  # it is called with arguments on purpose
    'Total length of .* across ranks is zero',  # where nothing is kept for validation
    'It is recommended to use `self.log.*sync_dist',  # the metrics have gathered all processes' samples
)
_CONFIGS = {'.yaml', '.yml', '.json'}
_SHOWN = ('val/loss', 'val/accuracy', 'val/ap_', 'val/f1_m', 'val/mae', 'val/rmse', 'val/r2')
_MEANS = ('/accuracy', '/miou')  # of figures that have a source in their name


class _Progress(Callback):
    """One line an epoch, which a log file can hold as well as a terminal."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        figures = '  '.join(
            f'{name} {float(trainer.callback_metrics[name]):.3f}'
            for name in sorted(trainer.callback_metrics)
            if name.startswith(_SHOWN) or name.endswith(_MEANS)
        )
        epoch = f'epoch {trainer.current_epoch + 1}/{trainer.max_epochs}'
        print(f'{epoch}  {figures}', file=sys.stderr, flush=True)


class _TrainCLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_subclass_arguments(Callback, 'export', required=False)
        for name in ('labels', 'bands', 'task'):
            parser.link_arguments(f'data.{name}', f'model.init_args.{name}', apply_on='instantiate')


def train(args: Sequence[str], configure: Callable[[Any], None] | None = None) -> Path:
    """Fit a task as a configuration says.

    Classes that packages declare (`geores.plugins`) go by their names alone, such as `class_path:
    BuiltUpShare`. Where no `export` is configured and the task has a method `export_bundle(folder)`, it is
    called in the end, with `bundle` in the run's folder.

    Args:
        args: Of Lightning's command line without a subcommand: `--config FILE`, and `--data.root`,
            `--trainer.max_epochs` and so on to override it.
        configure: Called with the configured export before fitting, which has to be there then.

    Returns:
        The folder of the run, `runs/<name of the configuration>/version_<n>` by default.

    Raises:
        UsageError: The configuration or what it names is not usable.
    """
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings('ignore', message)
        # Lightning uses what jsonargparse is about to drop.
        warnings.filterwarnings('ignore', '', DeprecationWarning, r'lightning\.pytorch\.cli')
        for name in ('lightning.pytorch', 'lightning.fabric'):
            logging.getLogger(name).setLevel(logging.WARNING)
        _import_named(list(args))
        cli = _parse(list(args))
        export = cli.config_init.get('export')
        if export:
            cli.trainer.callbacks.append(export)  # type: ignore[attr-defined]
        if configure is not None:
            if not export:
                raise UsageError(f'{_config(args)}: has no export, which cross-validation needs')
            configure(export)
        atexit.register(_leave_processes)
        cli.trainer.fit(cli.model, cli.datamodule)
        run = Path(cli.trainer.log_dir or '.')
        if not export and hasattr(cli.model, 'export_bundle') and cli.trainer.is_global_zero:
            cli.model.export_bundle(run / 'bundle')
            print(f'bundle written to {run / "bundle"}')
    return run


def _leave_processes() -> None:
    """Leave the group of processes while Python is whole, as Lightning does for NCCL only.

    Gloo's threads may hold tensors still, and one that lets go of them later aborts the process
    (pytorch/pytorch#179291).
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _import_named(args: Sequence[str]) -> None:
    """Import the plugins that are named, for jsonargparse knows imported classes by name.

    No other is imported: what nobody asks for can neither fail nor cost time.
    """
    paths = [Path(arg.rpartition('=')[2]) for arg in args]  # of `--config FILE` and `--model=FILE` alike
    files = [path for path in paths if path.suffix in _CONFIGS and path.is_file()]
    texts = [path.read_text(encoding='utf-8', errors='replace') for path in files]
    words = set(re.findall(r'\w+', ' '.join([*texts, *args])))
    for plugin in [*plugins(TASKS)[0], *plugins(DATASETS)[0]]:
        if plugin.name in words:
            try:
                plugin.load()
            except UsageError as error:
                print(f'geores: warning: {error}', file=sys.stderr)


def _parse(args: list[str]) -> _TrainCLI:
    try:
        return _TrainCLI(
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            args=args,
            seed_everything_default=0,
            trainer_defaults=_trainer_defaults(Path(_config(args)).stem),
            parser_kwargs={'exit_on_error': False, 'epilog': _named()},
            auto_configure_optimizers=False,
        )
    except (argparse.ArgumentError, ValueError, TypeError) as error:
        raise UsageError(f'training by {_config(args)} cannot start: {_reason(error)}') from error


def _named() -> str:
    """What can be named, for the end of the help."""
    tasks, data = (
        ', '.join(f'{plugin.name} ({plugin.package})' for plugin in plugins(group)[0]) or 'none'
        for group in (TASKS, DATASETS)
    )
    return f'Tasks that packages offer: {tasks}. Datamodules: {data}. `geores train --list` says more.'


def _reason(error: BaseException) -> str:
    # jsonargparse wraps what a class refuses into pages about types: our own words are enough.
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, GeoresError):
        inner = inner.__cause__ or inner.__context__
    return ' '.join(str(inner or error).split()).split(' Given value type')[0]


def _config(args: Sequence[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('-c', '--config', default='train')
    return str(parser.parse_known_args(args)[0].config)


def _trainer_defaults(name: str) -> dict[str, Any]:
    logger = {
        'class_path': 'lightning.pytorch.loggers.CSVLogger',
        'init_args': {'save_dir': 'runs', 'name': name},
    }
    return {
        'logger': logger,
        'callbacks': [_Progress()],
        'enable_checkpointing': False,
        'enable_model_summary': False,
        'enable_progress_bar': False,
        'num_sanity_val_steps': 0,
        'log_every_n_steps': 10,
    }
