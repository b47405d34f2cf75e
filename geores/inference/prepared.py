"""A scene prepared for a model, and the one way in which it is worked through: a step and sinks.

A prepared scene has decided how it is read, and has computed nothing yet.
"""

import json
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geores.card import ModelCard
from geores.card_values import Units
from geores.grid import Blocks, Tiling
from geores.inference.clouds import cloud_note
from geores.inference.engine import ChunkWork, LazyStore, RegionStep, Sink, Step, run, tiles_of
from geores.inference.plan import AnyPlan, Plan, SceneLayout, lay_out_scene, plan_chunks
from geores.inference.reader import CACHE_BYTES, ChunkStore, FolderStore, GridReader, UnitTransform
from geores.inference.region import Placement
from geores.inference.sinks import Quicklook
from geores.inference.units import needs_sample, sample_tiles, unit_transforms
from geores.io.whole_files import check_writable
from geores.options import SceneOptions
from geores.scenes import Scene, gdal_env
from geores.scenes.borders import mirror_invalid, without_border
from geores.scenes.offset import settle_offset

__all__ = ['PreparedScene', 'Progress', 'RunTime', 'SceneWork', 'header_key', 'prepare_scene']

LOOK_PIXELS = 1024
"""Longest side of the small picture that is kept of a scene, in pixels."""

MIN_PROBE = 8
"""Networks shrink their input, so that a probe of fewer pixels would say nothing."""

ON_DEVICE = frozenset({'cuda'})
"""Kinds of devices that regions are sent to as they are stored; elsewhere tiles are cut on the host."""

CACHE = {'cpu': CACHE_BYTES, 'cuda': 4 * CACHE_BYTES}
"""Most bytes of decoded blocks that are held."""

BATCH = {'cpu': 16, 'cuda': 256}
"""Tiles of one label at once: on a CPU small batches stay in its caches."""

TILE_PIXELS = {'cpu': 2**21, 'cuda': 2**23}
"""Pixels of the tiles of one label at once, at most: large tiles take no more memory than small ones."""

BATCH_PIXELS = {'cpu': 2**19, 'cuda': 2**23}
"""Pixels that are labelled at once."""


@dataclass(frozen=True)
class PreparedScene:
    """How a scene is read for a model: a step and sinks make work of it.

    Attributes:
        scene: the scene.
        card: the model's card.
        layout: grid, tiles and mask.
        plan: tiles in chunks and batches.
        reader: gives pixels of the grid in the card's units.
        look: keeps a small picture on the way.
        probe: some tiles as the model would get them, (n, C, h, w); n may be 0.
        workers: threads to use.
        key: everything that decides the pixels and the batches, for the journal.
        notes: what the user should know, one sentence each.
    """

    scene: Scene
    card: ModelCard
    layout: SceneLayout
    plan: AnyPlan
    reader: GridReader
    look: Quicklook
    probe: NDArray[np.float32]
    workers: int
    key: dict[str, Any]
    notes: tuple[str, ...]


