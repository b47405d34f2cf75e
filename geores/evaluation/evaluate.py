"""Evaluate a model on data with ground truth: labels of images, or answers to questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from geores.bundle import load_model
from geores.card import ModelCard
from geores.card_values import Units
from geores.errors import DatasetError, UsageError
from geores.evaluation.data import Labelled, Mode, Paths, bring_to_labels, find_datasets
from geores.evaluation.files import PreparedEvaluation, Report
from geores.evaluation.questions import holds_questions
from geores.evaluation.report import Evaluation
from geores.evaluation.split import Part, are_known, check_part, kept_parts, take_part
from geores.model import Model
from geores.runtime.base import exact_float32, pick_device
from geores.runtime.predictor import check_precision, choose_predictor

if TYPE_CHECKING:
    from geores.datasets._module import LabelledImages
    from geores.evaluation.question_evaluate import VQAEvaluation, VQAEvaluator
    from geores.vqa.model import VQAModel

__all__ = ['Evaluator', 'evaluate', 'prepare']

Progress = Callable[[int, int], None]
PROBES = 16
BRIGHTEST = 2.0
"""Floating point pixels that never exceed it are reflectances of 0 to 1."""


@dataclass(frozen=True)
class Evaluator(PreparedEvaluation):
    """An evaluation that is checked and ready to run; `prepare` makes it."""

    report: ClassVar[type[Report]] = Evaluation

    model: Model
    labelled: Labelled
    batch_size: int
    precision: str
    workers: int
    replicates: int
    seed: int
    provenance: Mapping[str, Any]
    warnings: tuple[str, ...]

    @classmethod
    def prepare(
        cls,
        model: Model,
        data: Paths,
        *,
        labels: str | PathLike[str] | None = None,
        column: str | None = None,
        mode: Mode | None = None,
        bands: Sequence[str] | None = None,
        sensor: str | None = None,
        offset: str | float = 'auto',
        split: Part | None = None,
        label_map: Mapping[str, str] | None = None,
        ignore_unknown: bool = False,
        batch_size: int = 32,
        precision: str = 'fp32',
        workers: int = 0,
        bootstrap: int = 1000,
        seed: int = 0,
        reben: Mapping[str, Any] | None = None,
        **tiles: Any,  # noqa: ANN401 - options of SceneTiles
    ) -> Self:
        """Find the data, match labels, and read some images.

        Args:
            model: the loaded model.
            data: as in `geores.evaluate`.
            labels: vector file of polygons or points over scenes.
            column: column of the vector file, with the class.
            mode: 'scene' or 'multi-label'; None takes the model's.
            bands: names of the bands in the order of the files, where GeoTIFFs do not describe them.
            sensor: which sensor scenes are of, where that is not to be decided: see `geores.open_scene`.
            offset: what is to be added to Sentinel-2's digital numbers: see `geores.open_scene`.
            split: None takes 'val' of a fine-tuned bundle on the scenes that it was tuned on, else 'all';
                'val' or 'train' takes that part of the split on the model's card, where the data is
                what was split there; of BigEarthNet, 'train', 'val' and 'test' are the official parts.
            label_map: label of the data -> label of the model, where they differ.
            ignore_unknown: leave out what the model does not know, which else is an error.
            batch_size: images in one forward pass.
            precision: 'auto', 'fp32', 'bf16' or 'fp16'.
            workers: processes that read images beside this one.
            bootstrap: bootstrap replicates for confidence intervals; 0 gives no intervals.
            seed: seed of the bootstrap.
            reben: for BigEarthNet: `metadata` and `snow_and_clouds` of `geores.datasets.ReBEN`.
            **tiles: options of `geores.datasets.SceneTiles`, such as `resolution` or `min_share`.

        Raises:
            UsageError: if something given cannot be used.
        """
        check_precision(model, precision)
        card = model.card
        if split is not None:
            check_part(split)
        given: dict[str, Any] = {'mode': mode, 'bands': bands, 'labels': labels, 'column': column}
        given |= {'sensor': sensor, 'offset': offset}
        kept = {} if labels is None else kept_parts(model.folder)
        if split is None:
            split = 'val' if kept and not tiles and are_known(kept, _scenes(data, bands)) else 'all'
        datasets = find_datasets(card, data, split=split, reben=reben, **given, **tiles)
        labelled = bring_to_labels(card, datasets, label_map, ignore_unknown=ignore_unknown)
        labelled, warnings = take_part(card, labelled, split, _names(data, labelled), kept)
        _check_units(card, datasets)
        provenance = {
            'model': card.name,
            'model_sha256': card.sha256,
            'licence_of_weights': card.licence,
            'geores_version': version('geores'),
            'data': [fspath(path) for path in _paths(data)],
            'labels': None if labels is None else fspath(labels),
            'column': column,
            'split': split,
            'label_map': dict(label_map or {}),
            'images': len(labelled.indices),
        }
        return cls(
            model, labelled, batch_size, precision, workers, bootstrap, seed, provenance, warnings
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.name

    def run(self, progress: Progress | None = None) -> Evaluation:
        """Predict all images batch by batch, keeping only their scores.

        Args:
            progress: called with the number of images just done and of all images.

        Raises:
            DatasetError: if an image cannot be read, or holds NaN.
        """
        scores, precision = self._scores(progress)
        labelled, kept = self.labelled, self.labelled.indices
        told = {'device': str(self.model.device), 'precision': precision}
        if self.replicates:
            told |= {'bootstrap': {'replicates': self.replicates, 'seed': self.seed}}  # type: ignore[dict-item]
        return Evaluation(
            card=self.model.card,
            scores=scores,
            target=labelled.target[kept],
            ids=tuple(labelled.ids[index] for index in kept),
            sources=tuple(labelled.sources[index] for index in kept),
            known=labelled.known,
            provenance=dict(self.provenance) | told,
            notes=labelled.notes,
            warnings=self.warnings,
            replicates=self.replicates,
            seed=self.seed,
        )

    @exact_float32()
    def _scores(self, progress: Progress | None) -> tuple[torch.Tensor, str]:
        from geores.datasets._module import collate

        total, predictor, parts = len(self.labelled.indices), None, []
        loader = DataLoader(
            Subset(self.labelled.dataset, self.labelled.indices.tolist()),
            self.batch_size,
            num_workers=self.workers,
            collate_fn=collate,
        )
        for batch in loader:
            images = self._images(batch)
            if predictor is None:
                predictor = choose_predictor(self.model, self.precision, images[:PROBES])
                chosen = predictor.precision
            parts.append(torch.from_numpy(predictor(images)['scores']))
            if progress is not None:
                progress(len(images), total)
        return torch.cat(parts), chosen

    def _images(self, batch: Mapping[str, Any]) -> 'np.ndarray[Any, np.dtype[np.float32]]':
        """Images (N, C, H, W) of a batch, its bands in the card's order."""
        bands = batch['bands'][0]
        images = batch['image'][:, [bands.index(band) for band in self.model.card.bands]]
        whole = torch.isfinite(images).flatten(1).all(1)
        if not whole.all():
            raise DatasetError(
                f'{batch["id"][int(whole.long().argmin())]}: the image holds NaN or infinite values'
            )
        return np.asarray(images.numpy())


