"""Regions on a torch device: sent as they are stored, and brought to tiles of the model's units there.

A Sentinel-2 pixel takes 11 bytes as it is stored, 40 as float32 of the target grid, and that many times over
where tiles overlap. So the stored numbers are sent, once, and are grown, averaged, brought to units, filled
and cut into tiles there, by the rules of `geores.inference.resampling` and `UnitTransform`, in float32: the
same bits on a CPU, but for the logarithm of radar. Which pixels are valid, which tiles are computed and where
they mirror is decided on the host as for all regions (`geores.inference.region`).

It runs on any device of torch, and is tested on the CPU. No GPU has run it yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.errors import GeoresError
from geores.inference.layer import FAINTEST, Stored, StoredWindow, UnitTransform
from geores.inference.resampling import ENOUGH

__all__ = ['SLOTS', 'DevicePixels', 'DevicePlacement', 'DeviceTiles', 'Ring', 'to_units']

SLOTS = 4
"""Pieces of pinned memory for each device: while one is sent, others are filled."""

ALIGNED = 16
"""Bytes of which each array in a piece of memory begins at a multiple."""

Event: TypeAlias = 'torch.cuda.Event | None'
"""Something that a stream of a CUDA device has done; None on other devices, which do all at once."""


@cache
def _copy_stream(device: torch.device) -> 'torch.cuda.Stream':
    """The stream of a CUDA device for copies, the same for every scene: torch keeps memory for each apart."""
    return torch.cuda.Stream(device)


def _mark(device: torch.device) -> Event:
    """Mark what the current stream was asked to do until now."""
    if device.type != 'cuda':
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


def _after(event: Event, device: torch.device, *tensors: Tensor) -> None:
    """Let the current stream wait for an event, and keep tensors of another stream until it used them."""
    if event is not None:
        stream = torch.cuda.current_stream(device)
        stream.wait_event(event)
        for tensor in tensors:
            tensor.record_stream(stream)


class Ring:
    """Pieces of pinned memory, used in turn, from which arrays are copied to a device in its own stream.

    Safe to use from many threads: one that finds no piece free waits for it. On devices without streams the
    copy is done when `send` returns.

    Args:
        device: where to.
        slots: how many pieces; each grows to what is sent at once.
    """

    def __init__(self, device: torch.device, slots: int = SLOTS) -> None:
        self.device = device
        self._pinned = device.type == 'cuda'
        self._stream = _copy_stream(device) if self._pinned else None
        self._free: SimpleQueue[tuple[Tensor, Event]] = SimpleQueue()
        for _ in range(slots):
            self._free.put((torch.empty(0, dtype=torch.uint8), None))

    def send(self, arrays: Sequence[NDArray[Any]]) -> tuple[list[Tensor], Event]:
        """Copy arrays to the device.

        Args:
            arrays: of any shape, of `SENT_AS_STORED` or bool.

        Returns:
            The arrays there, those of unsigned numbers of 16 and 32 bits as signed ones of the same bits; and
            what to wait for before they are used.
        """
        starts = np.cumsum([0, *(-(-array.nbytes // ALIGNED) * ALIGNED for array in arrays)]).tolist()
        piece, copied = self._free.get()
        try:
            if copied is not None:
                copied.synchronize()
            if len(piece) < starts[-1]:
                piece = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=self._pinned)
            room = piece.numpy()
            for array, start in zip(arrays, starts, strict=False):
                room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)[...] = array
            with torch.cuda.stream(self._stream):  # which does nothing where there is none
                there = piece[: starts[-1]].to(self.device, non_blocking=self._pinned, copy=True)
                copied = _mark(self.device)
        finally:
            self._free.put((piece, copied))
        return [
            there[start : start + array.nbytes].view(_same_bits(array.dtype)).view(array.shape)
            for array, start in zip(arrays, starts, strict=False)
        ], copied


def _same_bits(dtype: np.dtype[Any]) -> torch.dtype:
    # torch computes little with unsigned numbers of more than 8 bits.
    signed = {'uint16': 'int16', 'uint32': 'int32'}.get(dtype.name, dtype.name)
    kind: torch.dtype = getattr(torch, signed)
    return kind


class DevicePlacement:
    """Sends regions to devices: see `geores.inference.region.Placement`.

    To a single device as soon as a region is read, in the thread that read it; to one of several when the
    first of its tiles is computed there.

    Args:
        devices: one or several.
    """

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self.rings = {device: Ring(device) for device in devices}

    def __call__(
        self, window: StoredWindow, fill: Sequence[float], past: Sequence[tuple[int, int]]
    ) -> 'DevicePixels':
        """Send a window as it is stored."""
        pixels = DevicePixels(self.rings, window, fill, past)
        if len(self.rings) == 1:
            pixels.send(next(iter(self.rings)))
        return pixels


class DevicePixels:
    """Pixels of a region on one or several devices: see `geores.inference.region.Pixels`.

    Args:
        rings: of each device.
        window: the pixels as they are stored.
        fill: value of invalid pixels in each band.
        past: rows and columns past the grid to reflect the window into, before and after it.
    """

    def __init__(
        self,
        rings: Mapping[torch.device, Ring],
        window: StoredWindow,
        fill: Sequence[float],
        past: Sequence[tuple[int, int]],
    ) -> None:
        self._rings, self._window, self._fill = rings, window, fill
        self._past = past if any(map(any, past)) else None
        self._lock = Lock()
        self._sent: dict[torch.device, tuple[list[Tensor], Event]] = {}
        self._made: dict[torch.device, tuple[Tensor, Event]] = {}

    def send(self, device: torch.device) -> None:
        """Send what is stored to a device, where it waits until it is used."""
        try:
            self._sent[device] = self._rings[device].send(self._arrays())
        except torch.cuda.OutOfMemoryError as error:
            height, width = self._window.valid.shape
            raise GeoresError(
                f'the device has no memory for {width} x {height} pixels: give fewer --workers, for each '
                'reads ahead'
            ) from error

    @torch.inference_mode()
    def on(self, device: torch.device) -> Tensor:
        """The pixels on a device, for its current stream, (bands, h, w), float32; not to be written over."""
        with self._lock:
            if device not in self._made:
                if device not in self._sent:
                    self.send(device)
                tensors, copied = self._sent.pop(device)
                _after(copied, device, *tensors)
                self._made[device] = self._converted(tensors, device), _mark(device)
            values, made = self._made[device]
        _after(made, device, values)
        return values

    @property
    @torch.inference_mode()
    def values(self) -> NDArray[np.float32]:
        """The pixels, (bands, h, w), copied back."""
        return np.asarray(self.on(self._somewhere()).cpu().numpy())

    def cut(
        self, places: NDArray[np.int64], shape: tuple[int, int], mirrors: Mapping[int, NDArray[np.int64]]
    ) -> 'DeviceTiles':
        """Cut tiles out, when they are asked for."""
        return DeviceTiles(self, places, shape, mirrors)

    @torch.inference_mode()
    def look(
        self, bands: Sequence[int], rows: NDArray[np.int64], cols: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Pick pixels where some rows and columns cross, (bands, rows, columns), copied back."""
        device = self._somewhere()
        values = self.on(device)
        at = [_indices(np.asarray(part, np.int64), device) for part in (bands, rows, cols)]
        return np.asarray(values[at[0][:, None, None], at[1][:, None], at[2]].cpu().numpy())

    def _somewhere(self) -> torch.device:
        """A device where the pixels are, or are soonest."""
        return next(iter((*self._made, *self._sent, *self._rings)))

    def _arrays(self) -> list[NDArray[Any]]:
        """List the arrays to send, in the order in which `_converted` takes them.

        Pixels of each layer, which of them are valid where resampling needs that, and which pixels of the
        window are valid where some are not.
        """
        layers = [stored for stored, _ in self._window.layers]
        valid = [stored.valid for stored in layers if _needs_valid(stored) and stored.valid is not None]
        whole = [] if self._window.valid.all() else [self._window.valid]
        return [*(stored.values for stored in layers), *valid, *whole]

    def _converted(self, tensors: Sequence[Tensor], device: torch.device) -> Tensor:
        """Bring what was sent to the model's units, (bands, h, w), with fill and what lies past the grid."""
        window, waiting = self._window, iter(tensors)
        layers = [(next(waiting), stored, positions) for stored, positions in window.layers]
        made = torch.empty((len(window.transforms), *window.valid.shape), device=device)
        for values, stored, positions in layers:
            valid = next(waiting) if _needs_valid(stored) else None
            on_grid = _resampled(_float32(values, stored.values.dtype), valid, stored)
            made[_indices(np.asarray(positions, np.int64), device)] = on_grid
        for band, transform in zip(made, window.transforms, strict=True):
            to_units(band, transform)
        for valid in waiting:  # the window's, where some pixel is not valid
            fill = torch.tensor(self._fill, dtype=torch.float32, device=device)
            made = torch.where(valid, made, fill[:, None, None])
        if self._past is not None:
            for axis, past in enumerate(self._past, start=1):
                reflected = np.pad(np.arange(made.shape[axis]), past, mode='reflect')
                made = made.index_select(axis, _indices(reflected, device))
        return made


