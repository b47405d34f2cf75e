"""Encode every tile of a scene once with a VQA bundle, and choose the bundle that suits the scene.

This is the inference engine with the bundle's encoder as its step: the features of all tiles are stored, and
any number of questions is answered from them.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geores.asking.area_estimator import measurable
from geores.asking.understand import Known, known_categories, known_types
from geores.card import ModelCard, list_models
from geores.classification.options import ClassifyOptions
from geores.classification.result import Classification
from geores.classification.scored import check_bands, fitting_cards, levels_differ, off_range, unfit
from geores.classification.steps import ClassifyWork, step_key
from geores.errors import GeoresError, ModelNotFoundError, UsageError
from geores.inference.engine import Region
from geores.inference.plan import TilePlan
from geores.inference.prepared import Progress, SceneWork, prepare_scene
from geores.inference.reader import Arrays
from geores.inference.units import needs_dark_subtraction
from geores.questions.suggest import TYPES
from geores.runtime.base import Precision, Runtime
from geores.runtime.eager import keep_runtime
from geores.runtime.predictor import Predictor, check_precision
from geores.scenes import Scene

if TYPE_CHECKING:
    from geores.model import Model
    from geores.vqa.model import VQAModel

__all__ = [
    'ImageGain',
    'choose_vqa',
    'encode_tiles',
    'features_folder',
    'image_gain',
    'known_to',
    'load_vqa',
    'never_seen',
    'prepare_encoding',
]

BATCH_PIXELS = 2**18
"""Maximum number of pixels in a batch on a CPU: sixteen tiles of 256 x 256 would take gigabytes."""


class EncodeStep(Predictor):
    """Encodes tiles to ``features`` (n, D, h, w), float16; safe to call from many threads.

    Args:
        model: the VQA model, on its device.
        precision: precision of the forward pass, under autocast.
    """

    def __init__(self, model: 'VQAModel', precision: Precision) -> None:
        runtime = keep_runtime(model.network.encoder, precision, model.device)
        super().__init__(model, precision, outputs=lambda features: {'features': features}, runtime=runtime)

    def probabilities(self, images: Tensor, runtime: Runtime | None = None) -> Tensor:
        """Features, (n, D, h, w), float16, of images in the card's units, which are overwritten."""
        half = (runtime or self.runtime)(self.model.normalise_(images)).to(torch.float16)
        if not torch.isfinite(half).all():
            raise GeoresError(f'features of {self.model.name!r} are not finite as float16 on this scene')
        return half


