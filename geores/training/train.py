"""Train by a YAML file, on Lightning's own command line: once, or for each fold and then on everything."""

import argparse
import atexit
import hashlib
import json
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ActionYesNo, Namespace
from jsonargparse.typing import NonNegativeFloat, PositiveInt
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from safetensors import safe_open
from safetensors.torch import save
from torch import distributed

from geores.card_values import SplitParameters
from geores.errors import GeoresError, OutputError, UsageError
from geores.io.whole_files import write_whole
from geores.metrics.crossval import Evidence, Figures, Scores, cross_validated, summarised
from geores.plugins import DATASETS, TASKS, find_plugins
from geores.training.run_folders import TrainingRun, claim, fingerprints
from geores.training.trainer import EXPECTED_WARNINGS, Fitting

_logger = logging.getLogger(__name__)

_EXPECTED_WARNINGS = (
    *EXPECTED_WARNINGS,
    "LightningCLI's args parameter",  # it is called with arguments on purpose
    'Total length of .* across ranks is zero',  # where nothing is kept for validation
    'Experiment logs directory .* exists and is not empty',  # of a run that is continued
    'It is recommended to use `self.log.*sync_dist',  # the metrics have gathered all processes' samples
)
_CONFIGS = {'.yaml', '.yml', '.json'}
_SHOWN = ('val/loss', 'val/accuracy', 'val/ap_', 'val/f1_m', 'val/mae', 'val/rmse', 'val/r2')