@dataclass(frozen=True)
class DeviceTiles:
    """Tiles of a region that are cut on the device where they are computed.

    Attributes:
        pixels: of the region.
        places: top and left of each tile, (n, 2).
        shape: height and width of the tiles.
        mirrors: where pixels take their values from: see `geores.inference.region.Pixels`.
    """

    pixels: DevicePixels
    places: NDArray[np.int64]
    shape: tuple[int, int]
    mirrors: Mapping[int, NDArray[np.int64]]

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.places)

    @torch.inference_mode()
    def on(self, device: torch.device, count: int = 0) -> Tensor:
        """Cut the tiles: (N, C, height, width), float32, in the model's units, to be written over.

        Args:
            device: where to.
            count: fill them up to that number, with the last one again.
        """
        tops, lefts = _indices(self.places.T, device)
        # All tiles of the region, a view; those that are wanted are gathered out of it.
        views = self.pixels.on(device).unfold(1, self.shape[0], 1).unfold(2, self.shape[1], 1)
        tiles = views.permute(1, 2, 0, 3, 4)[tops, lefts]
        if self.mirrors:
            at = _indices(np.array(list(self.mirrors), np.int64), device)
            mirror = _indices(np.stack(list(self.mirrors.values())).reshape(len(self.mirrors), 1, -1), device)
            some = tiles[at]
            tiles[at] = some.flatten(2).gather(2, mirror.expand(-1, some.shape[1], -1)).view(some.shape)
        more = max(count - len(tiles), 0) if len(tiles) else 0
        return torch.cat([tiles, tiles[-1:].expand(more, -1, -1, -1)]) if more else tiles


