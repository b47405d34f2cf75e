"""Train on a user's labels: from scenes and a vector file to a bundle of the user's own classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geores.datasets.scene_tiles import Labels, Scenes
from geores.inference.work import Progress
from geores.training.finetune_options import FinetuneOptions
from geores.training.finetune_plan import plan_finetune
from geores.training.finetune_result import Finetuned

__all__ = ['finetune']


def finetune(
    scene: Scenes,
    labels: Labels,
    column: str,
    base: str | Path = 'auto',
    *,
    bands: Sequence[str] | None = None,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - checked by name and value
) -> Finetuned:
    """Fine-tune a bundle on tiles of scenes that are labelled by polygons or points.

    A tile has the class that covers the largest area of it, if that is at least ``min_share`` of the whole
    tile; with points it has the class of the points inside. Whole blocks of ground are kept for
    validation, and training tiles that overlap validation tiles are left out.

    A linear head on the base's features is fitted first, and all of the network is tuned from there. Both are
    tried on blocks of training tiles that are held in (20 or more, else there is no trial); where the linear
    start is better by above a standard error, it is kept. Either is then fitted to all training tiles.

    Args:
        scene: one scene or a list of several, each a path or an open `Scene`.
        labels: vector file of polygons or points in any CRS, or its features.
        column: holds the class.
        base: name or path of the bundle whose architecture, bands, units and weights are taken; ``auto``
            for the one that ships and suits the scene's bands and pixel size.
        bands: names of the bands in file order, where the files do not say.
        progress: called with the number of tiles just trained on and of all tiles to train on.
        **options: ``tile`` (pixels; the base's input size), ``resolution`` (metres a pixel), ``stride``
            (pixels from tile to tile; half a tile), ``placement`` (``grid``, ``centred`` on each polygon or
            point, or ``auto``), ``min_share`` (0.5), ``min_valid`` (share of valid pixels, 0.5),
            ``min_tiles`` (a class with fewer is dropped, 10), ``layer`` (of the file), ``split``
            (``blocks``, ``random`` or ``both``), ``block_size`` (metres; four tiles), ``buffer`` (metres
            between the parts, 0), ``val_share`` (0.2), ``epochs`` (about 600 steps), ``learning_rate``
            (5e-4; 2e-4 with fewer than 100 tiles a class), ``batch_size``
            (32), ``seed``, ``device``, ``licence`` (of the weights), ``mask`` (raster whose cloud classes, or
            non-zero pixels, are invalid: one, or one for each scene), ``mask_values``, ``linear_s1``
            (Sentinel-1's backscatter is calibrated on a linear scale instead of in dB).

    Returns:
        Model, scores and report; `Finetuned.save` writes them.

    Raises:
        UsageError: if something given cannot be used.
        ReadError: if a scene could not be read.
    """
    wanted = FinetuneOptions.from_options(options)
    return plan_finetune(scene, labels, column, base, wanted, bands=bands).run(progress)
