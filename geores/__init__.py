"""geores: from a satellite scene of any size to labels and answers.

Names are imported when they are first used.

>>> import geores
>>> result = geores.classify('scene.tif')  # doctest: +SKIP
>>> result.shares, result.scores, result.tiles  # doctest: +SKIP
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geores.asking.answer import SceneAnswer
    from geores.asking.ask import ask
    from geores.bundle import load_model, save_bundle
    from geores.card import ModelCard, list_models
    from geores.classification.classify import classify, classify_many
    from geores.classification.merge import merge
    from geores.classification.result import Classification
    from geores.evaluation.evaluate import evaluate
    from geores.evaluation.predictions import evaluate_predictions
    from geores.evaluation.question_evaluate import VQAEvaluation
    from geores.evaluation.report import Evaluation
    from geores.map_accuracy.assess import AccuracyReport, accuracy
    from geores.map_accuracy.sampling import Sample, sample
    from geores.model import Model
    from geores.protocol.compare import baselines
    from geores.scenes import Scene, open_scene
    from geores.training.finetune import finetune
    from geores.training.finetune_result import Finetuned

__version__ = version('geores')

__all__ = [
    'AccuracyReport',
    'Classification',
    'Evaluation',
    'Finetuned',
    'Model',
    'ModelCard',
    'Sample',
    'Scene',
    'SceneAnswer',
    'VQAEvaluation',
    '__version__',
    'accuracy',
    'ask',
    'baselines',
    'classify',
    'classify_many',
    'evaluate',
    'evaluate_predictions',
    'finetune',
    'list_models',
    'load_model',
    'merge',
    'open_scene',
    'sample',
    'save_bundle',
]

# Looked up on first use: `import geores` alone loads neither torch nor rasterio.
_HOMES = {
    'AccuracyReport': 'geores.map_accuracy.assess',
    'Classification': 'geores.classification.result',
    'Evaluation': 'geores.evaluation.report',
    'Finetuned': 'geores.training.finetune_result',
    'Model': 'geores.model',
    'ModelCard': 'geores.card',
    'Sample': 'geores.map_accuracy.sampling',
    'Scene': 'geores.scenes',
    'SceneAnswer': 'geores.asking.answer',
    'VQAEvaluation': 'geores.evaluation.question_evaluate',
    'accuracy': 'geores.map_accuracy.assess',
    'ask': 'geores.asking.ask',
    'baselines': 'geores.protocol.compare',
    'classify': 'geores.classification.classify',
    'classify_many': 'geores.classification.classify',
    'evaluate': 'geores.evaluation.evaluate',
    'evaluate_predictions': 'geores.evaluation.predictions',
    'finetune': 'geores.training.finetune',
    'list_models': 'geores.card',
    'load_model': 'geores.bundle',
    'merge': 'geores.classification.merge',
    'open_scene': 'geores.scenes',
    'sample': 'geores.map_accuracy.sampling',
    'save_bundle': 'geores.bundle',
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from geores.errors import missing_extra

        if (missing := missing_extra(error)) is None:
            raise
        raise missing from error


def __dir__() -> list[str]:
    return sorted(__all__)