def _indices(numbers: NDArray[np.int64], device: torch.device) -> Tensor:
    """Put indices on a device."""
    tensor = torch.from_numpy(np.ascontiguousarray(numbers, np.int64))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == 'cuda' else tensor.to(device)


def _needs_valid(stored: Stored) -> bool:
    """Whether values on the target grid depend on which stored pixels are valid."""
    return stored.valid is not None and (stored.zoom < 1 or stored.margin > 0)


def _float32(values: Tensor, stored: np.dtype[Any]) -> Tensor:
    """Numbers as float32; `values` may be signed where what is stored is not."""
    if stored.name == 'uint16':
        values = values.to(torch.int32).bitwise_and_(0xFFFF)
    elif stored.name == 'uint32':
        values = values.to(torch.int64).bitwise_and_(0xFFFFFFFF)
    return values.to(torch.float32)


def to_units(values: Tensor, transform: UnitTransform) -> None:
    """Convert in place, as `UnitTransform.apply` does."""
    if transform.gain != 1:
        values.mul_(float(np.float32(transform.gain)))
    if transform.bias != 0:
        values.add_(float(np.float32(transform.bias)))
    if transform.low is not None or transform.high is not None:
        values.clamp_(transform.low, transform.high)
    if transform.decibels:
        values.clamp_min_(float(FAINTEST)).log10_().mul_(10)


def _resampled(values: Tensor, valid: Tensor | None, stored: Stored) -> Tensor:
    """Bring stored pixels, (bands, h', w'), onto the target grid, as `geores.inference.resampling` does."""
    if stored.zoom == 1:
        return values
    if stored.zoom < 1:
        return _average(values, valid, round(1 / stored.zoom))
    steps = round(stored.zoom)
    if stored.margin:
        values = _interpolate(values, valid, steps)
    else:
        values = values.repeat_interleave(steps, 1).repeat_interleave(steps, 2)
    return values[:, *stored.cut]


def _average(values: Tensor, valid: Tensor | None, steps: int) -> Tensor:
    cells = [np.s_[row::steps, col::steps] for row in range(steps) for col in range(steps)]
    if valid is None:
        count = torch.full((), float(len(cells)), device=values.device)  # a number would be inverted on CUDA
        return sum((values[:, *cell] for cell in cells), torch.zeros_like(count)) / count
    known = valid.to(torch.float32)
    count = sum((known[cell] for cell in cells), torch.zeros((), device=values.device))
    total = sum((values[:, *cell] * known[cell] for cell in cells), torch.zeros((), device=values.device))
    return torch.where(count > 0, total / count, 0.0)


def _interpolate(values: Tensor, valid: Tensor | None, steps: int) -> Tensor:
    if valid is None:
        return _linear(_linear(values, steps, 1), steps, 2)
    weights = valid.to(torch.float32)[None]
    total = _linear(_linear(values * weights, steps, 1), steps, 2)
    share = _linear(_linear(weights, steps, 1), steps, 2)
    return torch.where((share > 0) & (share < ENOUGH), total / share, total)


def _linear(values: Tensor, steps: int, axis: int) -> Tensor:
    size = values.shape[axis] - 2
    before, core, after = (values.narrow(axis, start, size) for start in range(3))
    grown = []
    for phase in range(steps):
        shift = (phase + 0.5) / steps - 0.5
        weight = np.float32(abs(shift))
        grown.append(core * float(1 - weight) + (before if shift < 0 else after) * float(weight))
    return torch.stack(grown, axis + 1).flatten(axis, axis + 1)
