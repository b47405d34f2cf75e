"""Networks in whole numbers of 8 bits: weights by channel, maps by ranges that tiles of the scene show.

By the quantisation of ONNX Runtime, which writes ONNX's own operators, so that OpenVINO computes the same
file. What is quantised is never chosen by itself: its answers are coarser than those of bfloat16.
"""

from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geores.errors import GeoresError, import_extra
from geores.runtime.base import Runtime
from geores.runtime.exported import (
    OpenVinoRuntime,
    Shape,
    cache_folder,
    digest_network,
    package_version,
    to_onnx,
)

__all__ = ['make_quantised', 'quantise']

KINDS = ('Conv', 'Gemm', 'MatMul')
"""Operators of which the first and the last stay in float32."""

BATCH = 8
"""Tiles at once while ranges are looked for."""


def make_quantised(network: nn.Module, shape: Shape, tiles: NDArray[np.float32]) -> Runtime:
    """Put a network in 8 bits under OpenVINO; the file is kept in the user's cache.

    ONNX Runtime gives other answers for the same file, far from those of float32.

    Args:
        network: in evaluation mode, on the CPU.
        shape: channels, height and width of the tiles.
        tiles: as `quantise` takes them.

    Raises:
        UsageError: if `onnx`, ONNX Runtime or OpenVINO is not installed.
        GeoresError: if the network cannot be quantised.
    """
    parts = [digest_network(network), sha256(tiles.tobytes()).hexdigest(), *map(str, shape)]
    parts += map(package_version, ('onnx', 'onnxruntime', 'torch', 'geores'))
    kept = cache_folder() / 'int8' / f'{sha256("|".join(parts).encode()).hexdigest()[:32]}.onnx'
    try:
        content = kept.read_bytes()
    except OSError:
        content = quantise(network, shape, tiles)
        with suppress(OSError):  # a cache that cannot be written costs time only
            kept.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=kept.parent) as folder:
                Path(folder, 'network').write_bytes(content)
                Path(folder, 'network').replace(kept)
    made = OpenVinoRuntime.of_onnx(content)
    made.precision = 'int8'
    return made


def quantise(network: nn.Module, shape: Shape, tiles: NDArray[np.float32]) -> bytes:
    """Write a network as ONNX that computes in 8 bits.

    Its first and last convolution or matrix stay in float32: pixels have more than 256 values, and logits
    decide.

    Args:
        network: a network in evaluation mode, on the CPU; it is not changed.
        shape: channels, height and width of the tiles.
        tiles: normalised tiles that show the ranges of its maps, (N, C, H, W).

    Raises:
        UsageError: if `onnx` or ONNX Runtime is not installed.
        GeoresError: if ONNX has no operator for something that the network does.
    """
    onnx = import_extra('onnx')
    import_extra('onnxruntime')
    quantization: Any = import_module('onnxruntime.quantization')
    shapes: Any = import_module('onnxruntime.quantization.shape_inference')

    with TemporaryDirectory() as name:
        plain, ready, done = (str(Path(name, f'{stage}.onnx')) for stage in ('plain', 'ready', 'done'))
        Path(plain).write_bytes(to_onnx(network, shape))
        try:
            shapes.quant_pre_process(plain, ready, skip_symbolic_shape=True)
            nodes = [node.name for node in onnx.load(ready).graph.node if node.op_type in KINDS]
            quantization.quantize_static(
                ready,
                done,
                _Tiles(tiles),
                quant_format=quantization.QuantFormat.QDQ,
                nodes_to_exclude=[nodes[0], nodes[-1]] if nodes else [],
                per_channel=True,
                # Without these instructions products of 8 bits are added up in 16, which overflow.
                reduce_range=not torch.cpu._is_vnni_supported(),
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
        except Exception as error:  # of the quantisation, whose kinds are not public
            told = ' '.join(str(error).split())[:300]
            raise GeoresError(f'the network cannot be computed in int8: {told}') from error
        return Path(done).read_bytes()


class _Tiles:
    """Gives ONNX Runtime the tiles in batches; it knows readers by their method."""

    def __init__(self, tiles: NDArray[np.float32]) -> None:
        self._rest = iter(np.array_split(tiles, -(-len(tiles) // BATCH)))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        part = next(self._rest, None)
        return None if part is None else {'images': np.ascontiguousarray(part)}
