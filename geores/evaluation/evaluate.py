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
from geores.evaluation.data import Labelled, Paths, bring_to_labels, find_datasets
from geores.evaluation.files import PreparedEvaluation, Report
from geores.evaluation.questions import holds_questions
from geores.evaluation.report import Evaluation
from geores.evaluation.split import Part, are_known, check_part, kept_parts, take_part
from geores.model import Model
from geores.options import EvaluateOptions, takes
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
    def prepare(cls, model: Model, data: Paths, options: EvaluateOptions) -> Self:
        """Find the data, match labels, and read some images.

        Raises:
            UsageError: if something given cannot be used.
        """
        check_precision(model, options.precision)
        card, labels = model.card, options.labels
        kept = {} if labels is None else kept_parts(model.folder)
        if options.split is None:
            own = kept and not options.tiles and are_known(kept, _scenes(data, options.bands))
            split: Part = 'val' if own else 'all'
        else:
            split = check_part(options.split)
        datasets = find_datasets(card, data, options, split)
        labelled = bring_to_labels(card, datasets, options.label_map, ignore_unknown=options.ignore_unknown)
        labelled, warnings = take_part(card, labelled, split, _names(data, labelled), kept)
        _check_units(card, datasets)
        provenance = {
            'model': card.name,
            'model_sha256': card.sha256,
            'licence_of_weights': card.licence,
            'geores_version': version('geores'),
            'data': [fspath(path) for path in _paths(data)],
            'labels': None if labels is None else fspath(labels),
            'column': options.column,
            'split': split,
            'label_map': dict(options.label_map or {}),
            'images': len(labelled.indices),
        }
        return cls(
            model,
            labelled,
            options.batch_size,
            options.precision,
            options.workers,
            options.bootstrap,
            options.seed,
            provenance,
            warnings,
        )

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
            parts.append(torch.from_numpy(predictor.revised(images)['scores']))
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


@takes(EvaluateOptions)
def evaluate(
    model: str | Path | Model,
    data: Paths,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,  # noqa: ANN401 - those of `EvaluateOptions`
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
        **options: options of `EvaluateOptions`.

    Returns:
        The figures, as `metrics`, `confusion`, `predictions` and more.

    Raises:
        UsageError: if something given cannot be used; nothing was written.
        ReadError: if a scene could not be read.
        WriteError: if the results could not be written.
    """
    evaluator = prepare(model, data, EvaluateOptions.from_options(options))
    if out is not None:
        evaluator.check_output(Path(out), overwrite=overwrite)
    found = evaluator.run(progress)
    if out is not None:
        found.save(out, overwrite=overwrite)
    return found


def prepare(model: str | Path | Model, data: Paths, options: EvaluateOptions) -> 'Evaluator | VQAEvaluator':
    """Load the model and check everything else.

    Raises:
        UsageError: if something given cannot be used.
    """
    loaded = model if isinstance(model, Model) else load_model(model, pick_device(options.device))
    if loaded.card.task == 'vqa':
        from geores.evaluation.question_evaluate import VQAEvaluator

        return VQAEvaluator.prepare(cast('VQAModel', loaded), data, options)
    if options.train is not None:
        raise UsageError(f'train goes with models that answer questions, and {loaded.name} gives labels')
    folders = [data] if isinstance(data, str | PathLike) else list(data)
    asking = [folder for folder in folders if holds_questions(folder)]
    if asking:
        raise UsageError(
            f'{asking[0]}: holds questions, and {loaded.name} gives labels: take a model that answers '
            'questions, such as vqa-aerial'
        )
    return Evaluator.prepare(loaded, data, options)
