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
    from geores.pipelines.classify import classify
    from geores.pipelines.result import Classification
    from geores.scenes import Scene, open_scene

__version__ = version('geores')

__all__ = [
    'Classification',
    'Model',
    'ModelCard',
    'Scene',
    '__version__',
    'classify',
    'list_models',
    'load_model',
    'open_scene',
    'save_bundle',
]

# Looked up on first use: `import geores` alone loads neither torch nor rasterio.
_HOMES = {
    'Classification': 'geores.pipelines.result',
    'Model': 'geores.model',
    'ModelCard': 'geores.card',
    'Scene': 'geores.scenes',
    'classify': 'geores.pipelines.classify',
    'list_models': 'geores.card',
    'load_model': 'geores.bundle',
    'open_scene': 'geores.scenes',
    'save_bundle': 'geores.bundle',
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