class _Progress(Callback):
    """Logs one line per epoch, which suits a file as well as a terminal."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        figures = '  '.join(
            f'{name} {float(trainer.callback_metrics[name]):.3f}'
            for name in sorted(trainer.callback_metrics)
            if name.startswith(_SHOWN)
        )
        epoch = f'epoch {trainer.current_epoch + 1}/{trainer.max_epochs}'
        _logger.info('%s  %s', epoch, figures)


class _TrainCLI(LightningCLI):
    """Lightning's command line, which locks a run folder before anything is created.

    Args:
        name: name of the configuration.
        **kwargs: kwargs of Lightning's.

    Attributes:
        claimed: the folder; None where there is none to keep anything in.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's
        self.name = name
        self.claimed: TrainingRun | None = None
        super().__init__(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_subclass_arguments(Callback, 'export', required=False)
        for name in ('labels', 'bands', 'task'):
            parser.link_arguments(f'data.{name}', f'model.init_args.{name}', apply_on='instantiate')
        parser.add_argument(
            '--resume',
            action=ActionYesNo(yes_prefix='', no_prefix='no-'),
            default=True,
            help='Go on with the unfinished run of the same settings, if there is one.',
        )
        parser.add_argument(
            '--checkpoint_minutes',
            type=NonNegativeFloat,
            default=5.0,
            help='Minutes between checkpoints within an epoch; 0 keeps them at ends of epochs alone.',
        )
        parser.add_argument(
            '--checkpoint_steps',
            type=PositiveInt | None,
            default=None,
            help='Steps of the optimizer between checkpoints within an epoch, beside that.',
        )

    @property
    def keeps(self) -> bool:
        """Whether this run writes checkpoints."""
        trainer = self.config.trainer
        return trainer.enable_checkpointing is not False and not trainer.fast_dev_run

    def before_instantiate_classes(self) -> None:
        """Lock the run folder, and point the logger to it."""
        if self.config.trainer.fast_dev_run or getattr(rank_zero_only, 'rank', 0) not in {0, None}:
            return  # other processes are told where the first one goes on
        logger = self.config.trainer.logger
        given: Any = getattr(logger, 'init_args', None)
        placed = isinstance(given, Namespace) and all(key in given for key in ('save_dir', 'name', 'version'))
        follows = placed and given.version is None and given.save_dir is not None
        root = Path(given.save_dir, given.name or '') if follows else Path('runs', self.name)
        config = yaml.safe_load(self.parser.dump(self.config))
        self.claimed = claim(root, fingerprints(config), resume=self.config.resume and self.keeps)
        if follows:
            given.version = self.claimed.number
        self.save_config_kwargs['overwrite'] = self.claimed.resumed

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - Lightning's
        """Create the trainer, without Lightning's own checkpoints unless they are configured."""
        callbacks = self.config_init.trainer.callbacks or []
        asked = isinstance(callbacks, Checkpoint) or (
            isinstance(callbacks, list) and any(isinstance(one, Checkpoint) for one in callbacks)
        )
        if not asked:
            kwargs['enable_checkpointing'] = False
        return super().instantiate_trainer(**kwargs)

    def instantiate_classes(self) -> None:
        """Create task, data and trainer; if that fails, release the run folder."""
        try:
            super().instantiate_classes()
        except BaseException:
            if self.claimed is not None:
                self.claimed.fail()
            raise


def train(args: Sequence[str], configure: Callable[[Any], None] | None = None) -> Path:
    """Fit a task as a configuration says, or resume where the same command was stopped.

    Classes that packages declare (`geores.plugins`) go by their names alone, such as `class_path:
    BuiltUpShare`. Where no `export` is configured and the task has a method `export_bundle(folder)`, it is
    called in the end, with `bundle` in the run's folder; a task with `export_type()` is exported with a card
    that is filled from task and data.

    Args:
        args: args of Lightning's command line without a subcommand: `--config FILE`, and `--data.root`,
            `--trainer.max_epochs` and so on to override it.
        configure: called with the configured export before fitting; without an export this is an error.

    Returns:
        The folder of the run, `runs/<name of the configuration>/version_<n>` by default.

    Raises:
        UsageError: if the configuration or what it names is not usable.
        KeyboardInterrupt: if the user stopped it.
        SystemExit: if SIGTERM stopped it, or another process of the same training failed.
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
        if configure is not None and not cli.config_init.get('export'):
            if cli.claimed is not None:
                cli.claimed.fail()
            raise UsageError(f'{_config(args)}: has no export, which cross-validation needs')
        atexit.register(_leave_processes)
        return Fitting(cli, configure).run()


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
    for plugin in [*find_plugins(TASKS)[0], *find_plugins(DATASETS)[0]]:
        if plugin.name in words:
            try:
                plugin.load()
            except UsageError as error:
                _logger.warning('%s', error)


def _parse(args: list[str]) -> _TrainCLI:
    try:
        return _TrainCLI(
            Path(_config(args)).stem,
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
    """Names that a configuration can use, for the end of the help."""
    tasks, data = (
        ', '.join(f'{plugin.name} ({plugin.package})' for plugin in find_plugins(group)[0]) or 'none'
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
        'devices': 1,  # Lightning takes all GPUs unasked, and the batch grows with them
        'callbacks': [_Progress()],
        'enable_checkpointing': None,
        'enable_model_summary': False,
        'enable_progress_bar': False,
        'num_sanity_val_steps': 0,
        'log_every_n_steps': 10,
    }


PLACE = '{fold}'


def cross_validate(args: Sequence[str], folds: int, out: Path) -> Evidence:
    """Fit a configuration once per fold, then on everything.

    Writes to `out`: one bundle per fold (`fold1` ...), `crossval.json` with the figures, and the bundle
    trained on everything (`all`), whose card has the thresholds and figures of the folds. `{fold}` anywhere
    in the configuration becomes the name of the fold: so the configuration can name a teacher per fold that
    never saw the images that its student is scored on.

    Args:
        args: as in `train`; the configuration has to export.
        folds: number of folds, at least 2.
        out: folder to write; folds that stand there finished, by the same arguments and configuration,
            are not fitted again.

    Returns:
        Thresholds and figures.

    Raises:
        UsageError: if the configuration is not usable.
        OutputError: if the folder cannot be written.
    """
    if folds < 2:
        raise UsageError(f'folds have to be 2 or more, not {folds}')
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'{out}: cannot be written: {error.strerror}') from error
    parts = []
    for fold in range(1, folds + 1):
        own = [f'--data.folds={folds}', f'--data.fold={fold}']
        parts.append(_fold(args, own, out / f'fold{fold}'))
    evidence = _together(parts, f'{folds}-fold')._replace(split=SplitParameters(method='folds', folds=folds))
    _write(out / 'crossval.json', evidence)
    _fit(args, ['--data.val_share=0'], out / 'all', evidence)
    return evidence


def _together(parts: Sequence[Scores | Figures], split_id: str) -> Evidence:
    scores = [part for part in parts if isinstance(part, Scores)]
    if scores:
        return cross_validated(scores, split_id)
    return summarised([part for part in parts if isinstance(part, Figures)], split_id)


def _fold(args: Sequence[str], own: Sequence[str], folder: Path) -> Scores | Figures:
    """Fit a fold, or load the scores that an earlier run with the same options kept."""
    kept, key = folder.with_name(f'{folder.name}_scores.safetensors'), _key([*args, *own])
    if folder.is_dir() and kept.is_file():
        with safe_open(kept, framework='pt') as file:
            if file.metadata()['key'] == key:
                return _unpacked(file)
        raise OutputError(f'{folder} is of other options: choose another folder')
    begun = folder.with_name(f'{folder.name}_begun.txt')
    # A bundle without scores is of a run that was killed between the two, if that began it.
    again = begun.is_file() and begun.read_text(encoding='utf-8') == key
    if not folder.exists():
        write_whole(begun, key)
    scores = _fit(args, own, folder, None, overwrite=again)
    tensors, text = _packed(scores)
    write_whole(kept, save(tensors, {'key': key, **text}))
    begun.unlink(missing_ok=True)
    return scores


def _packed(scores: Scores | Figures) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if isinstance(scores, Figures):
        tensors, text = ({}, {}) if scores.scores is None else _packed(scores.scores)
        return tensors, text | {'figures': json.dumps(scores._replace(scores=None)._asdict())}
    tensors = {'values': scores.values.contiguous(), 'target': scores.target.contiguous()}
    return tensors, {'sources': json.dumps(scores.sources), 'labels': json.dumps(scores.labels)}


def _unpacked(file: Any) -> Scores | Figures:  # noqa: ANN401 - an open safetensors file
    text = file.metadata()
    figures = Figures(**json.loads(text['figures'])) if 'figures' in text else None
    if figures is not None and 'sources' not in text:
        return figures
    labels = tuple(json.loads(text.get('labels', '[]')))
    scores = Scores(file.get_tensor('values'), file.get_tensor('target'), json.loads(text['sources']), labels)
    return scores if figures is None else figures._replace(scores=scores)


def _key(args: Sequence[str]) -> str:
    """Hash the arguments, and the contents of configurations among them."""
    parts = [str(torch.__version__)]
    for one in args:
        path = Path(one.removeprefix('--config='))
        parts.append(path.read_text(encoding='utf-8') if path.is_file() else one)
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def _fit(
    args: Sequence[str],
    own: Sequence[str],
    folder: Path,
    evidence: Evidence | None,
    *,
    overwrite: bool = False,
) -> Scores | Figures:
    exports: list[Any] = []

    def configure(export: Any) -> None:  # noqa: ANN401 - ExportBundle, which imports Lightning
        export.path, export.evidence = str(folder), evidence
        export.overwrite = export.overwrite or overwrite
        exports.append(export)

    with tempfile.TemporaryDirectory() as scratch:
        train([*_placed(args, folder.name, Path(scratch)), *own], configure)
    scores: Scores | Figures = exports[0].scores
    return scores


def _placed(args: Sequence[str], fold: str, scratch: Path) -> list[str]:
    """Replace `{fold}` in the arguments and their configuration."""
    placed = []
    for one in args:
        path = Path(one.removeprefix('--config='))
        if path.suffix in {'.yaml', '.yml'} and path.is_file():
            copy = scratch / path.name
            copy.write_text(path.read_text(encoding='utf-8').replace(PLACE, fold), encoding='utf-8')
            placed.append(one.replace(str(path), str(copy)))
        else:
            placed.append(one.replace(PLACE, fold))
    return placed


def _write(path: Path, evidence: Evidence) -> None:
    thresholds = None if evidence.thresholds is None else evidence.thresholds.tolist()
    record = {'split_id': evidence.split_id, 'thresholds': thresholds, 'metrics': evidence.metrics}
    write_whole(path, json.dumps(record, indent=2) + '\n')
