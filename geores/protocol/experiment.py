"""An experiment with baselines: run every method, training ratio and repeat, and resume it if stopped."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from geores.datasets.folder import SceneFolder
from geores.errors import OutputError
from geores.io.whole_files import whole_files
from geores.protocol.encoder import BaselineEncoder
from geores.protocol.features import (
    SVM_GRID,
    Answers,
    Floats,
    colour_features,
    deep_features,
    kernel_machine,
    linear_svm,
)
from geores.protocol.last_stages import Maps, split_network, stage_maps, tune_last
from geores.protocol.options import METHODS, BaselineOptions
from geores.protocol.table import BaselineRun, BaselineTable, RunJournal, check_baselines, work_folder
from geores.splits import Split
from geores.splits.stratified import split_seed

__all__ = ['FROZEN', 'Experiment', 'Progress']

Progress = Callable[[BaselineRun, int, int], None]

FROZEN = frozenset({'deep', 'kernel', 'last'})
"""Methods that leave all or most of an encoder as it is, and so need its weights."""

_ENCODED = FROZEN | {'finetune'}

_PROTOCOL = (
    'For each repeat the training ratio is drawn at random from each class and the rest is the test part, '
    'the same for all methods; overall accuracy as mean and sample standard deviation over repeats '
    '(NWPU-RESISC45, Cheng, Han and Lu 2017).'
)


@dataclass(frozen=True)
class Experiment:
    """An experiment that is checked and ready to run: data, splits, methods and encoder.

    Args:
        dataset: labelled images, at the encoder's size.
        splits: (ratio, repeat) -> training and test part.
        encoder: encoder of deep features and fine-tuning.
        options: options as given by the user.
        methods: methods that will run.
        device: device, as torch names it.
        seen: whether the encoder seems to have been trained on these images.
        reported: results of others on the data by this protocol, one sentence each.
        further: encoders whose features stand beside those of `encoder`, for 'kernel'.
    """

    dataset: SceneFolder
    splits: dict[tuple[float, int], Split]
    encoder: BaselineEncoder
    options: BaselineOptions
    methods: tuple[str, ...]
    device: str
    seen: bool
    reported: tuple[str, ...] = ()
    further: tuple[BaselineEncoder, ...] = ()

    @property
    def name(self) -> str:
        """Name of the data."""
        return self.dataset.sources[0]

    @property
    def rows(self) -> dict[str, str]:
        """Method -> its name in the table."""
        name, mark = self.encoder.name, ' (trained on these images)' if self.seen else ''
        tuned = f'{name} from scratch' if self.encoder.source is None else f'fine-tuned {name}{mark}'
        every = [name, *(one.name for one in self.further)]
        names = {
            'colour': 'colour histogram + linear SVM',
            'deep': f'{name} features + linear SVM{mark}',
            'finetune': tuned,
            'kernel': f'{" + ".join(every)} features + Gaussian kernel{mark}',
            'last': f'last stages of {name} fine-tuned{mark}',
        }
        return {method: names[method] for method in self.methods}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for readers of the table."""
        notes = [
            f'{one!r} is left out: {self.encoder.name} has no weights; give --weights FILE, or a bundle as '
            '--encoder'
            for one in self.options.methods
            if one not in self.methods
        ]
        if 'finetune' in self.methods and self.encoder.source is None:
            notes.append(
                f"'finetune' trains {self.encoder.name} from scratch: there are no weights to start from"
            )
        if self.seen and set(self.methods) & _ENCODED:
            notes.append(
                f"rows of {self.encoder.name} are not honest: its card's training data includes "
                f'{self.name}, so that it has seen test images ({self.encoder.training_data})'
            )
        return (*notes, *self.reported)

    @cached_property
    def colour(self) -> Floats:
        """Colour histograms of all images."""
        return colour_features(self.dataset.images.paths)

    def deep(self, encoder: BaselineEncoder, kept: Path | None) -> Floats:
        """Features of all images by an encoder, computed once.

        Args:
            encoder: the encoder.
            kept: folder in which they are kept, so that a killed command does not compute them again.
        """
        if encoder.sha256 in self._features:
            return self._features[encoder.sha256]
        sides = '-mirrored' if self.options.mirrored else ''
        path = None if kept is None else kept / f'features-{encoder.sha256[:16]}{sides}.npy'
        if path is not None and path.exists():
            found: Floats = np.load(path, allow_pickle=False)
        else:
            self.dataset.images.load()
            mean, std = encoder.mean or (), encoder.std or ()  # known where there are weights
            found = deep_features(
                encoder.network(),
                self.dataset.images,
                mean,
                std,
                self.device,
                precision=self.options.precision,
                mirrored=self.options.mirrored,
            )
            if path is not None:
                with whole_files([path]) as (partial,):
                    np.save(partial, found)
        self._features[encoder.sha256] = found
        return found

    @cached_property
    def _features(self) -> dict[str, Floats]:
        return {}

    @cached_property
    def maps(self) -> Maps:
        """Maps of all images by the stages of the encoder that stay as they are."""
        self.dataset.images.load()
        mean, std = self.encoder.mean or (), self.encoder.std or ()
        trunk, _ = split_network(self.encoder.network())
        return stage_maps(trunk, self.dataset.images, mean, std, self.device, self.options.precision)

    def run(
        self,
        out: str | Path | None = None,
        *,
        resume: bool = True,
        overwrite: bool = False,
        progress: Progress | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> BaselineTable:
        """Run every method, ratio and repeat that is not finished yet.

        Args:
            out: folder for the results and unfinished work.
            resume: continue unfinished work in `out`.
            overwrite: replace results in `out`.
            progress: called with each finished run, the number of finished runs and of all runs.
            notice: called with each of `notes` before the first run.

        Returns:
            The table; with `out`, its files are written too.

        Raises:
            UsageError: if the output is taken, or an image cannot be read.
            WriteError: if results cannot be written.
        """
        folder = None if out is None else Path(out)
        if folder is not None:
            self._check_apart(folder)
            check_baselines(folder, overwrite=overwrite)
        with RunJournal(folder, self.key, resume=resume, overwrite=overwrite) as journal:
            if notice is not None:
                for note in self.notes:
                    notice(note)
            wanted = self._wanted()
            for count, (method, ratio, repeat) in enumerate(wanted, start=1):
                if (method, ratio, repeat) not in journal.runs:
                    journal.add(
                        self._one(method, ratio, repeat, None if folder is None else work_folder(folder))
                    )
                    if progress is not None:
                        progress(journal.runs[method, ratio, repeat], count, len(wanted))
            runs = sorted((journal.runs[key] for key in wanted), key=self._order)
            table = BaselineTable(runs, self.dataset.labels, self.rows, self.info, self.notes)
            if folder is not None:
                table.save(folder, overwrite=True)
                journal.remove()
        return table

    def _wanted(self) -> list[tuple[str, float, int]]:
        return [
            (method, ratio, repeat)
            for method in self.methods
            for repeat in range(self.options.repeats_of(method))
            for ratio in self.options.ratios
        ]

    def _check_apart(self, out: Path) -> None:
        classes = self.dataset.images.paths[0].resolve().parents[1]
        if classes in out.resolve().parents:
            raise OutputError(f'{out} lies among the images, as another class would: choose another --out')

    def _order(self, run: BaselineRun) -> tuple[int, float, int]:
        return self.methods.index(run.method), run.ratio, run.repeat

    def _one(self, method: str, ratio: float, repeat: int, kept: Path | None) -> BaselineRun:
        split = self.splits[ratio, repeat]
        seed = split_seed(self.options.seed, repeat)
        encoders = {'deep': [self.encoder], 'kernel': [self.encoder, *self.further]}.get(method, [])
        features = [self.colour] if method == 'colour' else [self.deep(one, kept) for one in encoders]
        if method == 'last':
            _ = self.maps  # once for all runs, as features are
        start = time.perf_counter()
        answers = self._answers(method, features, split, seed)
        return BaselineRun.score(
            self.dataset.targets[split.val],
            answers.classes,
            len(self.dataset.labels),
            method=method,
            ratio=ratio,
            repeat=repeat,
            train=len(split.train),
            setting=answers.setting,
            seconds=round(time.perf_counter() - start, 2),
        )

    def _answers(self, method: str, features: Sequence[Floats], split: Split, seed: int) -> Answers:
        classes, options = self.dataset.targets[split.train], self.options
        if method == 'finetune':
            return self._tune(split, seed)
        if method == 'last':
            _, tail = split_network(self.encoder.network())
            return tune_last(
                tail, self.maps, split, classes, epochs=options.epochs, seed=seed, device=self.device
            )
        train, test = ([one[rows] for one in features] for rows in (split.train, split.val))
        if method == 'kernel':
            return kernel_machine(train, classes, test, options.seed)
        return linear_svm(train[0], classes, test[0], options.svm_c, options.seed)

    def _tune(self, split: Split, seed: int) -> Answers:
        from geores.protocol.features import fine_tune

        self.dataset.images.load()
        options = self.options
        return fine_tune(
            self.dataset,
            split,
            self.encoder,
            epochs=options.epochs,
            batch_size=options.batch_size,
            seed=seed,
            device=self.device,
        )

    @property
    def key(self) -> dict[str, Any]:
        """Options that all finished runs of one table share."""
        encoder = {
            name: asdict(self.encoder)[name] for name in ('architecture', 'sha256', 'size', 'mean', 'std')
        }
        shared = ('epochs', 'batch_size', 'svm_c', 'seed', 'precision', 'mirrored')
        options = {name: getattr(self.options, name) for name in shared}
        return {
            'further': [[one.name, one.sha256] for one in self.further],
            'images': _fingerprint(self.dataset),
            **encoder,
            **options,
            'geores_version': version('geores'),
        }

    @property
    def info(self) -> dict[str, Any]:
        """Provenance of the figures, as plain JSON values."""
        counts = {
            label: int((self.dataset.targets == k).sum()) for k, label in enumerate(self.dataset.labels)
        }
        packages = ('geores', 'torch', 'timm', 'lightning', 'scikit-learn', 'numpy', 'pillow')
        return {
            'data': {
                'name': self.name,
                'images': len(self.dataset),
                'classes': counts,
                'fingerprint': _fingerprint(self.dataset),
            },
            'protocol': _PROTOCOL,
            'encoder': asdict(self.encoder),
            'further': [asdict(one) for one in self.further],
            'seen_in_training': [name for name in METHODS if name in _ENCODED and self.seen],
            'svm': f'C out of {", ".join(map(str, SVM_GRID))} by cross-validation inside the training part'
            if self.options.svm_c is None
            else f'C = {self.options.svm_c:g}',
            'options': asdict(self.options),
            'device': self.device,
            'splits': {f'{ratio:g}/{repeat}': split.id for (ratio, repeat), split in self.splits.items()},
            'versions': {name: version(name) for name in packages},
        }


def _fingerprint(dataset: SceneFolder) -> str:
    """Hash of the names and sizes of all files."""
    files = (f'{item.scene}/{item.path.name}:{item.path.stat().st_size}' for item in dataset.items)
    return hashlib.sha256('\n'.join(files).encode()).hexdigest()[:16]
