"""Start a network from trained weights: a bundle's, or a file's of the same architecture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from geores.bundle import load_model
from geores.errors import BundleError, UsageError
from geores.weight_files import ONNX, onnx_weights

_RGB = ('red', 'green', 'blue')
_FILES = {'.safetensors', '.pth', '.pt', ONNX}


def start_from(network: nn.Module, source: str | Path, bands: Sequence[str] = _RGB) -> list[str]:
    """Copy the weights that fit from a trained network of the same architecture.

    Tensors of the same name and shape are copied. Kernels of the first convolution are copied for the
    bands that both have, and for others begin as their mean. A head with other labels stays fresh.

    Args:
        network: network to change, in place.
        source: a bundle (name or folder), or a file of weights (`.safetensors`, or `.pth` that holds
            tensors alone). A file's network takes red, green and blue; its tensors may have other names
            if they come in the same order. An `.onnx` file's network takes `bands`; its kernels, matrices
            and biases are taken in the order of its graph, each for the next tensor of its shape.
        bands: bands that `network` takes.

    Returns:
        Names of the tensors that stay fresh.

    Raises:
        UsageError: if the source cannot be read, or shares less than half of the network's tensors.
    """
    found, theirs = _weights(source)
    wanted = network.state_dict()
    if Path(source).suffix == ONNX:
        found, theirs = in_order(wanted, found), bands
    elif not wanted.keys() & found.keys():
        found = _renamed(wanted, found)
    stem = next((name for name, tensor in wanted.items() if tensor.ndim == 4), None)
    if stem is not None and stem in found:
        found = {**found, stem: adapt_kernel(found[stem], theirs, bands)}
    fits = {name: found[name] for name in wanted if _same(wanted[name], found.get(name))}
    if 2 * len(fits) < len(wanted):
        raise UsageError(
            f'{source}: only {len(fits)} of {len(wanted)} tensors fit: it is of another architecture'
        )
    network.load_state_dict(fits, strict=False)
    return sorted(wanted.keys() - fits.keys())


def in_order(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Assign tensors to the wanted names in order: each gets the next tensor of its shape.

    Args:
        wanted: the network's own, by name.
        found: others, by other names; those that nothing asks for are passed over.

    Returns:
        As many of the wanted as were found; the rest is left out.
    """
    rest, given = list(found.values()), {}
    for name, tensor in wanted.items():
        place = next((index for index, one in enumerate(rest) if one.shape == tensor.shape), None)
        if place is not None:
            given[name] = rest[place]
            rest = rest[place + 1 :]
    return given


def adapt_kernel(kernel: Tensor, theirs: Sequence[str], ours: Sequence[str]) -> Tensor:
    """Bring a first convolution's kernel from some bands to others.

    Args:
        kernel: (out, len(theirs), h, w).
        theirs: bands that it takes.
        ours: bands that it shall take.

    Returns:
        (out, len(ours), h, w): the kernels of the bands that both have; for others the mean kernel,
        scaled so that all together weigh as much as one band.
    """
    places = {_colour(band): place for place, band in enumerate(theirs)}
    others = sum(_colour(band) not in places for band in ours)
    fresh = kernel.mean(1) / max(others, 1)
    parts = [kernel[:, places[_colour(band)]] if _colour(band) in places else fresh for band in ours]
    return torch.stack(parts, dim=1)


def _colour(band: str) -> str:
    return {'B02': 'blue', 'B03': 'green', 'B04': 'red'}.get(band, band)


def _same(wanted: Tensor, found: Tensor | None) -> bool:
    return found is not None and found.shape == wanted.shape


def _renamed(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors under the names wanted, by their order, if no more than the ends differ in shape."""
    pairs = list(zip(wanted.values(), found.values(), strict=False))
    differ = sum(ours.shape != theirs.shape for ours, theirs in pairs)
    ends = 3  # a first kernel, a last matrix and its bias
    fits = differ <= ends and abs(len(wanted) - len(found)) < ends
    return dict(zip(wanted, found.values(), strict=False)) if fits else found


def _weights(source: str | Path) -> tuple[Mapping[str, Tensor], Sequence[str]]:
    path = Path(source)
    if path.suffix == ONNX:
        return onnx_weights(path), ()
    if path.suffix not in _FILES:
        model = load_model(source)
        return model.network.state_dict(), model.card.bands
    try:
        if path.suffix == '.safetensors':
            return load_file(path), _RGB
        tensors = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # whatever a file that is no weights makes of it
        reason = ' '.join(str(error).split())
        raise BundleError(f'{path}: the weights cannot be read: {reason}') from error
    if not isinstance(tensors, Mapping) or not all(isinstance(one, Tensor) for one in tensors.values()):
        raise BundleError(f'{path}: holds more than tensors')
    return tensors, _RGB
