"""One scene to classify with one model: everything decided, then everything computed."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geores.card import ModelCard
from geores.errors import OutputError
from geores.grid import Tiling
from geores.inference.atmosphere import corrects
from geores.inference.bright import bright_note
from geores.inference.cells import VectorSink
from geores.inference.engine import ChunkWork, run
from geores.inference.lazy import LazyStore
from geores.inference.masks import MaskChoice, choose_mask
from geores.inference.plan import Plan, plan_chunks
from geores.inference.quicklook import Quicklook
from geores.inference.reader import Conversion, GridReader
from geores.inference.store import ChunkStore, FolderStore
from geores.inference.target import Target, target_grid
from geores.inference.units import conversions, needs_sample, sample_tiles
from geores.pipelines.blank import blank_note
from geores.pipelines.labels import check_task
from geores.pipelines.options import MIN_TILE, ClassifyOptions
from geores.pipelines.outputs import work_folder
from geores.pipelines.result import Classification
from geores.pipelines.scored import RunInfo
from geores.pipelines.select import check_bands, levels_differ
from geores.scenes import Scene, gdal_env

if TYPE_CHECKING:
    from geores.inference.predictor import Predictor
    from geores.model import Model

__all__ = ['Job', 'Progress', 'known_key', 'lay_out', 'prepare']

LOOK_PIXELS = 1024
ROW_BYTES = 200  # of a row of the table, beside its scores
BATCH = {'cpu': 16, 'cuda': 256}  # on a CPU small batches stay in its caches

Progress = Callable[[int, int], None]
"""Called with the number of tiles just finished and of all tiles; first with those finished before."""


@dataclass(frozen=True)
class Job:
    """Everything decided, nothing computed yet."""

    scene: Scene
    target: Target
    plan: Plan
    reader: GridReader
    predictor: 'Predictor'
    look: Quicklook
    options: ClassifyOptions
    key: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    def open_store(self, folder: Path, *, resume: bool) -> FolderStore:
        """The journal of this job in a folder, which is created."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'{folder} cannot be created: {error.strerror}') from error
        return FolderStore(work_folder(folder, self.scene.name), self.key, resume=resume)

    def run(self, store: ChunkStore, progress: Progress | None = None) -> Classification:
        """Compute what the store does not hold yet."""
        from geores.inference.predictor import one_thread_each

        on_cpu = self.predictor.model.device.type == 'cpu'
        workers = _workers(self.options)
        count, finished = self.plan.tiling.count, 0
        report = progress or (lambda tiles, of: None)

        def on_chunk(tiles: int) -> None:
            nonlocal finished
            finished += tiles
            report(tiles, count)

        self.reader.expect(*self.plan.windows())
        start = time.perf_counter()
        with gdal_env(), one_thread_each():
            run(
                self.work,
                store,
                readers=workers,
                computers=workers if on_cpu else 2,
                on_start=lambda tiles: report(tiles, count),
                on_chunk=on_chunk,
            )
        result = self._result(store, time.perf_counter() - start, finished)
        with gdal_env():
            note = blank_note(self, result)
        if note is None:
            return result
        return replace(result, info=replace(result.info, notes=(*result.info.notes, note)))

    def defer(self) -> Classification:
        """Compute nothing yet: each chunk is computed when something of it is asked for."""
        return self._result(LazyStore(self.work), 0.0, 0)

    @cached_property
    def work(self) -> ChunkWork:
        """What is done with each chunk."""
        card = self.predictor.model.card
        sinks = (VectorSink(len(card.labels)), self.look)
        return ChunkWork(self.plan, self.reader, self.predictor, sinks, card.fill)

    def _result(self, store: ChunkStore, seconds: float, tiles: int) -> Classification:
        model = self.predictor.model
        asked = {name: value for name, value in asdict(self.options).items() if value is not None}
        info = RunInfo(
            str(model.device), self.predictor.precision, seconds, tiles, asked, self.key, self.notes
        )
        return Classification(
            scene=self.scene,
            card=model.card,
            grid=self.target.grid,
            gsd=self.target.gsd,
            plan=self.plan,
            store=store,
            look=self.look,
            threshold=self.options.threshold,
            top_k=self.options.top_k,
            info=info,
        )


