"""Train on a user's labels: from scenes and a vector file to a bundle of the user's own classes.

In two steps: check and read everything, then train and score.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from geores.bundle import load_model, save_bundle
from geores.card import ModelCard
from geores.card_values import DataSource
from geores.classification.scored import LABEL_TILES, check_bands, choose_model
from geores.datasets import SceneTiles, split_tiles
from geores.datasets.scene_tiles import Labels, Masks, Scenes, opened
from geores.errors import DatasetError, UsageError, without_secrets
from geores.inference.prepared import Progress
from geores.metrics import confusion_matrix, single_label_report
from geores.options import takes
from geores.runtime.base import pick_device
from geores.scenes import Scene
from geores.splits import Split, stratified_split
from geores.training.finetune_options import FinetuneOptions
from geores.training.finetune_recipe import GivenSplit, Recipe, choose, epochs_for, hold_in
from geores.training.finetune_result import Choice, Finetuned, SplitScore, StageWork, count_tiles
from geores.training.linear_probe import are_few

if TYPE_CHECKING:
    from geores.model import Model

__all__ = ['FinetunePlan', 'finetune', 'plan_finetune']

OPTIMISTIC = (
    'the random split is optimistic, for its validation tiles lie beside training tiles or overlap them: '
    'judge by the geographic split'
)


@dataclass(frozen=True)
class FinetunePlan:
    """A fine-tuning that is checked and ready to run; `plan_finetune` makes it.

    Attributes:
        tiles: labelled tiles, one class each.
        splits: kind -> split; the bundle is that of the first.
        card: card of the future model, without metrics.
        start: bundle whose weights are taken.
        options: options of the user.
        device: to train on.
        about: what the report holds in addition to the scores.
    """

    tiles: SceneTiles
    splits: dict[Any, Split]
    card: ModelCard
    start: str
    options: FinetuneOptions
    device: str
    about: dict[str, Any]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user, one sentence each."""
        return tuple(self.about['notes'])

    def epochs(self, split: Split) -> int:
        """Passes over the training part of a split."""
        return self.options.epochs or epochs_for(len(split.train), self.options.batch_size)

    def run(self, progress: Progress | None = None, stage: StageWork | None = None) -> Finetuned:
        """Train and score under each split.

        Args:
            progress: called with the number of tiles just trained on and of all tiles to train on.
            stage: where unfinished work is kept, and taken up.
        """
        stage = stage or StageWork()
        inner = {kind: self._hold_in(split) for kind, split in self.splits.items()}
        count = sum(
            self.epochs(split) * len(part.train)
            for kind, split in self.splits.items()
            for part in (split, inner[kind])
            if part
        )
        report = progress or (lambda tiles, of: None)
        report(0, count)
        models, scores = [], []
        for kind, split in self.splits.items():
            model, choice = self._train(
                split, inner[kind], lambda tiles: report(tiles, count), stage.part(kind)
            )
            score = self._score(kind, split, model, choice)
            measured = {'split': f'{score.matrix.sum()} validation tiles of {split.id}', **score.metrics}
            model.card = replace(model.card, metrics={', '.join(sorted(set(self.tiles.sources))): measured})
            models.append(model)
            scores.append(score)
        return Finetuned(models[0], tuple(scores), self.about, self._parts())

    def _parts(self) -> dict[str, list[str]]:
        """Ids of the tiles of each part, by the split of the bundle."""
        split = next(iter(self.splits.values()))
        parts = {'train': split.train, 'val': split.val}
        return {name: [self.tiles.ids[index] for index in indices] for name, indices in parts.items()}

    def _hold_in(self, split: Split) -> Split | None:
        options = self.options
        return hold_in(
            self.tiles, split, block_size=options.block_size, buffer=options.buffer, seed=options.seed
        )

    def _train(
        self, split: Split, inner: Split | None, report: Callable[[int], None], stage: StageWork
    ) -> tuple['Model', Choice]:
        kept = stage.result('choice')
        if kept is not None and stage.folder is not None:
            report(sum(self.epochs(split) * len(part.train) for part in (split, inner) if part))
            return load_model(stage.folder / self.card.name, self.device), Choice(**kept)
        few = are_few(len(split.train), len(self.card.labels))
        rate, seed = self.options.learning_rate, self.options.seed
        recipe = Recipe(self.card, self.start, self.epochs(split), rate, seed, self.device, few)
        data = GivenSplit(self.tiles, split, self.options.batch_size)
        task, choice = choose(recipe, data, inner, report, stage)
        about = f'{self.card.description} Kept: {choice.said}.'
        # Scored as it will be loaded: with weights as a bundle keeps them.
        with TemporaryDirectory() as folder:
            bundle = (stage.folder or Path(folder)) / self.card.name
            card = replace(self.card, split_id=split.id, split=split.method, description=about)
            save_bundle(bundle, task.network, card, overwrite=True)
            stage.keep('choice', asdict(choice))
            return load_model(bundle, self.device), choice

    def fingerprint(self) -> dict[str, Any]:
        """What the result depends on, as plain values."""
        tiles = list(zip(self.tiles.ids, self.tiles.strata, strict=True))
        parts = {kind: [split.train, split.val] for kind, split in self.splits.items()}
        return {'card': self.card.to_dict(), 'about': self.about, 'tiles': tiles, 'splits': parts}

    def _score(self, kind: Any, split: Split, model: 'Model', choice: Choice) -> SplitScore:  # noqa: ANN401
        data = GivenSplit(self.tiles, split, self.options.batch_size)
        batches = list(data.val_dataloader())
        scores = torch.cat([torch.from_numpy(model.predict(batch['image'])) for batch in batches])
        target = torch.cat([batch['label'] for batch in batches])
        figures = single_label_report(scores, target)
        return SplitScore(
            kind,
            split.id,
            self.card.labels,
            count_tiles(self.tiles.strata, split.train, self.card.labels),
            confusion_matrix(scores, target).numpy(),
            {name: None if value != value else round(value, 4) for name, value in figures.items()},
            len(self.tiles) - len(split.train) - len(split.val),
            choice,
        )


