"""Model bundles: a folder of `card.json` and `model.safetensors`, or `model.onnx`.

Training writes them, inference reads them, and nothing else passes between the two.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn

from geores import plugins
from geores.card import CARD_FILE, WEIGHTS, ModelCard, list_models
from geores.errors import BundleError, GeoresError, ModelNotFoundError, OutputError, UsageError, did_you_mean
from geores.io.whole_files import check_folder_free, whole_folder
from geores.model import Model
from geores.rebuild import rebuild, try_forward
from geores.runtime.base import one_thread_each
from geores.runtime.onnx import ARCHITECTURE, ONNX_FILE, OnnxNetwork, read_onnx
from geores.weight_files import WEIGHTS_FILE, read_weights, refuse_pickle, sha256_of

__all__ = ['Model', 'ModelCard', 'list_models', 'load_model', 'save_bundle']


def load_model(name_or_path: str | Path, device: str | torch.device = 'cpu') -> Model:
    """Load a model, ready for prediction.

    Args:
        name_or_path: name of a model that ships with geores, path of a bundle's folder, or name of a
            model of another package (`geores.plugins`); what is named first here wins. Or `hf:owner/name`,
            with `@revision` behind it to pin one, of a bundle or a published reBEN model on the Hugging
            Face Hub, or the folder of such a model's snapshot (`geores.hub`).
        device: where to put it, as torch names devices.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        ModelNotFoundError: if no bundle has that name or path; the nearest name is suggested.
        BundleError: if the bundle is incomplete, damaged, contradicts itself, or holds a pickle.
        UsageError: if the device is not there.
        ReadError: if the Hub cannot be reached, and its cache does not hold the model.
    """
    folder = find_bundle(name_or_path)
    with one_thread_each():  # many small tensors: threads would only wait for each other
        model = _load(folder, name_or_path, device)
    model.folder = folder
    return model


def _load(folder: Path, name_or_path: str | Path, device: str | torch.device) -> Model:
    if not (folder / CARD_FILE).exists():
        from geores.hub import is_snapshot, load_snapshot  # where it is needed: takes tenths of a second

        if is_snapshot(folder):
            return Model(*load_snapshot(folder, str(name_or_path)), device)
    if (folder / ONNX_FILE).is_file() and not (folder / WEIGHTS_FILE).exists():
        return _load_onnx(folder)
    weights = folder / WEIGHTS_FILE
    refuse_pickle(weights)
    card = _read_card(folder)
    if card.architecture == ARCHITECTURE:
        raise BundleError(f'{folder}: its card says that it is an ONNX file, and it has no {ONNX_FILE}')
    tensors = read_weights(weights)
    try:
        network = rebuild(card, tensors, partial(find_encoder, folder), tried=folder.parent == WEIGHTS)
    except GeoresError as error:
        raise BundleError(f'{folder}: {error}') from error
    _check_hash(weights, card)
    if card.task == 'vqa':
        from geores.vqa.model import VQAModel  # it needs transformers, which takes a second

        return VQAModel(card, cast('Any', network), device)
    return Model(card, network, device)


def _read_card(folder: Path) -> ModelCard:
    if not (folder / CARD_FILE).is_file():
        raise BundleError(f'{folder}: not a bundle, for it has no {CARD_FILE}')
    return ModelCard.load(folder / CARD_FILE)


def _check_hash(weights: Path, card: ModelCard) -> None:
    if sha256_of(weights) != card.sha256:
        raise BundleError(f"{weights}: its SHA-256 is not the one of the card's field 'sha256'")


def _load_onnx(folder: Path) -> Model:
    """Load the model of a bundle that holds an ONNX file; it always runs on the CPU."""
    card = _read_card(folder)
    _check_hash(folder / ONNX_FILE, card)
    try:
        return Model(card, _onnx_network(folder / ONNX_FILE, card), 'cpu')
    except UsageError as error:
        message = str(error)
        raise BundleError(message if str(folder) in message else f'{folder}: {message}') from error


def _onnx_network(path: Path, card: ModelCard) -> OnnxNetwork:
    """Read an ONNX file as the network of a card, and try it on one image."""
    if card.architecture != ARCHITECTURE or card.task == 'vqa':
        raise BundleError(f"field 'architecture' has to be {ARCHITECTURE!r} beside {path.name}, and no 'vqa'")
    network = read_onnx(path, card.architecture_kwargs)
    try_forward(network, card, 'cpu')
    return network


def find_encoder(folder: Path, name: str, sha256: str) -> Model:
    """Load the bundle whose encoder a VQA bundle shares, by its name and the hash of its weights.

    It may lie in the folder of the VQA bundle, beside it, or where `load_model` finds it.

    Raises:
        BundleError: if it is not there, or its weights are other ones.
    """
    near = [path for path in (folder / name, folder.parent / name) if (path / CARD_FILE).is_file()]
    with suppress(ModelNotFoundError):
        near.append(find_bundle(name))
    cards = {place: ModelCard.load(place / CARD_FILE) for place in near}
    for place, card in cards.items():
        if card.sha256 == sha256:
            if card.task == 'vqa':  # it would ask for an encoder in its turn
                raise BundleError(
                    f'its encoder is {place}, which answers questions itself: name another bundle'
                )
            return load_model(place)
    wanted = f'the bundle {name!r} of SHA-256 {sha256[:12]}'
    for place, card in cards.items():
        found = card.sha256[:12]
        raise BundleError(f'its encoder is {wanted}, and {place} has changed: its weights are {found}')
    raise BundleError(f'its encoder, {wanted}, is not here: put its folder beside')


def save_bundle(
    path: str | Path,
    network: nn.Module | str | Path,
    card: ModelCard,
    dtype: torch.dtype = torch.float16,
    *,
    overwrite: bool = False,
    add: Callable[[Path], object] | None = None,
) -> Path:
    """Write a bundle, and return its folder, which stands there complete or not at all.

    Args:
        path: folder to write.
        network: the network whose weights to keep, built as the card says. Or the path of an ONNX file with
            one input and one output, whose card has the architecture 'onnx' (with `layout` 'NHWC' where
            channels come last).
        card: `sha256` and `geores_version` are filled in.
        dtype: type in which to keep matrices and kernels; vectors (biases, statistics) stay float32. An ONNX
            file is kept as it is.
        overwrite: replace a bundle that stands there.
        add: called with the folder before it takes its name, to write further files into it.

    Raises:
        BundleError: if the card does not rebuild this network.
        OutputError: if the path is taken or cannot be written.
        WriteError: if the finished folder could not take its name, or `add` could not write.
    """
    folder = Path(path)
    if os.path.lexists(folder) and not overwrite:
        raise OutputError(f'{folder} exists already: choose another path or overwrite a bundle')
    check_folder_free(folder, overwrite=overwrite, kind='bundle', marks=[CARD_FILE])
    if isinstance(network, nn.Module):
        tensors = {name: _stored(tensor, dtype) for name, tensor in network.state_dict().items()}
        shared = getattr(network, 'shared', None)
        rebuild(card, tensors, lambda name, sha256: shared or find_encoder(folder, name, sha256))
        file, content = WEIGHTS_FILE, save(tensors)
    else:
        _onnx_network(Path(network), card)
        file, content = ONNX_FILE, Path(network).read_bytes()
    with whole_folder(folder) as part:
        try:
            (part / file).write_bytes(content)
            card = replace(card, sha256=sha256_of(part / file), geores_version=version('geores'))
            card.save(part / CARD_FILE)
        except OSError as error:
            raise OutputError(f'{folder}: cannot be written: {error.strerror or error}') from error
        if add is not None:
            add(part)
    return folder


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    kept = dtype if tensor.ndim > 1 else torch.float32
    return tensor.to(kept) if tensor.is_floating_point() else tensor


def find_bundle(name_or_path: str | Path) -> Path:
    """Find the folder that `load_model` loads.

    Raises:
        ModelNotFoundError: if no bundle has that name or path; the nearest name is suggested.
        BundleError: if it is a file.
        ReadError: if it is on the Hub, which cannot be reached.
    """
    shipped = {path.parent.name: path.parent for path in WEIGHTS.glob(f'*/{CARD_FILE}')}
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if str(name_or_path).startswith('hf:'):
        from geores.hub import HubAddress, fetch

        return fetch(HubAddress.parse(str(name_or_path)))
    path = Path(name_or_path)
    if str(name_or_path) and (path / CARD_FILE).is_file():
        return path
    offered = {name: folder for name, (folder, _) in plugins.bundle_folders()[0].items()}
    if str(name_or_path) in offered:
        return offered[str(name_or_path)]
    if str(name_or_path) and path.is_dir():
        return path
    if path.is_file():
        refuse_pickle(path)
        raise BundleError(f'{path}: a file, and a bundle is a folder with {CARD_FILE} and {WEIGHTS_FILE}')
    names = sorted(shipped.keys() | offered.keys())
    hint = did_you_mean(str(name_or_path), names) or f'models are {", ".join(names)}'
    raise ModelNotFoundError(f'no model and no folder is named {str(name_or_path)!r}: {hint}')
