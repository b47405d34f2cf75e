"""Networks handed to runtimes that torch does not bring: OpenVINO and ONNX Runtime (`geores[fast]`).

A network is traced at the size of its tiles, with its batch normalisations folded; what OpenVINO makes of it
is kept in the user's cache, since the conversion takes seconds. Both runtimes compute each batch in one
thread, as torch does here: batches run side by side.

In whole numbers of 8 bits OpenVINO computes what ONNX Runtime's quantisation writes: weights by channel, maps
by ranges that tiles of the scene show. That is never chosen by itself: its answers are coarser than those of
bfloat16.
"""

import io
import os
import warnings
from contextlib import suppress
from copy import deepcopy
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import local
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geores.errors import GeoresError, import_extra
from geores.runtime.base import Precision, Runtime, one_thread_each, round_keeping_sums
from geores.runtime.eager import fold_batch_norms
from geores.runtime.onnx import OnnxNetwork, OnnxRuntime

__all__ = [
    'OpenVinoRuntime',
    'RuntimeName',
    'Shape',
    'cache_folder',
    'digest_network',
    'installed_runtimes',
    'is_kept',
    'make_quantised',
    'package_version',
    'quantise',
    'to_onnx',
    'to_onnx_runtime',
]

RuntimeName: TypeAlias = Literal['torch', 'openvino', 'onnxruntime']

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height and width of the tiles."""

TRACED = 2
"""Images that a network is traced with: with one, an axis could be taken for one that is always 1."""

UNREACHED = 3e38
"""Nearly the largest number of float32 and bfloat16."""

OPSET = 17
"""Version of ONNX's operators, which every ONNX Runtime of the extra knows."""


def installed_runtimes() -> tuple[RuntimeName, ...]:
    """Name the runtimes that can be used here, torch first; nothing is imported."""
    found: list[RuntimeName] = ['torch']
    if find_spec('openvino') is not None:
        found.append('openvino')
    if find_spec('onnxruntime') is not None and find_spec('onnx') is not None:
        found.append('onnxruntime')
    return tuple(found)


def cache_folder() -> Path:
    """The folder of what can be computed again: `$GEORES_CACHE`, else `geores` in the user's cache."""
    stated = os.environ.get('GEORES_CACHE')
    if stated:
        return Path(stated)
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'geores')


