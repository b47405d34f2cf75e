"""What a training starts from and learns from: trained weights, and teachers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from geores import models
from geores.bundle import load_model
from geores.errors import BundleError, UsageError
from geores.tasks.schedule import per_band
from geores.weight_files import ONNX, onnx_weights, require_onnx

__all__ = ['OnnxTeacher']

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
        raise BundleError(f'{path}: the weights cannot be read: {error}') from error
    if not isinstance(tensors, Mapping) or not all(isinstance(one, Tensor) for one in tensors.values()):
        raise BundleError(f'{path}: holds more than tensors')
    return tensors, _RGB


class Teachers:
    """The mean answer of several bundles (Hinton et al. 2015, Distilling the Knowledge, section 2).

    Args:
        bundles: names or folders.
        labels: labels of the network that learns: theirs have to be the same, in the same order.
        bands: bands of the network that learns, likewise.

    Raises:
        UsageError: if a bundle does not fit, or cannot be loaded.
    """

    def __init__(self, bundles: Sequence[str], labels: Sequence[str], bands: Sequence[str]) -> None:
        self.models = [load_model(bundle) for bundle in bundles]
        for bundle, model in zip(bundles, self.models, strict=True):
            for name, theirs, ours in (
                ('labels', model.card.labels, labels),
                ('bands', model.card.bands, bands),
            ):
                if tuple(theirs) != tuple(ours):
                    raise UsageError(f'teacher {bundle} has other {name}: {", ".join(theirs)}')

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        for model in self.models:
            model.network.to(memory_format=torch.channels_last)
            model.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Answer for images as the learning network sees them.

        Args:
            images: (N, C, H, W), float32, in the data's units.

        Returns:
            (N, K), float32, probabilities.
        """
        scores = [
            model.activate(
                model.network(model.normalise(images).contiguous(memory_format=torch.channels_last))
            )
            for model in self.models
        ]
        return torch.stack(scores).mean(0)


class OnnxTeacher:
    """A network in an ONNX file that labels pixels, with what it takes and what it answers.

    Pixel values v become x = ln(1 + log_scale * v) where `log_scale` is set, then (x - mean) / std, then
    the logistic function of squash[0] * x + squash[1] where `squash` is set.

    Args:
        path: the file. Its one input takes images, its first output gives logits of every pixel.
        labels: labels in the order of its logits.
        bands: bands in the order of its input.
        mean: per band; None for 0.
        std: per band; None for 1.
        log_scale: factor inside the logarithm, or None for no logarithm.
        squash: factor and summand of the logistic function, or None.
        layout: layout of input and output: 'NHWC' or 'NCHW'.
        architecture: a network of `geores.models` that takes the file's weights (in the order of its graph)
            and computes the same from the normalised bands; torch then stands in for ONNX Runtime. On
            one core Dynamic World's answers three times as fast so.
        architecture_kwargs: arguments of the architecture besides the numbers of bands and labels.
        threads: threads of ONNX Runtime.

    Raises:
        UsageError: if there is no such file, or mean and std do not fit the bands.
    """

    def __init__(
        self,
        path: str,
        labels: list[str],
        bands: list[str],
        mean: list[float] | None = None,
        std: list[float] | None = None,
        log_scale: float | None = None,
        squash: tuple[float, float] | None = None,
        layout: Literal['NHWC', 'NCHW'] = 'NHWC',
        architecture: str | None = None,
        architecture_kwargs: dict[str, Any] | None = None,
        threads: int = 1,
    ) -> None:
        if not Path(path).is_file():
            raise UsageError(f'teacher: {path}: no such file')
        self.path = path
        self.labels, self.bands = tuple(labels), tuple(bands)
        self.mean, self.std = per_band(mean, bands, 0.0), per_band(std, bands, 1.0)
        self.log_scale = log_scale
        self.squash = squash
        self.layout = layout
        self.threads = threads
        self._network = (
            None if architecture is None else self._rebuild(architecture, architecture_kwargs or {})
        )
        self._session: Any = None

    def _rebuild(self, architecture: str, kwargs: Mapping[str, Any]) -> nn.Module:
        network = models.create(
            architecture, **{**kwargs, 'in_chans': len(self.bands), 'num_classes': len(self.labels)}
        )
        fresh = start_from(network, self.path, self.bands)
        if fresh:
            raise UsageError(f'teacher: {self.path} has no weights for {fresh[0]} of {architecture}')
        network.to(memory_format=torch.channels_last)
        return network.eval().requires_grad_(requires_grad=False)

    def to(self, device: torch.device) -> None:
        """Move to a device, as far as the runtime does."""
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        if self._network is not None:
            self._network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor, bands: Sequence[str]) -> Tensor:
        """Answer for every pixel.

        Args:
            images: (N, C, H, W), float32, in the units that the teacher takes.
            bands: names of the C bands, those of the teacher among them.

        Returns:
            (N, K, H, W), float32, probabilities.

        Raises:
            UsageError: if a band of the teacher is missing, or its answer has another shape.
        """
        missing = [band for band in self.bands if band not in bands]
        if missing:
            raise UsageError(f'the teacher takes band {missing[0]}, which the data does not have')
        if tuple(bands) != self.bands:
            images = images[:, [list(bands).index(band) for band in self.bands]]
        if self.log_scale is not None:
            images = (images * self.log_scale).clamp_min(0).log1p()
        images = (images - self.mean) / self.std
        if self.squash is not None:
            images = torch.sigmoid(self.squash[0] * images + self.squash[1])
        logits = self._run(images) if self._network is None else self._forward(self._network, images)
        if logits.shape != (len(images), len(self.labels), *images.shape[2:]):
            raise UsageError(
                f'teacher: {self.path} answers with shape {tuple(logits.shape)} for {len(self.labels)} '
                f'labels of {len(images)} images of {tuple(images.shape[2:])} pixels'
            )
        return logits.softmax(1)

    @staticmethod
    def _forward(network: nn.Module, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = network(images.contiguous(memory_format=torch.channels_last))
        return logits

    def _run(self, images: Tensor) -> Tensor:
        if self._session is None:
            self._session = _session(self.path, self.threads)
        last = self.layout == 'NHWC'
        values = (images.permute(0, 2, 3, 1) if last else images).contiguous().cpu().numpy()
        name = self._session.get_inputs()[0].name
        logits = torch.from_numpy(np.ascontiguousarray(self._session.run(None, {name: values})[0]))
        return (logits.permute(0, 3, 1, 2) if last else logits).to(images.device)


def _session(path: str, threads: int) -> Any:  # noqa: ANN401 - a session of ONNX Runtime
    runtime = require_onnx('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # whatever a file that is no network makes of it
        raise UsageError(f'teacher: {path} cannot be run: {error}') from error
