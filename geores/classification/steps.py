"""What classifying computes of a scene: scores of tiles, or labels of pixels, over one path."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from geores.card import ModelCard
from geores.classification.options import ClassifyOptions, check_task
from geores.classification.outputs import blank_note
from geores.classification.pixel_map import PixelClassification
from geores.classification.result import Classification
from geores.classification.scored import RunInfo
from geores.classification.select import check_bands, levels_differ, outside_training
from geores.grid import Blocks
from geores.inference.cells import VectorSink
from geores.inference.layout import SceneLayout, lay_out_scene
from geores.inference.pixels import ClassSink, LabelPixels
from geores.inference.prepared import PreparedScene, header_key, prepare_scene
from geores.inference.store import ChunkStore
from geores.inference.units import needs_dark_subtraction
from geores.inference.work import Progress, RunTime, SceneWork
from geores.scenes import Scene, gdal_env

if TYPE_CHECKING:
    from geores.model import Model
    from geores.runtime.predictor import Predictor

__all__ = ['ClassifyWork', 'label_pixels', 'lay_out', 'prepare', 'score_tiles', 'step_key']


@dataclass(frozen=True)
class ClassifyWork:
    """Everything decided, nothing computed yet.

    Attributes:
        work: what is computed and kept.
        options: what was asked for.
        device: where, as torch names it.
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
        """Compute what the store does not hold yet; `SceneWork.run` says what is raised."""
        took = self.work.run(store, progress)
        result = self._result(store, took)
        with gdal_env():
            note = blank_note(self.work.prepared, result.valid_share, self.options.min_valid)
        if note is None:
            return result
        return replace(result, info=replace(result.info, notes=(*result.info.notes, note)))

    def defer(self) -> Classification | PixelClassification:
        """Compute nothing yet: each chunk is computed when something of it is asked for."""
        return self._result(self.work.defer(), RunTime(0.0, 0))

    def _result(self, store: ChunkStore, took: RunTime) -> Classification | PixelClassification:
        prepared, options = self.work.prepared, self.options
        info = RunInfo(
            self.device,
            self.precision,
            took.seconds,
            took.tiles,
            options.given(),
            self.work.key,
            self.notes,
        )
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
            return PixelClassification(**parts, work=self.work)
        return Classification(**parts, threshold=options.threshold, top_k=options.top_k)


def prepare(
    scene: Scene, model: 'Model', options: ClassifyOptions, *, notes: tuple[str, ...] = ()
) -> ClassifyWork:
    """Decide grid, tiles, units and precision, from headers and a sample of the pixels.

    Args:
        scene: the scene.
        model: on its device.
        options: what is asked for.
        notes: to begin with, such as why the model was chosen.

    Raises:
        UsageError: an option does not fit the scene or the model.
        ReadError: the sample could not be read, and units depend on it.
    """
    card = model.card
    _check(scene, card, options)
    prepared = prepare_scene(scene, card, options, device=model.device.type)
    levels = () if needs_dark_subtraction(scene, card, options.atmosphere) else levels_differ(scene, card)
    outside = outside_training(scene, card)
    factory = label_pixels if card.task == 'segmentation' else score_tiles
    work, predictor = factory(prepared, model, options)
    return ClassifyWork(
        work, options, str(model.device), predictor.precision, (*notes, *prepared.notes, *levels, *outside)
    )


def score_tiles(
    prepared: PreparedScene, model: 'Model', options: ClassifyOptions
) -> tuple[SceneWork, 'Predictor']:
    """Scores of every tile: the work, and the predictor that does it."""
    from geores.runtime.predictor import choose_predictor

    predictor = choose_predictor(model, options.precision, prepared.probe, compile=options.compile)
    sinks = (VectorSink(len(model.card.labels)),)
    key = step_key(model, predictor.precision, options)
    return SceneWork(prepared, predictor, sinks, model.device.type, key), predictor


def label_pixels(
    prepared: PreparedScene, model: 'Model', options: ClassifyOptions
) -> tuple[SceneWork, 'Predictor']:
    """Labels of every pixel: the work, and the predictor that does it."""
    from geores.runtime.predictor import choose_predictor

    keep = options.probabilities
    predictor = choose_predictor(
        model,
        options.precision,
        prepared.probe,
        compile=options.compile,
        outputs=LabelPixels(prepared.plan.tiling, probabilities=keep),
    )
    sinks = (ClassSink(len(model.card.labels), probabilities=keep),)
    key = step_key(model, predictor.precision, options) | {'probabilities': keep}
    return SceneWork(prepared, predictor, sinks, model.device.type, key), predictor


def step_key(model: 'Model', precision: str, options: ClassifyOptions) -> dict[str, Any]:
    """What decides the bits of a network's answers beside its card and its input."""
    return _model_key(model, options) | {'precision': precision}


def known_key(scene: Scene, model: 'Model', options: ClassifyOptions, layout: SceneLayout) -> dict[str, Any]:
    """What decides the bits of the results, as far as headers tell: a part of `SceneWork.key`."""
    return header_key(scene, model.card, options, layout) | _model_key(model, options)


def _model_key(model: 'Model', options: ClassifyOptions) -> dict[str, Any]:
    return {'model': model.sha256, 'device': model.device.type, 'compile': options.compile}


def lay_out(scene: Scene, card: ModelCard, options: ClassifyOptions) -> SceneLayout:
    """The grid, the tiles and the mask over them, from headers alone.

    Raises:
        UsageError: an option does not fit the scene or the model, or the results would be too large.
    """
    _check(scene, card, options)
    return lay_out_scene(scene, card, options)


def _check(scene: Scene, card: ModelCard, options: ClassifyOptions) -> None:
    check_bands(scene, card)
    check_task(card, options.threshold, options.top_k)
    options.check_for(card)