def prepare(scene: Scene, model: 'Model', options: ClassifyOptions, *, notes: tuple[str, ...] = ()) -> Job:
    """Decide grid, tiles, units and precision, from headers and a sample of the pixels.

    Raises:
        UsageError: an option does not fit the scene or the model.
        ReadError: the sample could not be read, and units depend on it.
    """
    from geores.inference.predictor import choose_predictor

    card = model.card
    target, tiling, choice = lay_out(scene, card, options)
    mask, about_mask = choice.laid(scene, target, workers=_workers(options))

    reader = GridReader(
        scene, card.bands, target.grid, resampling=card.resampling, mask=mask, area=target.area
    )
    plan = Plan(
        tiling,
        plan_chunks(tiling, bytes_per_pixel=round(reader.bytes_per_pixel) or 1),
        options.batch_size or BATCH['cpu' if model.device.type == 'cpu' else 'cuda'],
        options.min_valid,
    )
    # A lazy scene is not looked at, for that would compute part of it, unless its units demand it.
    decides, few = needs_sample(scene, card), 0 if scene.is_lazy else 2
    with gdal_env():
        # Where it decides nothing, a part that cannot be read is left for the run to find, which keeps
        # the work that it has finished by then.
        sample, valid = sample_tiles(
            reader, plan, side=4 if decides else few, workers=_workers(options), strict=decides
        )
        converted, told = conversions(
            scene,
            card,
            card.bands,
            sample,
            valid,
            linear=options.linear_s1,
            atmosphere=options.atmosphere,
        )
    cloudy = bright_note(scene, target) if mask is None and options.mask is None else ()
    levels = () if corrects(scene, card, options.atmosphere) else levels_differ(scene, card)
    probe = _probe(card, sample, valid, converted)
    predictor = choose_predictor(model, options.precision, probe, compile=options.compile)
    notes = (
        *notes,
        *scene.notes,
        *target.notes,
        *about_mask,
        *cloudy,
        *levels,
        *told,
        *_remarks(tiling, card.input_size),
    )
    look = Quicklook(_display(card.bands), -(-max(tiling.height, tiling.width) // LOOK_PIXELS))
    job = Job(
        scene,
        target,
        plan,
        reader.converting(converted),
        predictor,
        look,
        options,
        {},
        notes,
    )
    return replace(job, key=_key(job, converted, choice))


def lay_out(scene: Scene, card: ModelCard, options: ClassifyOptions) -> tuple[Target, Tiling, MaskChoice]:
    """The grid, the tiles and the mask over them, from headers alone.

    Raises:
        UsageError: an option does not fit the scene or the model, or the results would be too large.
    """
    check_bands(scene, card)
    check_task(card, options.threshold, options.top_k)
    # In the scene's own order: the grid is the first source's, whatever the model's first band is.
    needed = {scene.band(name).name for name in card.bands}
    target = target_grid(
        scene.select([name for name in scene.bands if name in needed]),
        card.gsd,
        resolution=options.resolution,
        bbox=options.bbox,
        bbox_crs=options.bbox_crs,
        aoi=options.aoi,
    )
    tile = options.tile or card.input_size
    height, width = target.grid.shape.yx
    tiling = Tiling(height, width, tile, options.stride or tile)
    _check_output(tiling, len(card.labels), options.max_output)
    choice = choose_mask(
        scene, target.grid, mask=options.mask, values=options.mask_values, clouds=options.clouds
    )
    return target, tiling, choice


def known_key(
    scene: Scene,
    model: 'Model',
    options: ClassifyOptions,
    target: Target,
    tiling: Tiling,
    choice: MaskChoice,
) -> dict[str, Any]:
    """What decides the bits of the results, as far as headers tell."""
    grid = target.grid
    return {
        'scene': scene.fingerprint,
        'model': model.sha256,
        'card': _digest(model.card),
        'bands': list(model.card.bands),
        'grid': [str(grid.crs), list(grid.affine)[:6], list(grid.shape.yx)],
        'area': None if target.area is None else target.area.wkt,
        'mask': choice.fingerprint,
        'mask-values': choice.values,
        'resampling': model.card.resampling,
        'tile': tiling.tile,
        'stride': tiling.stride,
        'min-valid': options.min_valid,
        'device': model.device.type,
        'compile': options.compile,
        'geores-version': version('geores'),
    }


def _key(job: Job, converted: dict[str, Conversion], choice: MaskChoice) -> dict[str, Any]:
    """Everything that decides the bits of the results, for the journal."""
    model, plan = job.predictor.model, job.plan
    return known_key(job.scene, model, job.options, job.target, plan.tiling, choice) | {
        'units': {band: asdict(conversion) for band, conversion in converted.items()},
        'batch-size': plan.batch_size,
        'chunks': list(plan.chunk_shape),
        'precision': job.predictor.precision,
    }


def _digest(card: ModelCard) -> str:
    """Changes with what a card says of normalisation, labels and calibration, among others."""
    return sha256(json.dumps(card.to_dict(), sort_keys=True).encode()).hexdigest()


def _check_output(tiling: Tiling, labels: int, limit: int) -> None:
    """Refuse results that are too large, from the header alone."""
    cells = tiling.cell_shape[0] * tiling.cell_shape[1]
    size = 4 * labels * (cells + tiling.count) + ROW_BYTES * tiling.count
    if size > limit:
        raise OutputError(
            f'a grid of {tiling.width} x {tiling.height} pixels gives {tiling.count:,} tiles and about '
            f'{_in_units(size)} of results, more than --max-output {_in_units(limit)}: '
            'raise it, or use a larger --stride or a --bbox'
        )


def _in_units(size: int) -> str:
    """A number of bytes as people read it."""
    for unit, bytes_ in (('GiB', 2**30), ('MiB', 2**20), ('KiB', 2**10)):
        if size >= bytes_:
            return f'{size / bytes_:,.1f} {unit}'
    return f'{size} bytes'


def _probe(
    card: ModelCard,
    sample: NDArray[np.float32],
    valid: NDArray[np.bool_],
    converted: dict[str, Conversion],
) -> NDArray[np.float32]:
    """The sampled tiles that have valid pixels, as the model would get them."""
    seen = valid.any(axis=(1, 2)) if min(valid.shape[1:]) >= MIN_TILE else np.zeros(len(valid), bool)
    tiles, valid = sample[seen], valid[seen]
    for position, (band, fill) in enumerate(zip(card.bands, card.fill, strict=True)):
        for image, known in zip(tiles[:, position], valid, strict=True):
            converted.get(band, Conversion()).apply(image)
            image[~known] = fill
    return tiles


def _remarks(tiling: Tiling, input_size: int) -> tuple[str, ...]:
    remarks = []
    if tiling.padded:
        remarks.append(
            f'the scene ({tiling.width} x {tiling.height} pixels) is smaller than a tile '
            f'({tiling.tile}): padded by reflection'
        )
    if tiling.tile != input_size:
        remarks.append(f'tiles of {tiling.tile} pixels, and the model was trained on {input_size}')
    return tuple(remarks)


def _display(bands: Sequence[str]) -> list[int]:
    """Positions of red, green and blue among a model's bands, else of the first."""
    for names in (('red', 'green', 'blue'), ('B04', 'B03', 'B02')):
        if set(names) <= set(bands):
            return [list(bands).index(name) for name in names]
    return [0]


def _workers(options: ClassifyOptions) -> int:
    """Threads to use: as many as the cores that this process may use, where not said."""
    if options.workers is not None:
        return options.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