class FeatureSink:
    """Stores the features of the tiles that were seen, and how many pixels each tile sees and owns.

    Per chunk: ``features`` (n, D, h, w) float16 of the seen tiles in row-major order; ``scores``
    (rows, cols, 1), 1 for tiles that were seen and NaN for others, so that the store reads like that of a
    classification; ``valid`` and ``owned`` (rows, cols), numbers of valid pixels.
    """

    def reduce(self, plan: TilePlan, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> Arrays:
        """Arrays to store for the tiles of one chunk."""
        rows, cols = region.chunk.rows, region.chunk.cols
        y, x = plan.tiling.y, plan.tiling.x
        seen = np.full((rows.stop - rows.start, cols.stop - cols.start, 1), np.nan, np.float32)
        row, col = tiles.T
        seen[row - rows.start, col - cols.start] = 1
        return {
            'features': outputs['features'] if len(tiles) else np.empty((0, 1, 1, 1), np.float16),
            'scores': seen,
            'valid': region.count((y.starts[rows], y.stops[rows]), (x.starts[cols], x.stops[cols])),
            'owned': region.count((y.edges[rows], y.edges[1:][rows]), (x.edges[cols], x.edges[1:][cols])),
        }


def prepare_encoding(
    scene: Scene, model: 'VQAModel', options: ClassifyOptions, *, notes: tuple[str, ...] = ()
) -> ClassifyWork:
    """Decide grid, tiles and units for encoding a scene.

    Args:
        scene: the scene.
        model: the VQA model.
        options: options of encoding, as `ask` takes them.
        notes: notes to put before those of the scene.

    Raises:
        UsageError: if an option does not fit the scene or the model.
        ReadError: if a sample of the pixels could not be read, and units depend on it.
    """
    if options.tile is not None and options.tile != model.card.input_size and _fixed(model):
        raise UsageError(
            f'model {model.name!r} takes tiles of {model.card.input_size} pixels only: drop --tile'
        )
    chosen = check_precision(model, options.precision)
    precision: Precision = ('fp16' if model.device.type == 'cuda' else 'fp32') if chosen == 'auto' else chosen
    if options.batch_size is None and model.device.type == 'cpu':
        side = options.tile or model.card.input_size
        options = replace(options, batch_size=min(16, max(1, BATCH_PIXELS // side**2)))
    check_bands(scene, model.card)
    prepared = prepare_scene(scene, model.card, options, device=model.device.type)
    key = step_key(model, precision, options) | {'kept': 'features and scores'}
    work = SceneWork(prepared, EncodeStep(model, precision), (FeatureSink(),), model.device.type, key)
    levels = (
        ()
        if needs_dark_subtraction(scene, model.card, options.atmosphere)
        else levels_differ(scene, model.card)
    )
    return ClassifyWork(work, options, str(model.device), precision, (*notes, *prepared.notes, *levels))


def _fixed(model: 'VQAModel') -> bool:
    """Whether the head takes feature maps of one shape only, so that the tile size cannot change."""
    return model.network.encoder.grid is None


def features_folder(folder: Path, name: str) -> Path:
    """Folder in which unfinished work of a scene is kept."""
    return folder / f'.{name}.features'


@contextmanager
def encode_tiles(
    work: ClassifyWork,
    folder: Path | None,
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Iterator['Classification']:
    """Encode every tile; the features are there until the block ends, and stay if it fails.

    Args:
        work: what to encode, of `prepare_encoding`.
        folder: folder for unfinished work, so that a killed run can continue; None for a temporary folder,
            because features can be larger than memory.
        resume: continue unfinished work in the folder.
        overwrite: drop unfinished work of another run.
        progress: called as tiles are finished.

    Yields:
        The scene, whose store holds the features.

    Raises:
        ReadError: if the scene could not be read to the end.
        WriteError: if features could not be written.
    """
    with TemporaryDirectory(prefix='geores-') as temporary:
        place = features_folder(Path(temporary) if folder is None else folder, work.work.prepared.scene.name)
        with work.work.open_store(place, resume=resume, overwrite=overwrite) as store:
            result = work.run(store, progress)
            if not isinstance(result, Classification):
                raise TypeError('encoding gives tiles')
            yield result
            store.remove()  # not where the block was left by an error: answering goes on from there


NEAR = 4.0
"""A model is chosen for scenes at most this factor coarser or finer than its range of pixel sizes."""


def load_vqa(scene: Scene, model: 'str | Path | Model', device: str) -> tuple['VQAModel', tuple[str, ...]]:
    """Load the VQA model on its device, and say why it was chosen if it was chosen automatically.

    Args:
        scene: the scene.
        model: name or path of a bundle, a loaded model, or 'auto'.
        device: name of the device, or 'auto'.

    Raises:
        UsageError: if the model is no VQA model, or no model suits the scene.
    """
    from geores.bundle import load_model
    from geores.model import Model
    from geores.runtime.base import pick_device
    from geores.vqa.model import VQAModel

    why: tuple[str, ...] = ()
    if not isinstance(model, Model):
        if model == 'auto':
            card, reason = choose_vqa(scene)
            model, why = card.name, (reason,)
        model = load_model(model, pick_device(device))
    if not isinstance(model, VQAModel):
        raise UsageError(
            f'model {model.name!r} gives labels and answers no questions: give --model a bundle of task vqa, '
            'or classify with it'
        )
    return model, why


def choose_vqa(scene: Scene, cards: Sequence[ModelCard] | None = None) -> tuple[ModelCard, str]:
    """Choose the VQA bundle that suits the pixel size of a scene, and say why.

    Args:
        scene: the scene.
        cards: cards to choose from; by default those of all known bundles.

    Raises:
        BandError: if the scene lacks bands that every bundle needs.
        ModelNotFoundError: if no bundle is for pixels of that size.
    """
    cards = [card for card in (list_models() if cards is None else cards) if card.task == 'vqa']
    if not cards:
        raise ModelNotFoundError('no VQA model is installed: give --model a bundle')
    # Where bands are missing everywhere, that is what is to be said.
    fitting = [card for card in cards if not scene.missing(card.bands)] or fitting_cards(
        scene, cards, 'VQA model'
    )
    best = min(fitting, key=lambda card: off_range(scene.gsd, card.gsd))
    if off_range(scene.gsd, best.gsd) > math.log(NEAR) or unfit(scene, best):
        spans = '; '.join(f'{card.name} takes {_span(card)}' for card in fitting)
        raise ModelNotFoundError(
            f'no VQA model is for pixels of {scene.gsd:.3g} m: {spans}; give --model or another scene'
        )
    size = 'pixel size unknown' if scene.gsd is None else f'pixels of {scene.gsd:.3g} m'
    return best, f'{best.name} chosen: {size}, and it takes {_span(best)}'


def _span(card: ModelCard) -> str:
    low, high = card.gsd
    return f'{low:g} m' if low == high else f'{low:g} to {high:g} m'


@dataclass(frozen=True)
class ImageGain:
    """What a VQA model gains by the image, measured on questions of one type.

    Attributes:
        seeing: share of right answers with the image.
        blind: the same without, of a model that knows questions only.
        measured: on what, as the card says it.
    """

    seeing: float
    blind: float
    measured: str

    @property
    def is_none(self) -> bool:
        """Whether the image adds nothing: the model answers alike for every image."""
        return self.seeing - self.blind < 0.005

    @property
    def is_small(self) -> bool:
        """Whether the image adds so little that it has to be said."""
        return self.seeing - self.blind < 0.05

    def in_words(self, name: str) -> str:
        """The gain as a sentence.

        Args:
            name: of the model.
        """
        how = (
            'answers such questions alike for every image'
            if self.is_none
            else 'gains little by the image here'
        )
        return f'{name} {how}: right in {self.seeing:.1%} with it, {self.blind:.1%} without ({self.measured})'


def image_gain(card: ModelCard, kind: str) -> ImageGain | None:
    """What a model gains by the image on questions of a type; None where its card does not say.

    Args:
        card: of a VQA model.
        kind: type of the questions.
    """
    for source, figures in card.metrics.items():
        seeing, blind = figures.get(f'accuracy_{kind}'), figures.get(f'question_only_accuracy_{kind}')
        if isinstance(seeing, int | float) and isinstance(blind, int | float):
            return ImageGain(float(seeing), float(blind), f'{source}, {figures.get("split", "its card")}')
    return None


def never_seen(card: ModelCard) -> tuple[str, ...]:
    """What the training of a network has not seen, as a note; empty where its card does not say.

    Args:
        card: of a VQA model.
    """
    unseen = (card.limits or {}).get('unseen')
    return (f'{card.name} has not seen: {"; ".join(unseen)}',) if unseen else ()


def known_to(card: ModelCard, area_card: ModelCard | None) -> Known:
    """The question types and categories that a network can answer.

    Args:
        card: of the VQA model.
        area_card: card of the classification that measures areas if the model does not; None for none.
    """
    types = known_types(card.labels)
    categories = known_categories((card.tokenizer or {}).get('definition', {}))
    gains = {kind: image_gain(card, kind) for kind in types}
    blind = {
        kind: gain.in_words(card.name) for kind, gain in gains.items() if gain is not None and gain.is_none
    }
    if 'area' in types:
        return Known(types, categories, categories, blind=blind)
    areas = () if area_card is None else measurable(area_card.labels)
    known = tuple(kind for kind in TYPES if kind in types or (kind == 'area' and areas))
    return Known(known, categories, areas, blind=blind)
