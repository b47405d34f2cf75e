"""Networks that are ONNX files, run by ONNX Runtime.

An ONNX file is data: it holds no code, unlike a pickle. Files that ask for operators of other domains than
ONNX's own, or for weights in other files, are refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geores.errors import BundleError, GeoresError, UsageError
from geores.runtime.base import Precision
from geores.weight_files import require_onnx

__all__ = ['ARCHITECTURE', 'ONNX_FILE', 'OnnxNetwork', 'OnnxRuntime', 'check_arguments', 'read_onnx']

ARCHITECTURE = 'onnx'
"""Architecture in the card of a network that is an ONNX file."""

ONNX_FILE = 'model.onnx'
LAYOUTS = ('NCHW', 'NHWC')
DOMAINS = frozenset({'', 'ai.onnx', 'ai.onnx.ml'})
"""Operators of ONNX itself; a runtime may know others, which no other runtime has to know."""


class OnnxNetwork(nn.Module):
    """An ONNX file as a module: the same call as any other network, always on the CPU in float32.

    Args:
        content: content of the file.
        layout: order of the axes of its input, and of its output where it labels pixels: 'NCHW' or 'NHWC'.

    Raises:
        UsageError: if the extra `onnx` is not installed, or the layout is unknown.
        BundleError: if the file is no ONNX file that may be run.
    """

    def __init__(self, content: bytes, layout: str = 'NCHW') -> None:
        super().__init__()
        if layout not in LAYOUTS:
            raise UsageError(f'layout has to be one of {", ".join(LAYOUTS)}, not {layout!r}')
        self.layout = layout
        runtime = require_onnx('onnxruntime')
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # batches run side by side instead
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
        except Exception as error:  # ONNX Runtime has its own kinds, which are not public
            raise BundleError(f'ONNX Runtime cannot load it: {_one_line(error)}') from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleError(
                f'it has {len(inputs)} inputs and {len(outputs)} outputs, and one of each is needed'
            )
        if inputs[0].type != 'tensor(float)':
            raise BundleError(f'its input is {inputs[0].type}, and float32 is needed')
        self._input, self._output = inputs[0].name, outputs[0].name

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits of images.

        Args:
            images: (N, C, H, W), float32.

        Returns:
            (N, K), or (N, K, H, W).

        Raises:
            GeoresError: if the file does not take images of that shape.
        """
        array = images.detach().cpu().float()
        if self.layout == 'NHWC':
            array = array.permute(0, 2, 3, 1)
        try:
            (logits,) = self._session.run([self._output], {self._input: array.contiguous().numpy()})
        except Exception as error:
            shape = tuple(array.shape)
            raise GeoresError(
                f'the ONNX file does not take input of shape {shape}: {_one_line(error)}'
            ) from error
        answers = torch.from_numpy(np.asarray(logits))
        return answers.permute(0, 3, 1, 2) if self.layout == 'NHWC' and answers.ndim == 4 else answers


class OnnxRuntime:
    """An ONNX file as a `geores.runtime.base.Runtime`.

    Args:
        network: the file.
    """

    name = 'onnxruntime'
    precision: Precision = 'fp32'

    def __init__(self, network: OnnxNetwork) -> None:
        self._network = network

    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits of normalised images, as `geores.runtime.base.Runtime` says."""
        return self._network(images)  # type: ignore[no-any-return]


def read_onnx(path: Path, arguments: Mapping[str, Any]) -> OnnxNetwork:
    """Read the network of an ONNX file.

    Args:
        path: the file.
        arguments: the card's `architecture_kwargs`: `layout` or nothing.

    Raises:
        BundleError: if it is missing, damaged, or asks for more than an ONNX file of a bundle may.
        UsageError: if the extra `onnx` is not installed, or an argument is unknown.
    """
    check_arguments(arguments)
    library = require_onnx('onnx')
    try:
        content = path.read_bytes()
        model = library.load_model_from_string(content)
    except OSError as error:
        raise BundleError(f'{path}: cannot be read: {error.strerror or error}') from error
    except Exception as error:  # of protobuf
        raise BundleError(f'{path}: damaged or not ONNX: {_one_line(error)}') from error
    strange = sorted({one.domain for one in model.opset_import} - DOMAINS)
    if strange:
        raise BundleError(
            f'{path}: asks for operators of {strange[0]!r}, and only those of ONNX itself may run'
        )
    if any(one.data_location == library.TensorProto.EXTERNAL for one in _tensors(model.graph)):
        raise BundleError(f'{path}: keeps weights in other files: save it with them inside')
    try:
        return OnnxNetwork(content, **arguments)
    except BundleError as error:
        raise BundleError(f'{path}: {error}') from error


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check the arguments that a card states for an ONNX file.

    Args:
        arguments: the card's `architecture_kwargs`.

    Raises:
        UsageError: if there is more than `layout`.
    """
    unknown = sorted(arguments.keys() - {'layout'})
    if unknown:
        raise UsageError(f'architecture {ARCHITECTURE!r} takes no argument {unknown[0]!r}, only layout')


def _tensors(graph: Any) -> list[Any]:  # noqa: ANN401 - onnx.GraphProto
    """Every tensor that a graph and the graphs inside its operators hold."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                found += _tensors(inner)
    return found


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())