def digest_network(network: nn.Module) -> str:
    """Digest a network's layers, weights and buffers: another network has another digest.

    Not the hash of the bundle's file, for a network in memory can have been changed since.
    """
    digest = sha256(str(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class OpenVinoRuntime:
    """A network under OpenVINO, as a `geores.runtime.base.Runtime` on the CPU.

    Args:
        network: a network in evaluation mode; it is not changed.
        shape: channels, height and width of the tiles.
        precision: 'fp32' or 'bf16'.
        digest: of the network, under which the converted one is kept; computed where not given.

    Raises:
        UsageError: if OpenVINO is not installed.
        GeoresError: if the network cannot be converted.
    """

    name = 'openvino'

    def __init__(
        self, network: nn.Module, shape: Shape, precision: Precision, *, digest: str | None = None
    ) -> None:
        library, core = import_extra('openvino'), _core()
        kept = _kept_at(digest or digest_network(network), shape, precision)
        self._compile(_read(core, kept) or _convert(library, network, shape, precision, kept), precision)

    @classmethod
    def of_onnx(cls, content: bytes) -> Self:
        """Take a network that is an ONNX file, in float32 but for what the file says.

        Args:
            content: of the file.

        Raises:
            UsageError: if OpenVINO is not installed.
            GeoresError: if it cannot take the file.
        """
        import_extra('openvino')
        made = cls.__new__(cls)
        try:
            made._compile(_core().read_model(content), 'fp32')
        except RuntimeError as error:
            raise GeoresError(f'OpenVINO cannot take the network: {_one_line(error)}') from error
        return made

    def _compile(self, converted: Any, precision: Precision) -> None:  # noqa: ANN401 - openvino.Model
        self.precision: Precision = precision
        # A stream of one thread for each core; a calling thread takes one by a request of its own.
        threads = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
        options = {
            'NUM_STREAMS': threads,
            'INFERENCE_NUM_THREADS': threads,
            'ENABLE_CPU_PINNING': False,  # other work may hold the core that a stream would be tied to
            'INFERENCE_PRECISION_HINT': 'bf16' if precision == 'bf16' else 'f32',
        }
        self._compiled = _core().compile_model(converted, 'CPU', options)
        self._thread = local()

    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits of normalised images, as `geores.runtime.base.Runtime` says."""
        if not hasattr(self._thread, 'request'):
            self._thread.request = self._compiled.create_infer_request()
        found = self._thread.request.infer({0: images.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(np.asarray(found[0]))


@cache
def _core() -> Any:  # noqa: ANN401 - openvino.Core
    """OpenVINO's state of this process, made once and never dropped.

    Each gives the thread a stack for signals of its own and frees it when it ends. Where two are dropped in
    the order in which they were made, the stack of the first stays in place though it is freed, and the next
    signal that Python handles, the end of a reading process or an interrupt, is a segmentation fault.
    """
    return import_extra('openvino').Core()


def is_kept(digest: str, shape: Shape, precision: Precision) -> bool:
    """Whether OpenVINO's form of a network stands in the cache, so that it starts at once."""
    return _kept_at(digest, shape, precision).exists()


def to_onnx(network: nn.Module, shape: Shape) -> bytes:
    """Write a network as ONNX, batch normalisations folded, for tiles of one size in batches of any.

    Args:
        network: a network in evaluation mode, on the CPU; it is not changed.
        shape: channels, height and width of the tiles.

    Raises:
        UsageError: if `onnx` is not installed.
        GeoresError: if ONNX has no operator for something that the network does.
    """
    import_extra('onnx')
    folded, content = fold_batch_norms(deepcopy(network)), io.BytesIO()
    export: Any = torch.onnx.export  # its types know files by name alone
    names: Any = {'input_names': ['images'], 'output_names': ['logits']}
    batch: Any = {'dynamic_axes': {'images': {0: 'n'}, 'logits': {0: 'n'}}}
    # The newer exporter wants one more package and takes a minute for the larger networks.
    with _quiet(), one_thread_each():
        try:
            export(
                folded,
                (torch.zeros(TRACED, *shape),),
                content,
                dynamo=False,
                opset_version=OPSET,
                **names,
                **batch,
            )
        except Exception as error:  # of the exporter, whose kinds are not public
            raise GeoresError(f'the network cannot be written as ONNX: {_one_line(error)}') from error
    return content.getvalue()


def to_onnx_runtime(network: nn.Module, shape: Shape) -> OnnxRuntime:
    """Put a network of torch under ONNX Runtime; `to_onnx` says what is raised."""
    return OnnxRuntime(OnnxNetwork(to_onnx(network, shape)))


def _kept_at(digest: str, shape: Shape, precision: Precision) -> Path:
    """File of OpenVINO's form of a network; what makes it anew where something changes is in the name."""
    parts = (digest, *shape, precision, *(package_version(name) for name in ('openvino', 'torch', 'geores')))
    return cache_folder() / 'openvino' / f'{sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]}.xml'


def package_version(package: str) -> str:
    """Version of an installed package, or 'none'."""
    try:
        return version(package)
    except PackageNotFoundError:
        return 'none'


def _read(core: Any, kept: Path) -> Any:  # noqa: ANN401 - openvino.Core and openvino.Model
    """Read a converted network; None where none is kept, or what is kept is damaged."""
    if not kept.exists():
        return None
    try:
        return core.read_model(kept)
    except RuntimeError:
        return None


def _convert(
    library: Any,  # noqa: ANN401 - see `_read`
    network: nn.Module,
    shape: Shape,
    precision: Precision,
    kept: Path,
) -> Any:  # noqa: ANN401 - see `_read`
    """Convert a network and keep what comes of it, where the cache can be written.

    By the front end itself: `openvino.convert_model` would report its use to the makers of OpenVINO.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    folded = fold_batch_norms(deepcopy(network))
    if precision == 'bf16':
        round_keeping_sums(folded)
    with _quiet(), one_thread_each(), torch.no_grad():
        try:
            traced = torch.jit.trace(folded, torch.zeros(TRACED, *shape), check_trace=False)
            front = FrontEndManager().load_by_framework('pytorch')
            decoder = TorchScriptPythonDecoder(traced)  # has to live until all is converted
            converted = front.convert(front.load(decoder))
            converted.reshape([-1, *shape])
        except Exception as error:  # of tracing, of the front end: whatever a network does
            raise GeoresError(f'OpenVINO cannot take the network: {_one_line(error)}') from error
    if not converted.output(0).get_partial_shape()[0].is_dynamic:
        raise GeoresError('OpenVINO cannot take the network: it answers for batches of one size alone')
    if precision == 'bf16':
        _keep_biases(converted)
    with suppress(OSError, RuntimeError):  # a cache that cannot be written costs time only
        kept.parent.mkdir(parents=True, exist_ok=True)
        # In a folder of its own: another process may write the same at this moment.
        with TemporaryDirectory(dir=kept.parent) as folder:
            library.serialize(converted, f'{folder}/graph.xml', f'{folder}/graph.bin')
            Path(folder, 'graph.bin').replace(kept.with_suffix('.bin'))
            Path(folder, 'graph.xml').replace(kept)
    return converted


def _keep_biases(converted: Any) -> None:  # noqa: ANN401 - openvino.Model
    """Let what is added to a convolution stay in float32 where that computes in bfloat16.

    OpenVINO takes the addition for the convolution's bias, and rounds that to bfloat16 too, which moves whole
    maps: most of what its logits were wrong by. An addition that follows something else is computed in
    float32 within the convolution: here it follows a limit that no number reaches.
    """
    from openvino import opset13

    for operator in converted.get_ordered_ops():
        if operator.get_type_name() in ('Convolution', 'GroupConvolution'):
            takers = operator.output(0).get_target_inputs()
            added = [taker for taker in takers if taker.get_node().get_type_name() == 'Add']
            if len(added) == 1:
                unlimited = opset13.clamp(operator.output(0), -UNREACHED, UNREACHED)
                added[0].replace_source_output(unlimited.output(0))


class _quiet(warnings.catch_warnings):  # noqa: N801 - a context like the one it is
    """Silences what torch says of tracing, which is on its way out and has no successor that is as fast."""

    def __enter__(self) -> Any:  # noqa: ANN401 - as above it
        entered = super().__enter__()
        warnings.simplefilter('ignore')
        return entered


def _one_line(error: BaseException) -> str:
    return ' '.join(str(error).split())[:300]


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
