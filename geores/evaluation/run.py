"""Evaluate a model on data with ground truth: labels of images, or answers to questions."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from geores.bundle import load_model
from geores.errors import UsageError
from geores.evaluation.data import Paths
from geores.evaluation.evaluate import Evaluator
from geores.evaluation.questions import holds_questions
from geores.evaluation.report import Evaluation
from geores.model import Model
from geores.runtime.base import pick_device

if TYPE_CHECKING:
    from geores.evaluation.question_evaluate import VQAEvaluator
    from geores.evaluation.question_report import VQAEvaluation
    from geores.vqa.model import VQAModel

__all__ = ['evaluate', 'prepare']


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
