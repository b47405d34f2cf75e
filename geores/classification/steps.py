"""The work of a classification: scores of tiles, or labels of pixels, along one path.

`prepare_classification` decides everything from headers and a sample of the pixels; `ClassifyWork` then
computes, at once or chunk by chunk when something of the result is asked for.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geores.card import ModelCard
from geores.classification.label_rule import label_thresholds
from geores.classification.options import ClassifyOptions
from geores.classification.result import Classification, PixelClassification
from geores.classification.scene_result import RunInfo
from geores.classification.scored import check_bands, levels_differ, outside_training
from geores.errors import UsageError
from geores.grid import Blocks
from geores.inference.plan import SceneLayout, lay_out_scene
from geores.inference.prepared import PreparedScene, Progress, RunTime, SceneWork, header_key, prepare_scene
from geores.inference.reader import ChunkStore, GridReader
from geores.inference.sinks import ClassSink, LabelPixels, VectorSink
from geores.inference.units import needs_dark_subtraction, sample_tiles
from geores.scenes import Scene, gdal_env

if TYPE_CHECKING:
    import torch

    from geores.model import Model
    from geores.runtime.choice import Workload
    from geores.runtime.nearness import LabelRule
    from geores.runtime.predictor import Predictor

__all__ = [
    'ClassifyWork',
    'UnloadedModel',
    'explain_empty_result',
    'known_key',
    'label_pixels',
    'layout_for',
    'make_result',
    'prepare_classification',
    'score_tiles',
    'step_key',
]

SAMPLE_SIDE = 8
"""Tiles along each axis that are sampled where nothing was classified."""
MIDDLE = 5
"""Tiles along each axis in the middle, on which answers of another way are compared."""
SHOWN = 3
"""Rasters without valid pixels that a note names."""


@dataclass(frozen=True)
class ClassifyWork:
    """A classification about which everything is decided and nothing is computed yet.

    Attributes:
        work: what is computed and kept.
        options: of the user.
        device: where the network runs, as torch names it.
        precision: of the forward pass.
        notes: what the user should know, one sentence each.
    """

    work: SceneWork
    options: ClassifyOptions
    device: str
    precision: str
    notes: tuple[str, ...]

    def run(
        self, store: ChunkStore, progress: Progress | None = None
    ) -> Classification | PixelClassification:
        """Compute what the store does not hold yet; `SceneWork.run` describes what is raised."""
        took = self.work.run(store, progress)
        result = self._result(store, took)
        with gdal_env():
            note = explain_empty_result(self.work.prepared, result.valid_share, self.options.min_valid)
        if note is None:
            return result
        return replace(result, info=replace(result.info, notes=(*result.info.notes, note)))

    def defer(self) -> Classification | PixelClassification:
        """A result whose chunks are computed when something of them is asked for."""
        return self._result(self.work.defer(), RunTime(0.0, 0))

    def _result(self, store: ChunkStore, took: RunTime) -> Classification | PixelClassification:
        info = RunInfo(
            self.device,
            self.precision,
            took.seconds,
            took.tiles,
            self.options.given(),
            self.work.key,
            self.notes,
        )
        return make_result(self.work, self.options, store, info)


def make_result(
    work: SceneWork, options: ClassifyOptions, store: ChunkStore, info: RunInfo
) -> Classification | PixelClassification:
    """Make the result that reads from a store.

    Args:
        work: what was computed, or is computed when the store is asked for it.
        options: of the user.
        store: the chunks.
        info: how they were computed.
    """
    prepared = work.prepared
    target = prepared.layout.target
    parts: dict[str, Any] = {
        'scene': prepared.scene,
        'card': prepared.card,
        'grid': target.grid,
        'gsd': target.gsd,
        'plan': prepared.plan,
        'store': store,
        'look': prepared.look,
        'info': info,
    }
    if isinstance(prepared.layout.tiling, Blocks):
        return PixelClassification(**parts, work=work)
    return Classification(**parts, threshold=options.threshold, top_k=options.top_k)


def prepare_classification(
    scene: Scene, model: 'Model', options: ClassifyOptions, *, notes: tuple[str, ...] = ()
) -> ClassifyWork:
    """Decide grid, tiles, units and precision, from headers and a sample of the pixels.

    Args:
        scene: the scene.
        model: on its device.
        options: of the user.
        notes: that come first, such as why the model was chosen.

    Raises:
        UsageError: if an option does not fit the scene or the model.
        ReadError: if the sample could not be read, and units depend on it.
    """
    from geores.runtime.base import pick_devices
    from geores.runtime.predictor import ManyDevices

    card = model.card
    _check(scene, card, options)
    prepared = prepare_scene(scene, card, options, device=model.device.type)
    levels = () if needs_dark_subtraction(scene, card, options.atmosphere) else levels_differ(scene, card)
    outside = outside_training(scene, card)
    factory = label_pixels if card.task == 'segmentation' else score_tiles
    work, predictor = factory(prepared, model, options)
    devices = pick_devices(options.device)
    if len(devices) > 1:
        if options.dense or options.compile:
            raise UsageError(f'--{"dense" if options.dense else "compile"} takes one --device')
        work = replace(work, step=ManyDevices(predictor, devices), devices=len(devices))
        options = replace(options, device=devices[0])  # files are those of one device, to the byte
    told = (*notes, *prepared.notes, *predictor.notes, *levels, *outside)
    where = str(model.device) if len(devices) == 1 else ', '.join(devices)
    return ClassifyWork(work, options, where, predictor.precision, told)


def score_tiles(
    prepared: PreparedScene, model: 'Model', options: ClassifyOptions
) -> tuple[SceneWork, 'Predictor']:
    """The work that scores every tile, and its predictor."""
    from geores.runtime.predictor import choose_predictor

    predictor: Predictor
    if options.dense:
        from geores.runtime.dense import choose_dense_predictor

        axis = prepared.plan.tiling.y
        how: dict[str, Any] = {
            'runtime': options.runtime,
            'compile': options.compile,
            'rule': _label_rule(model.card, options),
        }
        dense = choose_dense_predictor(
            model, options.precision, prepared.probe, axis.tile, axis.stride, **how
        )
        dense.refuse_far(_middle(prepared), axis.stride)
        predictor = dense
    else:
        predictor = choose_predictor(
            model,
            options.precision,
            prepared.probe,
            compile=options.compile,
            runtime=options.runtime,
            work=_workload(prepared),
            rule=_label_rule(model.card, options),
        )
    sinks = (VectorSink(len(model.card.labels)),)
    key = step_key(model, predictor.precision, options, predictor.runtime.name)
    key |= {'dense': True} if options.dense else {}
    key |= {} if predictor.ties is None else {'ties': predictor.ties.key()}
    return SceneWork(prepared, predictor, sinks, model.device.type, key), predictor


def _label_rule(card: ModelCard, options: ClassifyOptions) -> 'LabelRule':
    """How scores become labels in the result."""
    from geores.runtime.nearness import LabelRule

    thresholds = tuple(label_thresholds(card, options.threshold).tolist())
    return LabelRule(card.activation == 'softmax', thresholds, options.top_k)


def label_pixels(
    prepared: PreparedScene, model: 'Model', options: ClassifyOptions
) -> tuple[SceneWork, 'Predictor']:
    """The work that labels every pixel, and its predictor."""
    from geores.runtime.predictor import choose_predictor

    keep = options.probabilities
    predictor = choose_predictor(
        model,
        options.precision,
        prepared.probe,
        compile=options.compile,
        outputs=LabelPixels(prepared.plan.tiling, probabilities=keep),
        runtime=options.runtime,
        work=_workload(prepared),
    )
    sinks = (ClassSink(len(model.card.labels), probabilities=keep),)
    key = step_key(model, predictor.precision, options, predictor.runtime.name) | {'probabilities': keep}
    return SceneWork(prepared, predictor, sinks, model.device.type, key), predictor


def step_key(
    model: 'Model', precision: str, options: ClassifyOptions, runtime: str = 'torch'
) -> dict[str, Any]:
    """Everything that decides the bits of a network's predictions, beside its card and its input."""
    from geores.runtime.base import describe_runtime

    return _model_key(model, options) | {'precision': precision} | describe_runtime(runtime, model.device)