def _check_units(card: ModelCard, datasets: 'list[LabelledImages]') -> None:
    """Read some images to check their units: files do not state them, and wrong ones spoil all results."""
    from geores.datasets import SceneTiles

    for dataset in datasets:
        if isinstance(dataset, SceneTiles):  # brings pixels to the card's units itself
            continue
        places = np.linspace(0, len(dataset) - 1, PROBES).astype(int)
        pixels = [dataset.images[int(place)] for place in np.unique(places)]
        kind, brightest = pixels[0].dtype, max(np.nan_to_num(image).max() for image in pixels)
        other = kind != np.uint8 if card.units == Units.EIGHT_BIT else kind == np.uint8
        fractions = card.units == Units.REFLECTANCE and kind.kind == 'f' and brightest <= BRIGHTEST
        if other or fractions:
            raise UsageError(
                f'{dataset.images.paths[0]}: {kind} up to {brightest:g}, and {card.name} takes {card.units}: '
                'convert the patches'
            )


def _paths(data: Paths) -> list[str | PathLike[str]]:
    return [data] if isinstance(data, (str, PathLike)) else list(data)


def _scenes(data: Paths, bands: Sequence[str] | None) -> list[str]:
    """Names of scenes, from their headers."""
    from geores.scenes import open_scene

    return [open_scene(path, bands=bands).name for path in _paths(data)]