def plan_finetune(
    scene: Scenes,
    labels: Labels,
    column: str,
    base: str | Path,
    options: FinetuneOptions,
    *,
    bands: Sequence[str] | None = None,
    sensor: str | None = None,
    offset: str | float = 'auto',
) -> FinetunePlan:
    """Check everything and read the tiles; see `finetune` for arguments and errors."""
    device = pick_device(options.device)
    scenes = opened(scene, bands, sensor=sensor, offset=offset)
    start, chosen = str(base), []
    if start == 'auto':
        card, why = choose_model(scenes[0], tasks=LABEL_TILES)
        start, chosen = card.name, [why]
    else:
        card = load_model(base).card
        if card.task == 'vqa':
            raise UsageError(f'{card.name} answers questions: take a base that classifies')
        if card.task == 'segmentation':
            raise UsageError(f'{card.name} labels pixels: take a base that labels tiles')
    for one in scenes:
        check_bands(one, card)
    found = _cut(card, scenes, labels, column, options)
    tiles, notes = _enough(found, options.min_tiles, column)
    splits = {kind: _split(kind, tiles, options) for kind in options.kinds}
    notes = [*chosen, *tiles.notes, *notes, *_remarks(splits, tiles)]
    source = Path(labels).name if isinstance(labels, str | Path) else 'features'
    about = {
        'base': {'name': card.name, 'sha256': card.sha256},
        'scenes': [
            {'name': one.name, 'paths': list(one.paths), 'fingerprint': one.fingerprint} for one in scenes
        ],
        'labels': {'file': source, 'column': column, 'layer': options.layer},
        'options': asdict(options) | {'tile': tiles.size, 'device': device, 'mask': _names(options.mask)},
        'tiles': count_tiles(tiles.strata, list(range(len(tiles))), tiles.labels),
        'tiles_left_out': tiles.left_out,
        'notes': notes,
        'geores_version': version('geores'),
    }
    dropped = [label for label in found.labels if label not in tiles.labels]
    draft = _draft(card, tiles, scenes, source, column, options, dropped)
    return FinetunePlan(tiles, splits, draft, start, options, device, about)


def _cut(
    card: ModelCard, scenes: Sequence[Scene], labels: Labels, column: str, options: FinetuneOptions
) -> SceneTiles:
    size = options.tile or card.input_size
    return SceneTiles.for_card(
        card,
        scenes,
        labels,
        column,
        size=size,
        **_cutting(size, options),
        layer=options.layer,
        mask=options.mask,
        mask_values=options.mask_values,
        linear_s1=options.linear_s1,
        processing_level=None,  # what it learns from is what its card says
    )


