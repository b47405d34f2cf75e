"""geores: from a satellite scene of any size to labels and answers.

>>> import geores
>>> result = geores.classify('scene.tif')  # doctest: +SKIP
>>> result.shares, result.scores, result.tiles  # doctest: +SKIP
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geores.bundle import load_model, save_bundle
    from geores.card import ModelCard, list_models
    from geores.model import Model
    from geores.pipelines.accuracy.assess import accuracy
    from geores.pipelines.accuracy.draw import sample
    from geores.pipelines.accuracy.report import AccuracyReport
    from geores.pipelines.accuracy.sample import Sample
    from geores.pipelines.asking.answer import SceneAnswer
    from geores.pipelines.asking.ask import ask
    from geores.pipelines.baselines.compare import baselines
    from geores.pipelines.classify import classify
    from geores.pipelines.evaluation.question_report import VQAEvaluation
    from geores.pipelines.evaluation.report import Evaluation
    from geores.pipelines.evaluation.run import evaluate
    from geores.pipelines.finetuning.finetune import finetune
    from geores.pipelines.finetuning.result import Finetuned
    from geores.pipelines.result import Classification
    from geores.scenes import Scene, open_scene

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
    'evaluate',
    'finetune',
    'list_models',
    'load_model',
    'open_scene',
    'sample',
    'save_bundle',
]

# Looked up on first use: `import geores` alone loads neither torch nor rasterio.
_HOMES = {
    'AccuracyReport': 'geores.pipelines.accuracy.report',
    'Classification': 'geores.pipelines.result',
    'Evaluation': 'geores.pipelines.evaluation.report',
    'Finetuned': 'geores.pipelines.finetuning.result',
    'Model': 'geores.model',
    'ModelCard': 'geores.card',
    'Sample': 'geores.pipelines.accuracy.sample',
    'Scene': 'geores.scenes',
    'SceneAnswer': 'geores.pipelines.asking.answer',
    'VQAEvaluation': 'geores.pipelines.evaluation.question_report',
    'accuracy': 'geores.pipelines.accuracy.assess',
    'ask': 'geores.pipelines.asking.ask',
    'baselines': 'geores.pipelines.baselines.compare',
    'classify': 'geores.pipelines.classify',
    'evaluate': 'geores.pipelines.evaluation.run',
    'finetune': 'geores.pipelines.finetuning.finetune',
    'list_models': 'geores.card',
    'load_model': 'geores.bundle',
    'open_scene': 'geores.scenes',
    'sample': 'geores.pipelines.accuracy.draw',
    'save_bundle': 'geores.bundle',
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