def _names(data: Paths, labelled: Labelled) -> list[str]:
    """Names under which a card may mention the data: those of its sources and folders."""
    folders = [name for path in _paths(data) for name in Path(path).resolve().parts[-2:]]
    return sorted({*labelled.sources, *folders, *(Path(name).stem for name in folders)})


def evaluate(
    model: str | Path | Model,
    data: Paths,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,  # noqa: ANN401 - those of an evaluator's prepare
) -> 'Evaluation | VQAEvaluation':
    """Compare the predictions of a model with ground truth.

    Args:
        model: name or path of a bundle, or a loaded model.
        data: folders with one subfolder per class (with `multilabels.csv` for a multi-label model);
            folders of GeoTIFF patches with `labels.csv`; or, with `labels`, scenes. For a model that
            answers questions: folders in a layout of RSVQA.
        out: folder for tables and plots.
        overwrite: replace what stands there.
        progress: called with the number of images just done and of all images.
        **options: those of `Evaluator.prepare`, or of `VQAEvaluator.prepare` and `device`.

    Returns:
        The figures, as `metrics`, `confusion`, `predictions` and more.

    Raises:
        UsageError: if something given cannot be used; nothing was written.
        ReadError: if a scene could not be read.
        WriteError: if the results could not be written.
    """
    evaluator = prepare(model, data, **options)
    if out is not None:
        evaluator.check_output(Path(out), overwrite=overwrite)
    found = evaluator.run(progress)
    if out is not None:
        found.save(out, overwrite=overwrite)
    return found


def prepare(
    model: str | Path | Model,
    data: Paths,
    *,
    train: Paths | None = None,
    device: str = 'auto',
    batch_size: int = 32,
    workers: int = 0,
    bootstrap: int = 1000,
    **options: Any,  # noqa: ANN401
) -> 'Evaluator | VQAEvaluator':
    """Load the model and check everything else.

    Args:
        model: name or path of a bundle, or a loaded model.
        data: as in `evaluate`.
        train: for a model that answers questions: folders that its baselines learn from.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        batch_size: images in one forward pass.
        workers: processes that read images beside this one.
        bootstrap: bootstrap replicates for confidence intervals; 0 gives no intervals.
        **options: further ones of the evaluator's `prepare`.

    Raises:
        UsageError: if something given cannot be used.
    """
    numbers: dict[str, Any] = {'batch_size': batch_size, 'workers': workers, 'bootstrap': bootstrap}
    for name, value in numbers.items():
        least = int(name == 'batch_size')
        if value < least:
            raise UsageError(f'{name} has to be {least} or more, not {value}')
    if options.get('split') is None:
        options.pop('split', None)
    loaded = model if isinstance(model, Model) else load_model(model, pick_device(device))
    if loaded.card.task == 'vqa':
        from geores.evaluation.question_evaluate import VQAEvaluator

        return VQAEvaluator.prepare(cast('VQAModel', loaded), data, train=train, **numbers, **options)
    if train is not None:
        raise UsageError(f'train goes with models that answer questions, and {loaded.name} gives labels')
    folders = [data] if isinstance(data, str | PathLike) else list(data)
    asking = [folder for folder in folders if holds_questions(folder)]
    if asking:
        raise UsageError(
            f'{asking[0]}: holds questions, and {loaded.name} gives labels: take a model that answers '
            'questions, such as vqa-aerial'
        )
    return Evaluator.prepare(loaded, data, **numbers, **options)