def prepare_scene(scene: Scene, card: ModelCard, options: SceneOptions, *, device: str) -> PreparedScene:
    """Decide grid, tiles and units, from headers and a sample of the pixels.

    Args:
        scene: a scene with the bands of the model.
        card: the model's card.
        options: the user's options.
        device: kind of device that computes, 'cpu' or 'cuda', which decides how much it is given at once.

    Raises:
        UsageError: if an option does not fit the scene or the model.
        ReadError: if the sample could not be read, and units depend on it.
    """
    layout = lay_out_scene(scene, card, options)
    key = header_key(scene, card, options, layout)
    if card.units != Units.EIGHT_BIT or card.display_range:
        scene = settle_offset(scene)
    target, tiling = layout.target, layout.tiling
    workers = _workers(options)
    with gdal_env():
        scene, about_border, blank = without_border(scene, card.bands)
    mask, about_mask = layout.mask.make_mask(scene, target, workers=workers)
    reader = GridReader(
        scene,
        card.bands,
        target.grid,
        resampling=card.resampling,
        mask=mask,
        area=target.area,
        blank=blank,
        cache_bytes=CACHE[_kind(device)],
    )
    # A lazy scene is not looked at, for that would compute part of it, unless its units demand it.
    decides, few = needs_sample(scene, card), 0 if scene.is_lazy else 2
    with gdal_env():
        # Where it decides nothing, a part that cannot be read is left for the run to find, which keeps
        # the work that it has finished by then.
        sample, valid = sample_tiles(
            reader, layout.samples, side=4 if decides else few, workers=workers, strict=decides
        )
        converted, about_units = unit_transforms(
            scene,
            card,
            card.bands,
            sample,
            valid,
            linear=options.linear_s1,
            atmosphere=options.atmosphere,
        )
    cloudy = cloud_note(scene, target) if mask is None and options.mask is None else ()
    plan = _plan(tiling, reader, options, device)
    key |= {
        'border': list(about_border),
        'units': {band: asdict(transform) for band, transform in converted.items()},
        'batch-size': plan.batch_size,
        'chunks': list(plan.chunk_shape),
    }
    return PreparedScene(
        scene=scene,
        card=card,
        layout=layout,
        plan=plan,
        reader=reader.with_transforms(converted),
        look=Quicklook(_display(card.bands), -(-max(tiling.height, tiling.width) // LOOK_PIXELS)),
        probe=_probe(card, sample, valid, converted),
        workers=workers,
        key=key,
        notes=(
            *scene.notes,
            *target.notes,
            *about_border,
            *about_mask,
            *cloudy,
            *about_units,
            *_remarks(tiling, card),
        ),
    )


def header_key(scene: Scene, card: ModelCard, options: SceneOptions, layout: SceneLayout) -> dict[str, Any]:
    """Collect what decides the pixels that a model sees, as far as headers tell.

    Args:
        scene: the scene.
        card: the model's card.
        options: the user's options.
        layout: layout of the scene for the model.
    """
    target, tiling = layout.target, layout.tiling
    return {
        'scene': scene.fingerprint,
        'card': _digest(card),
        'bands': list(card.bands),
        'grid': [str(target.grid.crs), list(target.grid.affine)[:6], list(target.grid.shape.yx)],
        'area': None if target.area is None else target.area.wkt,
        'mask': layout.mask.fingerprint,
        'mask-values': layout.mask.values,
        'resampling': card.resampling,
        'tile': [tiling.y.tile, tiling.x.tile],
        'stride': [tiling.y.stride, tiling.x.stride],
        'min-valid': options.min_valid,
        'geores-version': version('geores'),
    }


def _plan(tiling: Tiling | Blocks, reader: GridReader, options: SceneOptions, device: str) -> AnyPlan:
    kind = _kind(device)
    bytes_per_pixel = round(reader.bytes_per_pixel) or 1
    chunks = plan_chunks(tiling, bytes_per_pixel=bytes_per_pixel, dense=options.dense, device=kind)
    if isinstance(tiling, Tiling):
        fits = max(1, min(BATCH[kind], TILE_PIXELS[kind] // tiling.tile**2))
    else:
        fits = max(1, BATCH_PIXELS[kind] // (tiling.y.tile * tiling.x.tile))
    if kind == 'cuda':  # where batches are filled up to one size: a whole chunk then needs no filling
        tiles = chunks[0] * chunks[1]
        fits = -(-tiles // -(-tiles // fits))
    return Plan(
        tiling,
        chunks,
        options.batch_size or fits,
        options.min_valid if isinstance(tiling, Tiling) else 0.0,
    )


def _kind(device: str) -> str:
    return 'cpu' if device == 'cpu' else 'cuda'


def _digest(card: ModelCard) -> str:
    """Digest of a card: changes with its normalisation, labels, calibration and all other fields."""
    return sha256(json.dumps(card.to_dict(), sort_keys=True).encode()).hexdigest()


def _probe(
    card: ModelCard,
    sample: NDArray[np.float32],
    valid: NDArray[np.bool_],
    converted: dict[str, UnitTransform],
) -> NDArray[np.float32]:
    """Pick the sampled tiles that have valid pixels, as the model would get them."""
    large = min(valid.shape[1:]) >= MIN_PROBE and all(side % card.alignment == 0 for side in valid.shape[1:])
    seen = valid.any(axis=(1, 2)) if large else np.zeros(len(valid), bool)
    tiles, valid = sample[seen], valid[seen]
    for position, band in enumerate(card.bands):
        for image in tiles[:, position]:
            converted.get(band, UnitTransform()).apply(image)
    for tile, known in zip(tiles, valid, strict=True):
        if card.task == 'segmentation':
            tile[:, ~known] = np.asarray(card.fill, np.float32)[:, None]
        elif not known.all():
            tile[:] = mirror_invalid(tile, known)
    return tiles


def _remarks(tiling: Tiling | Blocks, card: ModelCard) -> tuple[str, ...]:
    remarks = []
    if tiling.padded:
        remarks.append(
            f'the scene ({tiling.width} x {tiling.height} pixels) is smaller than a tile '
            f'({tiling.tile}): padded by reflection'
        )
    if isinstance(tiling, Tiling) and tiling.tile != card.input_size:
        remarks.append(f'tiles of {tiling.tile} pixels, and the model was trained on {card.input_size}')
    return tuple(remarks)


def _display(bands: Sequence[str]) -> list[int]:
    """Positions of red, green and blue among a model's bands, else of the first."""
    for names in (('red', 'green', 'blue'), ('B04', 'B03', 'B02')):
        if set(names) <= set(bands):
            return [list(bands).index(name) for name in names]
    return [0]


def _workers(options: SceneOptions) -> int:
    """Threads to use: as many as the cores that this process may use, where not said."""
    if options.workers is not None:
        return options.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


Progress = Callable[[int, int], None]
"""Called with the number of tiles just finished and of all tiles; first with those finished before."""


@dataclass(frozen=True)
class RunTime:
    """Time and tiles of a run.

    Attributes:
        seconds: time of this run from reading the first pixel to the last answer.
        tiles: tiles worked through in this run; fewer than all where one was resumed.
    """

    seconds: float
    tiles: int


@dataclass(frozen=True)
class SceneWork:
    """A prepared scene with the network step to run on it and the sinks that keep the results.

    Attributes:
        prepared: how the scene is read.
        step: maps batches of tiles to named arrays.
        sinks: what is kept of each chunk; the small picture is kept besides.
        device: kind of device that the step computes on.
        step_key: what decides the step's bits beside the card: weights, device, precision and the like.
        devices: number of devices among which the step shares batches.
    """

    prepared: PreparedScene
    step: Step
    sinks: Sequence[Sink]
    device: str
    step_key: dict[str, Any]
    devices: int = 1

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides the bits of the results, for the journal."""
        return self.prepared.key | self.step_key

    @cached_property
    def chunk_work(self) -> ChunkWork:
        """How one chunk is read, computed and kept."""
        prepared = self.prepared
        sinks = (*self.sinks, prepared.look)
        return ChunkWork(
            prepared.plan, prepared.reader, self.step, sinks, prepared.card.fill, self._placement()
        )

    def _placement(self) -> Placement | None:
        """What sends regions to the step's devices; None where tiles are cut on the host."""
        devices = getattr(self.step, 'devices', None)  # steps that are no predictors take arrays
        if self.device not in ON_DEVICE or devices is None or isinstance(self.step, RegionStep):
            return None
        from geores.inference.on_device import DevicePlacement

        return DevicePlacement(devices)

    def open_store(
        self,
        folder: Path,
        *,
        resume: bool,
        overwrite: bool = False,
        more: Mapping[str, Any] | None = None,
    ) -> FolderStore:
        """Open the journal of this work in a folder, which is created with those above it.

        Args:
            folder: folder of the finished chunks.
            resume: continue what the folder holds, else begin anew.
            overwrite: drop work of another run instead of refusing it.
            more: what the key says beside what decides the results.

        Raises:
            OutputError: if the folder cannot be created, or another process is at work there.
            JournalError: if it holds work of another run.
        """
        check_writable(folder, folder.parent)
        return FolderStore(folder, self.key | dict(more or {}), resume=resume, overwrite=overwrite)

    def run(
        self, store: ChunkStore, progress: Progress | None = None, chunks: Collection[int] | None = None
    ) -> RunTime:
        """Compute what the store does not hold yet.

        Args:
            store: keeps finished chunks.
            progress: called as tiles are finished.
            chunks: indices of those to compute; all where not given.

        Raises:
            ReadError: if the scene could not be read to the end; finished chunks stay in the store.
            InputChangedError: if a file was changed meanwhile, so that the chunks would be a mixture.
            WriteError: if the store could not be written.
        """
        from geores.runtime.base import exact_float32, one_thread_each

        prepared = self.prepared
        count, finished = tiles_of(prepared.plan, chunks), 0
        report = progress or (lambda tiles, of: None)

        def on_chunk(tiles: int) -> None:
            nonlocal finished
            finished += tiles
            report(tiles, count)

        prepared.reader.expect(*prepared.plan.windows())
        start = time.perf_counter()
        with gdal_env(), exact_float32(), one_thread_each():
            run(
                self.chunk_work,
                store,
                only=chunks,
                readers=prepared.workers,
                computers=prepared.workers if self.device == 'cpu' else 2 * self.devices,
                on_start=lambda tiles: report(tiles, count),
                on_chunk=on_chunk,
            )
        prepared.reader.check_sources(ends=True)
        return RunTime(time.perf_counter() - start, finished)

    def defer(self) -> LazyStore:
        """Compute nothing yet: each chunk is computed when something of it is asked for."""
        return LazyStore(self.chunk_work)
