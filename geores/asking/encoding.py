"""Looking at every tile of a scene once: the engine with a VQA bundle's encoder as its step.

Which VQA bundle suits a scene, and what it can answer about.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from geores.asking.area_estimator import measurable
from geores.asking.understand import Known, known_categories, known_types
from geores.card import ModelCard, list_models
from geores.classification.options import ClassifyOptions
from geores.classification.result import Classification
from geores.classification.select import check_bands, fitting_cards, levels_differ, off_range
from geores.classification.steps import ClassifyWork, step_key
from geores.errors import GeoresError, ModelNotFoundError, UsageError
from geores.inference.engine import Region
from geores.inference.plan import TilePlan
from geores.inference.prepared import prepare_scene
from geores.inference.store import Arrays
from geores.inference.units import corrects
from geores.inference.work import Progress, SceneWork
from geores.questions.suggest import TYPES
from geores.runtime.base import DTYPES, Precision
from geores.runtime.predictor import check_precision
from geores.scenes import Scene

if TYPE_CHECKING:
    from geores.model import Model
    from geores.vqa.model import VQAModel

__all__ = ['choose_vqa', 'encode_tiles', 'features_folder', 'known_to', 'load_vqa', 'prepare_encoding']

BATCH_PIXELS = 2**18
"""Most pixels of the tiles that a CPU encodes at once: of 256 x 256, sixteen would take gigabytes."""


class EncodeStep:
    """Maps tiles to ``features`` (n, D, h, w), float16; safe to call from many threads.

    Args:
        model: on its device.
        precision: of the forward pass, under autocast.
    """

    def __init__(self, model: 'VQAModel', precision: Precision) -> None:
        self.model = model
        self.dtype = DTYPES[precision]

    @torch.inference_mode()
    def __call__(self, tiles: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Features of tiles (n, C, H, W) in the card's units, which are overwritten."""
        device = self.model.device
        images = self.model.normalise_(torch.from_numpy(tiles).to(device))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            features = self.model.network.encode(images)
        half = features.to(torch.float16)
        if not torch.isfinite(half).all():
            raise GeoresError(f'features of {self.model.name!r} are not finite as float16 on this scene')
        return {'features': half.cpu().numpy()}


class FeatureSink:
    """Keeps features of the tiles that were seen, and what each tile sees and owns.

    Keeps ``features`` (n, D, h, w) float16 of the seen tiles in row-major order; ``scores`` (rows, cols, 1),
    1 for tiles that were seen and NaN for others, as a classification has it; ``valid`` and ``owned``
    (rows, cols), counting pixels.
    """

    def reduce(self, plan: TilePlan, region: Region, tiles: NDArray[np.int64], outputs: Arrays) -> Arrays:
        """Arrays of the chunk's own tiles."""
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
    """Decide grid, tiles and units, for a step that encodes tiles instead of scoring them.

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
    levels = () if corrects(scene, model.card, options.atmosphere) else levels_differ(scene, model.card)
    return ClassifyWork(work, options, str(model.device), precision, (*notes, *prepared.notes, *levels))


def _fixed(model: 'VQAModel') -> bool:
    """Whether maps of other tiles would have another shape than the head takes."""
    return model.network.encoder.grid is None


def features_folder(folder: Path, name: str) -> Path:
    """Where unfinished work of a scene is kept."""
    return folder / f'.{name}.features'


@contextmanager
def encode_tiles(
    look: ClassifyWork, folder: Path | None, *, resume: bool = True, progress: Progress | None = None
) -> Iterator['Classification']:
    """Encode every tile; what is kept is there until the block ends, and after it where it fails.

    Args:
        look: what to do.
        folder: where unfinished work is kept, so that a killed run continues; None for a folder of the
            system's temporary files, for features may be more than memory holds.
        resume: continue unfinished work in the folder.
        progress: called as tiles are finished.

    Raises:
        ReadError: if the scene could not be read to the end.
        WriteError: if features could not be written.
    """
    with TemporaryDirectory(prefix='geores-') as temporary:
        place = Path(temporary) if folder is None else folder
        store = look.work.open_store(features_folder(place, look.work.prepared.scene.name), resume=resume)
        result = look.run(store, progress)
        if not isinstance(result, Classification):
            raise TypeError('encoding gives tiles')
        yield result
        store.remove()  # not where the block was left by an error: answering goes on from there


NEAR = 4.0
"""How many times coarser or finer than a model's range a scene may be for it to be chosen."""


def load_vqa(scene: Scene, model: 'str | Path | Model', device: str) -> tuple['VQAModel', tuple[str, ...]]:
    """The model that answers, on its device, and why it was chosen where it was.

    Raises:
        UsageError: if it is no VQA model, or none suits the scene.
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
    """The VQA bundle for a scene by its pixel size, and why.

    Args:
        scene: the scene.
        cards: to choose from; those known by name where not given.

    Raises:
        BandError: if the scene lacks bands of every one.
        ModelNotFoundError: if there is none for pixels of that size.
    """
    cards = [card for card in (list_models() if cards is None else cards) if card.task == 'vqa']
    if not cards:
        raise ModelNotFoundError('no VQA model is installed: give --model a bundle')
    fitting = fitting_cards(scene, cards, 'VQA model')
    best = min(fitting, key=lambda card: off_range(scene.gsd, card.gsd))
    if off_range(scene.gsd, best.gsd) > math.log(NEAR):
        spans = '; '.join(f'{card.name} takes {_span(card)}' for card in fitting)
        raise ModelNotFoundError(
            f'no VQA model is for pixels of {scene.gsd:.3g} m: {spans}; give --model or another scene'
        )
    size = 'pixel size unknown' if scene.gsd is None else f'pixels of {scene.gsd:.3g} m'
    return best, f'{best.name} chosen: {size}, and it takes {_span(best)}'


def _span(card: ModelCard) -> str:
    low, high = card.gsd
    return f'{low:g} m' if low == high else f'{low:g} to {high:g} m'


def known_to(model: 'VQAModel', cover: ModelCard | None) -> Known:
    """What can be answered about.

    Args:
        model: the VQA model.
        cover: of the classification that measures areas where the model does not; None for none.
    """
    types = known_types(model.card.labels)
    categories = known_categories(model.tokenizer.definition)
    if 'area' in types:
        return Known(types, categories, categories)
    areas = () if cover is None else measurable(cover.labels)
    known = tuple(kind for kind in TYPES if kind in types or (kind == 'area' and areas))
    return Known(known, categories, areas)
