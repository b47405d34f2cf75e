"""What geores reads of ONNX files: the weights of their convolutions, in the order of the graph."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from geores.errors import BundleError, UsageError

__all__ = ['ONNX', 'onnx_weights', 'require']

ONNX = '.onnx'
_LAYERS = frozenset({'Conv', 'ConvTranspose', 'Gemm', 'MatMul'})


def require(name: str) -> ModuleType:
    """Import a package of the extra `geores[onnx]`.

    Args:
        name: 'onnx' or 'onnxruntime'.

    Raises:
        UsageError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f'ONNX files need the package {name}: pip install "geores[onnx]"') from error


def onnx_weights(path: str | Path) -> dict[str, Tensor]:
    """Weights and biases of a file's convolutions and matrices, in the order of its nodes.

    Args:
        path: The ONNX file; its tensors have to lie in it.

    Returns:
        Name in the file -> tensor.

    Raises:
        BundleError: It cannot be read.
        UsageError: The package onnx is not installed.
    """
    onnx = require('onnx')
    try:
        graph = onnx.load(str(path)).graph
        found: Mapping[str, object] = {one.name: one for one in graph.initializer}
        return {
            name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(found[name])))
            for node in graph.node
            if node.op_type in _LAYERS
            for name in node.input
            if name in found
        }
    except Exception as error:  # whatever a file that is no ONNX makes of it
        reason = ' '.join(str(error).split())
        raise BundleError(f'{path}: the weights cannot be read: {reason}') from error
