"""Packages that only some jobs need, and the extra of geores that brings each.

Classifying and looking at scenes works with what `pip install geores` brings; training, asking and the
reBEN formats need more. What is missing is said in one line that names the extra.
"""

from importlib import import_module
from types import ModuleType
from typing import Final

from geores.errors import UsageError

__all__ = ['EXTRAS', 'MissingExtraError', 'import_extra', 'missing_extra']

EXTRAS: Final = {
    'dask': 'dask',
    'distributed': 'dask',
    'huggingface_hub': 'hub',
    'jsonargparse': 'train',
    'lightning': 'train',
    'lmdb': 'reben',
    'onnx': 'onnx',
    'onnxruntime': 'onnx',
    'openvino': 'fast',
    'osmium': 'osm',
    's2cloudless': 'clouds',
    'segmentation_models_pytorch': 'segmentation',
    'sklearn': 'train',
    'tokenizers': 'vqa',
    'torchgeo': 'train',
    'torchmetrics': 'train',
    'transformers': 'vqa',
}
"""Module -> the extra that installs it."""


class MissingExtraError(UsageError, ImportError):
    """What was asked for needs a package that is not installed; the message names its extra."""

    def __init__(self, module: str, need: str | None = None) -> None:
        need = need or f'this needs the package {module}, which is not installed'
        super().__init__(f'{need}: pip install "geores[{EXTRAS[module]}]"')
        self.name = module


def missing_extra(error: ImportError) -> MissingExtraError | None:
    """Say which extra a failed import needs.

    Args:
        error: what an import raised.

    Returns:
        The error to raise instead, or None where no extra of geores brings the module.
    """
    module = (error.name or '').partition('.')[0]
    if not isinstance(error, ModuleNotFoundError) or module not in EXTRAS:
        return None
    return MissingExtraError(module)


def import_extra(module: str, need: str | None = None) -> ModuleType:
    """Import a module that an extra brings, or say which extra does.

    Args:
        module: name of the module, within one of `EXTRAS`.
        need: what needs it, as the message says it; None says that this does.

    Raises:
        MissingExtraError: if it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition('.')[0], need) from error