def _cutting(size: int, options: FinetuneOptions) -> dict[str, Any]:
    """How tiles are cut and which of them count, as the card records it."""
    return {
        'resolution': options.resolution,
        'stride': options.stride or max(size // 2, 1),
        'placement': options.placement,
        'min_share': options.min_share,
        'min_valid': options.min_valid,
    }


def _remembered(dropped: Sequence[str], options: FinetuneOptions) -> dict[str, Any]:
    """What else an evaluation on the same labels needs: classes that are no labels, and how to read."""
    told = {'dropped': list(dropped), 'layer': options.layer, 'linear_s1': options.linear_s1}
    return {name: value for name, value in told.items() if value}


def _enough(tiles: SceneTiles, least: int, column: str) -> tuple[SceneTiles, list[str]]:
    """Drop classes with too few tiles; at least two classes have to remain."""
    counts = count_tiles(tiles.strata, list(range(len(tiles))), tiles.labels)
    if len(counts) == 1:
        raise DatasetError(
            f'column {column!r} has tiles of one class only ({tiles.labels[0]}), and training needs two'
        )
    few = {label: count for label, count in counts.items() if count < least}
    if not few:
        return tiles, []
    said = ', '.join(f'{label} ({count})' for label, count in few.items())
    if len(counts) - len(few) < 2:
        raise DatasetError(
            f'classes with fewer than {least} tiles: {said}; fewer than two remain: lower --min-tiles or '
            '--min-share, take a smaller --tile or --stride, or label more'
        )
    return tiles.keep([label for label in counts if label not in few]), [
        f'classes with fewer than {least} tiles dropped: {said}'
    ]


def _names(mask: Masks | None) -> list[str] | None:
    """Paths of masks without secrets, for the report."""
    if mask is None:
        return None
    masks = [mask] if isinstance(mask, str | PathLike) else mask
    return [without_secrets(fspath(one)) for one in masks]


def _split(kind: str, tiles: SceneTiles, options: FinetuneOptions) -> Split:
    if kind == 'random':
        split = stratified_split(tiles.ids, tiles.strata, options.val_share, options.seed)
    else:
        split = split_tiles(
            tiles, options.val_share, options.seed, block_size=options.block_size, buffer=options.buffer
        )
    missing = [
        label for label, count in count_tiles(tiles.strata, split.train, tiles.labels).items() if not count
    ]
    if missing:
        raise DatasetError(
            f'no training tiles of {", ".join(missing)} are left by the {kind} split: choose another '
            '--block-size or --seed, a smaller --buffer, or a larger --min-tiles that drops the class'
        )
    return split


def _remarks(splits: dict[Any, Split], tiles: SceneTiles) -> list[str]:
    notes = []
    for kind, split in splits.items():
        counts = count_tiles(tiles.strata, split.val, tiles.labels)
        unseen = [label for label, count in counts.items() if not count]
        if unseen:
            notes.append(f'no validation tiles of {", ".join(unseen)} in the {kind} split: not measured')
        left_out = len(tiles) - len(split.train) - len(split.val)
        if left_out:
            notes.append(f'{left_out} tiles too near to validation tiles left out of training')
    return [*notes, OPTIMISTIC] if 'random' in splits else notes


def _draft(
    base: ModelCard,
    tiles: SceneTiles,
    scenes: Sequence[Scene],
    source: str,
    column: str,
    options: FinetuneOptions,
    dropped: Sequence[str],
) -> ModelCard:
    """Draft the card of the new model; this checks that the classes can be labels."""
    names = ', '.join(scene.name for scene in scenes)
    levels = {scene.processing_level or base.processing_level for scene in scenes}
    sizes = [float(f'{gsd:.4g}') for gsd in tiles.gsds]
    own = (
        DataSource(
            name=scene.name,
            licence="the user's to state, of scene and labels",
            note=f'{tiles.sources.count(scene.name)} tiles, labelled by column {column} of {source}',
        )
        for scene in scenes
    )
    licence = f'as its base {base.name} ({base.licence}) and as scenes and labels of the fine-tuning allow'
    return replace(
        base,
        name=f'{base.name}-{len(tiles.labels)}-classes',
        description=f'{base.name} trained on {len(tiles)} tiles of {names} to the {len(tiles.labels)} '
        f'classes of column {column} of {source}.',
        architecture_kwargs={**base.architecture_kwargs, 'num_classes': len(tiles.labels)},
        activation='softmax',
        task='single-label',
        processing_level=' and '.join(sorted(levels)),
        gsd=(min(sizes), max(sizes)),
        input_size=tiles.size,
        labels=tiles.labels,
        thresholds=None,
        calibration=None,
        intervals=None,
        tiles=_cutting(tiles.size, options) | _remembered(dropped, options),
        split_id=next(iter(options.kinds)),
        split=None,
        training_data=(*own, *base.training_data),
        licence=options.licence or licence,
        metrics={},
        sha256='',
        geores_version='',
    )


@takes(FinetuneOptions)
def finetune(
    scene: Scenes,
    labels: Labels,
    column: str,
    base: str | Path = 'auto',
    *,
    bands: Sequence[str] | None = None,
    sensor: str | None = None,
    offset: str | float = 'auto',
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
        sensor: which sensor the scenes are of, where that is not to be decided from them: see `open_scene`.
        offset: what is to be added to Sentinel-2's digital numbers, 'none' or -1000; 'auto' decides it.
        progress: called with the number of tiles just trained on and of all tiles to train on.
        **options: options of `FinetuneOptions`.

    Returns:
        Model, scores and report; `Finetuned.save` writes them.

    Raises:
        UsageError: if something given cannot be used.
        ReadError: if a scene could not be read.
    """
    wanted = FinetuneOptions.from_options(options)
    plan = plan_finetune(scene, labels, column, base, wanted, bands=bands, sensor=sensor, offset=offset)
    return plan.run(progress)
