"""Files of weights: safetensors, and the weights inside ONNX files.

Pickles are refused, for they can run code on loading.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from geores.errors import BundleError, import_extra

__all__ = [
    'ONNX',
    'WEIGHTS_FILE',
    'check_tensors',
    'onnx_weights',
    'read_weights',
    'refuse_pickle',
    'require_onnx',
    'sha256_of',
]

WEIGHTS_FILE = 'model.safetensors'

ONNX = '.onnx'
"""Suffix of ONNX files."""

_ONNX_LAYERS = frozenset({'Conv', 'ConvTranspose', 'Gemm', 'MatMul'})
_PICKLES = frozenset({'.pt', '.pth', '.ckpt', '.pkl', '.pickle', '.bin', '.joblib'})
_ONLY_SAFETENSORS = 'is or may be a pickle, which can run code on loading: geores reads safetensors only'


def refuse_pickle(path: Path) -> None:
    """Refuse a file of weights that is missing or a pickle, or a folder that holds one instead.

    Raises:
        BundleError: if it is.
    """
    if not path.is_file():
        for other in sorted(path.parent.iterdir()):
            if other.suffix.lower() in _PICKLES:
                raise BundleError(f'{other}: {_ONLY_SAFETENSORS}')
        raise BundleError(f'{path.parent}: not a bundle, for it has no {path.name}')
    with path.open('rb') as file:
        magic = file.read(4)
    # Protocol 2 and later start with 0x80; a safetensors file starts with its header's length,
    # which may do so too, but no protocol number follows then.
    pickled = magic[:1] == b'\x80' and magic[1:2] in {b'\x02', b'\x03', b'\x04', b'\x05'}
    zipped = magic == b'PK\x03\x04'
    if path.suffix.lower() in _PICKLES or zipped or (pickled and not _has_header(path)):
        raise BundleError(f'{path}: {_ONLY_SAFETENSORS}')


def _has_header(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(9)[8:] == b'{'


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, by name.

    Raises:
        BundleError: if it is missing, damaged, or a pickle.
    """
    refuse_pickle(path)
    try:
        with safe_open(path, framework='pt') as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f'{path}: damaged or not safetensors: {error}') from error


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def check_tensors(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], *, finite: bool = True) -> None:
    """Check that tensors are those of an architecture.

    Args:
        wanted: tensors of the architecture, by name; their values are not looked at.
        found: tensors to check.
        finite: whether to look at every value; the hash of a bundle that ships suffices.

    Raises:
        BundleError: if one is missing, too many, of another shape, or not finite.
    """
    for name, tensor in wanted.items():
        if name not in found:
            raise BundleError(f'tensor {name!r} of shape {tuple(tensor.shape)} is missing')
        if tensor.shape != found[name].shape:
            raise BundleError(
                f'tensor {name!r} has shape {tuple(found[name].shape)}, and the architecture of '
                f'the card wants {tuple(tensor.shape)}'
            )
        if finite and not torch.isfinite(found[name]).all():
            raise BundleError(f'tensor {name!r} holds values that are not finite')
    unexpected = sorted(found.keys() - wanted.keys())
    if unexpected:
        raise BundleError(f'tensor {unexpected[0]!r} is not part of the architecture of the card')


def require_onnx(name: str) -> ModuleType:
    """Import a package of the extra `geores[onnx]`.

    Raises:
        MissingExtraError: if it is not installed.
    """
    return import_extra(name, f'ONNX files need the package {name}')


def onnx_weights(path: str | Path) -> dict[str, Tensor]:
    """Read weights and biases of a file's convolutions and matrices, in the order of its nodes.

    Returns:
        Name in the file -> tensor.

    Raises:
        BundleError: if it cannot be read.
        UsageError: if the package onnx is not installed.
    """
    onnx = require_onnx('onnx')
    try:
        graph = onnx.load(str(path)).graph
        found: Mapping[str, object] = {one.name: one for one in graph.initializer}
        return {
            name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(found[name])))
            for node in graph.node
            if node.op_type in _ONNX_LAYERS
            for name in node.input
            if name in found
        }
    except Exception as error:  # whatever a file that is no ONNX makes of it
        raise BundleError(f'{path}: the weights cannot be read: {error}') from error