def _middle(prepared: PreparedScene) -> NDArray[np.float32]:
    """The pixels in the middle of a scene, as the model gets them: some tiles along each axis."""
    y, x = prepared.plan.tiling.y, prepared.plan.tiling.x
    sides = [min(axis.size, MIDDLE * axis.tile) for axis in (y, x)]
    starts = [(axis.size - side) // 2 for axis, side in zip((y, x), sides, strict=True)]
    rows, cols = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    with gdal_env():
        values, valid = prepared.reader.read(rows, cols)
    for band, fill in zip(values, prepared.card.fill, strict=True):
        band[~valid] = fill
    return values


def _workload(prepared: PreparedScene) -> 'Workload':
    """What a runtime will be given."""
    from geores.runtime.choice import Workload

    plan, bands = prepared.plan, len(prepared.card.bands)
    shape = (bands, plan.tiling.y.tile, plan.tiling.x.tile)
    return Workload(shape, plan.batch_size, plan.tiling.count, prepared.workers)


@dataclass(frozen=True)
class UnloadedModel:
    """As much of a model as `known_key` needs: its weights are not read.

    Attributes:
        card: of the model.
        device: where it would run.
    """

    card: ModelCard
    device: 'torch.device'

    @property
    def sha256(self) -> str:
        """Hash of the weights file."""
        return self.card.sha256


def known_key(
    scene: Scene, model: 'Model | UnloadedModel', options: ClassifyOptions, layout: SceneLayout
) -> dict[str, Any]:
    """What decides the bits of the results, as far as headers tell: a part of `SceneWork.key`."""
    return header_key(scene, model.card, options, layout) | _model_key(model, options)


def _model_key(model: 'Model | UnloadedModel', options: ClassifyOptions) -> dict[str, Any]:
    return {'model': model.sha256, 'device': model.device.type, 'compile': options.compile}


def layout_for(scene: Scene, card: ModelCard, options: ClassifyOptions) -> SceneLayout:
    """The grid, the tiles and the mask over them, from headers alone.

    Raises:
        UsageError: if an option does not fit the scene or the model, or the results would be too large.
    """
    _check(scene, card, options)
    return lay_out_scene(scene, card, options)


def _check(scene: Scene, card: ModelCard, options: ClassifyOptions) -> None:
    check_bands(scene, card)
    options.check_for(card)


def explain_empty_result(prepared: PreparedScene, valid_share: float, min_valid: float) -> str | None:
    """Say why nothing of a scene was classified; None where something was.

    Args:
        prepared: the scene that was classified.
        valid_share: share of its pixels that were classified, from 0 to 1.
        min_valid: share of a tile's pixels that had to be valid.
    """
    if valid_share > 0:
        return None
    empty = [names for names in _bands_by_raster(prepared) if _is_empty(prepared, names)]
    if empty:
        bands = prepared.scene.band
        found = [f'{", ".join(names)} in {bands(names[0]).raster.path}' for names in empty]
        more = [f'{len(found) - SHOWN} more'] if len(found) > SHOWN else []
        listed = ' and '.join(found[:SHOWN] + more)
        return f'nothing was classified: a sample has no valid pixel of {listed}'
    if prepared.card.task == 'segmentation':
        return (
            'nothing was classified: no pixel is valid in every band; nodata, a mask and what lies outside '
            'an area of interest are not'
        )
    return (
        f'nothing was classified: in no tile {min_valid:.0%} of the pixels are valid (min_valid) '
        'in every band; nodata, a mask and what lies outside an area of interest are not'
    )


def _bands_by_raster(prepared: PreparedScene) -> list[list[str]]:
    """The names of the model's bands, grouped by the raster that holds them."""
    groups: dict[int, list[str]] = {}
    for name in prepared.card.bands:
        groups.setdefault(id(prepared.scene.band(name).raster), []).append(name)
    return list(groups.values())


def _is_empty(prepared: PreparedScene, names: list[str]) -> bool:
    """Whether a sample of these bands alone, without mask and area, has no valid pixel."""
    layout = prepared.layout
    reader = GridReader(prepared.scene, names, layout.target.grid, resampling=prepared.card.resampling)
    _, valid = sample_tiles(reader, layout.samples, side=SAMPLE_SIDE, strict=False)
    return not valid.any()
