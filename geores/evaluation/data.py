"""Open labelled data of any kind from its path, and convert its labels to those of a model.

The bands that a model takes are found by descriptions in the files or by names that the user gives. The
official parts are those of Clasen et al. (2024), reBEN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Dataset

from geores.card import ModelCard
from geores.card_values import bare_name
from geores.errors import BandError, DatasetError, UsageError, did_you_mean
from geores.options import EvaluateOptions

if TYPE_CHECKING:
    from geores.datasets import GeoTIFFPatches, ReBEN, SceneFolder
    from geores.datasets._module import LabelledImages

__all__ = ['Labelled', 'Mode', 'Paths', 'bring_to_labels', 'find_datasets', 'meanings']


def _check_bands(card: ModelCard, names: Sequence[str] | None) -> None:
    """Check that the band names given by the user include all bands that a model takes.

    Raises:
        BandError: if a band is missing or named twice.
    """
    if names is None:
        return
    missing = [band for band in card.bands if band not in names]
    if missing:
        raise BandError(f'bands {", ".join(names)}: {card.name} takes {missing[0]} too')
    if len(set(names)) < len(names):
        raise BandError(f'bands {", ".join(names)}: one is named twice')


def _read_as(
    dataset: 'GeoTIFFPatches | SceneFolder', card: ModelCard, names: Sequence[str] | None
) -> 'GeoTIFFPatches | SceneFolder':
    """Let a dataset read the bands that a model takes from its GeoTIFFs, by `names` or by descriptions."""
    from geores.datasets._geotiff import FilledPatches

    dataset.bands = card.bands
    dataset.images = FilledPatches(dataset.images.paths, card.bands, card.input_size, names=names)
    return dataset


def _find_reben(
    card: ModelCard, folders: Sequence[Path], part: str, options: Mapping[str, Any]
) -> 'ReBEN | None':
    """Open a part of BigEarthNet as a model takes it; None if the folders hold something else.

    Raises:
        UsageError: if the model takes one label an image, other bands, or other sizes; there are several
            folders, or options without BigEarthNet.
    """
    from geores.bigearthnet.opening import find_kind

    if not any(find_kind(folder) for folder in folders):
        if options:
            raise UsageError(f'{", ".join(options)} go with BigEarthNet v2.0, and {folders[0]} is none')
        return None
    if len(folders) > 1:
        raise UsageError(f'{", ".join(map(str, folders))}: BigEarthNet is evaluated alone: name one folder')
    return _open_reben(card, folders[0], part, options)


def _is_official(dataset: object) -> bool:
    """Whether a dataset has official parts."""
    from geores.datasets import ReBEN

    return isinstance(dataset, ReBEN)


def _open_reben(card: ModelCard, folder: Path, part: str, options: Mapping[str, Any]) -> 'ReBEN':
    from geores.datasets import ReBEN

    if card.task != 'multi-label':
        raise UsageError(f'{folder}: any number of labels an image, and {card.name} is {card.task}')
    if card.input_size != ReBEN.side:
        raise UsageError(
            f'{folder}: patches of {ReBEN.side} x {ReBEN.side} pixels, and {card.name} takes '
            f'{card.input_size} x {card.input_size}'
        )
    try:
        return ReBEN(folder, part, card.bands, card.resampling, **options)  # type: ignore[arg-type]
    except BandError as error:
        raise BandError(f'{folder}: {card.name} takes bands that it does not have: {error}') from error


Mode = Literal['scene', 'multi-label']
Paths = str | PathLike[str] | Sequence[str | PathLike[str]]

_PATCHES, _FOLDERS = 'patches with labels.csv', 'folders of classes'


@dataclass(frozen=True)
class Labelled:
    """Samples with their ground truth, in the order of a card's labels.

    Args:
        dataset: samples, as `geores.datasets` gives them.
        indices: indices of the samples to use.
        target: ground truth of all samples: (N,) indices of the card's labels, or (N, K) of 0 and 1.
        ids: ids of all samples.
        sources: sources of all samples.
        strata: strata of all samples.
        known: (K,) whether the data has ground truth for a label.
        notes: notes on the data, for the user.
        official: whether the data has official parts; this is one of them, or all.
        bounds: (N, 4) of tiles of scenes: west, south, east, north in metres.
    """

    dataset: Dataset[Any]
    indices: NDArray[np.int64]
    target: torch.Tensor
    ids: list[str]
    sources: list[str]
    strata: list[str]
    known: NDArray[np.bool_]
    notes: tuple[str, ...]
    bounds: NDArray[np.float64] | None = None
    official: bool = False


def find_datasets(
    card: ModelCard, data: Paths, options: EvaluateOptions | None = None, split: str = 'all'
) -> 'list[LabelledImages]':
    """Open labelled data as a model takes it.

    Args:
        card: card of the model.
        data: folders with one subfolder per class; folders of GeoTIFF patches with `labels.csv`; or,
            with `labels`, scenes; or one folder of BigEarthNet v2.0.
        options: what the data is; None for folders that say it.
        split: official part to open, if the data has any.

    Returns:
        One dataset, or one for each folder of patches.

    Raises:
        UsageError: if the data is not there, not labelled, or not of the kind that the model answers.
    """
    paths = [data] if isinstance(data, (str, PathLike)) else list(data)
    if not paths:
        raise UsageError('no data is given: name folders of labelled images, or scenes with labels')
    options = options or EvaluateOptions()
    bands, labels, column = options.bands, options.labels, options.column
    _check_mode(card, options.mode)
    _check_bands(card, bands)
    if labels is not None or column is not None or options.tiles:
        as_then = {} if split == 'all' else dict(card.tiles or {})  # a part of what was cut for training
        as_then.pop('dropped', None)
        said = {'bands': bands, 'sensor': options.sensor, 'offset': options.offset}
        return [_scene_tiles(card, paths, labels, column, said, as_then | options.tiles)]
    folders = [Path(path) for path in paths]
    official = _find_reben(card, folders, split, options.reben)
    if official is not None:
        return [official]
    kinds = {_kind(folder) for folder in folders}
    _check_names(folders)
    if len(kinds) > 1:
        raise UsageError(f'{_listed(folders)}: {" and ".join(sorted(kinds))} are evaluated apart')
    return _patches(card, folders, bands) if kinds == {_PATCHES} else [_scene_folder(card, folders, bands)]


def bring_to_labels(
    card: ModelCard,
    datasets: 'Sequence[LabelledImages]',
    label_map: Mapping[str, str] | None = None,
    *,
    ignore_unknown: bool = False,
) -> Labelled:
    """Convert the labels of data to those of a model, matched by name.

    Args:
        card: card of the model.
        datasets: datasets of the model's task.
        label_map: label of the data -> label of the model, where they differ.
        ignore_unknown: leave out labels that the model does not know: images of an unknown class, or the
            unknown labels of multi-label images. Otherwise that is an error.

    Raises:
        UsageError: if a label is unknown, or nothing is left.
    """
    found = sorted({label for dataset in datasets for label in dataset.labels})
    meaning, unknown = meanings(found, card.labels, label_map or {})
    dropped = set((card.tiles or {}).get('dropped', ()))
    if set(unknown) - dropped and not ignore_unknown:
        unknown = [label for label in unknown if label not in dropped]
        raise UsageError(
            f'the data has labels that {card.name} does not know: {", ".join(unknown)}; map them by '
            f'--label-map "{unknown[0]}=LABEL", or leave them out by --ignore-unknown; it knows '
            f'{", ".join(card.labels)}'
        )
    places = {label: card.labels.index(name) for label, name in meaning.items()}
    bring = _columns if card.task == 'multi-label' else _classes
    target = torch.cat([bring(dataset, places, len(card.labels)) for dataset in datasets])
    kept = np.flatnonzero(target.reshape(len(target), -1).min(1).values >= 0)
    if not len(kept) or not places:
        raise UsageError(f'no image of the data has a label that {card.name} knows')
    known = np.isin(np.arange(len(card.labels)), list(places.values()))
    return Labelled(
        dataset=ConcatDataset(cast('list[Dataset[Any]]', datasets)),
        indices=kept,
        target=target,
        ids=[name for dataset in datasets for name in dataset.ids],
        sources=[source for dataset in datasets for source in _sources(dataset)],
        strata=[stratum for dataset in datasets for stratum in dataset.strata],
        known=known,
        notes=(
            *_notes(card, datasets, known, unknown, len(target) - len(kept)),
            *(f'label map: the data has no {old}' for old in label_map or {} if old not in found),
        ),
        bounds=_bounds(datasets),
        official=_is_official(datasets[0]),
    )


def meanings(
    found: Sequence[str], labels: Sequence[str], label_map: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Map each label of the data to a label of the model.

    Names are the same if they are equal, or else equal in their letters and digits ('Sea Lake' and
    'sea-lake') where only one label is.

    Args:
        found: labels of the data.
        labels: labels of the model.
        label_map: label of the data, which need not be there, -> label of the model; goes first.

    Returns:
        Label of the data -> label of the model, and labels of the data that the model does not know.

    Raises:
        UsageError: if the map names a label that the model does not know.
    """
    for new in label_map.values():
        if new not in labels:
            hint = did_you_mean(new, labels) or f'it knows {", ".join(labels)}'
            raise UsageError(f'label map: the model knows no label {new!r}: {hint}')
    meaning = {label: label_map.get(label) or _same(label, labels) for label in found}
    return (
        {label: name for label, name in meaning.items() if name is not None},
        [label for label, name in meaning.items() if name is None],
    )


def _same(label: str, labels: Sequence[str]) -> str | None:
    if label in labels:
        return label
    alike = [name for name in labels if bare_name(name) == bare_name(label)]
    return alike[0] if len(alike) == 1 else None


def _check_mode(card: ModelCard, mode: str | None) -> None:
    if card.task not in {'single-label', 'multi-label'}:
        raise UsageError(f'{card.name} is a {card.task} model, and evaluate measures labels only')
    if mode not in {None, 'scene', 'multi-label'}:
        raise UsageError(f"mode has to be 'scene' or 'multi-label', not {mode!r}")
    if mode is not None and (mode == 'multi-label') != (card.task == 'multi-label'):
        raise UsageError(
            f'mode {mode!r} does not fit {card.name}, which is {card.task}: leave the mode out, or '
            'take another model'
        )


def _kind(folder: Path) -> str:
    if folder.is_file():
        raise UsageError(f'{folder}: a file, and a scene needs --labels FILE --column NAME')
    if not folder.is_dir():
        raise DatasetError(f'{folder.absolute()}: no such folder')
    return _PATCHES if (folder / 'labels.csv').is_file() else _FOLDERS


def _check_names(folders: Sequence[Path]) -> None:
    names = [folder.resolve().name for folder in folders]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f'two folders are named {twice[0]!r}, by which rows of sources go: rename one, or evaluate '
            'them apart'
        )


def _patches(card: ModelCard, folders: Sequence[Path], bands: Sequence[str] | None) -> 'list[LabelledImages]':
    from geores.datasets import GeoTIFFPatches

    if card.task == 'multi-label':
        raise UsageError(
            f'{_listed(folders)}: one label an image, and {card.name} is multi-label: take a '
            'single-label model'
        )
    return [_read_as(GeoTIFFPatches(folder, card.bands), card, bands) for folder in folders]


def _scene_folder(card: ModelCard, folders: Sequence[Path], bands: Sequence[str] | None) -> 'LabelledImages':
    from geores.datasets import SceneFolder
    from geores.datasets.folder import TABLE

    multi = card.task == 'multi-label'
    for folder in folders:
        if multi and not (folder / TABLE).is_file():
            raise UsageError(
                f'{folder}: one label an image (there is no {TABLE}), and {card.name} is multi-label: '
                'take a single-label model'
            )
    dataset = SceneFolder(folders, 'multi-label' if multi else 'scene', card.input_size)
    if bands is None and set(card.bands) <= set(SceneFolder.bands):
        return dataset
    for path in dataset.images.paths:
        if path.suffix.lower() not in {'.tif', '.tiff'}:
            raise UsageError(f'{path}: bands {", ".join(bands or card.bands)} can only be read from GeoTIFFs')
    return _read_as(dataset, card, bands)


def _scene_tiles(
    card: ModelCard,
    paths: Sequence[str | PathLike[str]],
    labels: str | PathLike[str] | None,
    column: str | None,
    said: Mapping[str, Any],
    tiles: Mapping[str, Any],
) -> 'LabelledImages':
    from geores.datasets import SceneTiles
    from geores.scenes import open_scene

    if labels is None or column is None:
        raise UsageError('scenes need a vector file of labels and its column: --labels FILE --column NAME')
    scenes = [open_scene(path, **said) for path in paths]
    return cast('LabelledImages', SceneTiles.for_card(card, scenes, labels, column, task=card.task, **tiles))


def _classes(dataset: 'LabelledImages', places: Mapping[str, int], count: int) -> torch.Tensor:
    """(N,) indices of the card's labels, -1 where unknown."""
    order = np.array([places.get(label, -1) for label in dataset.labels])
    return torch.from_numpy(order[dataset.targets].astype(np.int64))


def _columns(dataset: 'LabelledImages', places: Mapping[str, int], count: int) -> torch.Tensor:
    """(N, K) of 0 and 1; labels of the data that mean the same are joined."""
    target = np.zeros((len(dataset), count), np.int64)
    for column, label in enumerate(dataset.labels):
        if label in places:
            target[:, places[label]] |= dataset.targets[:, column] > 0
    return torch.from_numpy(target)


def _sources(dataset: 'LabelledImages') -> list[str]:
    sources: list[str] = dataset.sources  # type: ignore[attr-defined]
    return sources


def _bounds(datasets: 'Sequence[LabelledImages]') -> NDArray[np.float64] | None:
    from geores.datasets import SceneTiles

    tiles = datasets[0]
    return tiles.bounds * tiles.unit_metres if isinstance(tiles, SceneTiles) else None


def _notes(
    card: ModelCard,
    datasets: 'Sequence[LabelledImages]',
    known: NDArray[np.bool_],
    unknown: Sequence[str],
    dropped: int,
) -> tuple[str, ...]:
    notes = [note for dataset in datasets for note in getattr(dataset, 'notes', ())]
    left_out = [getattr(dataset, 'left_out', 0) for dataset in datasets]
    # Scene tiles count theirs by reason, and have told it.
    unlabelled = sum(count for count in left_out if isinstance(count, int))
    if unlabelled:
        notes.append(f'{unlabelled:,} images without a label are left out')
    if unknown:
        what = f'{dropped:,} images with labels' if card.task == 'single-label' else 'labels'
        notes.append(f'{what} that {card.name} does not know are left out: {", ".join(unknown)}')
    lacking = [label for label, there in zip(card.labels, known, strict=True) if not there]
    if lacking:
        notes.append(f'not measured, for the data has none: {", ".join(lacking)}')
    if _bounds(datasets) is not None:
        notes.append('tiles of one scene are not independent: intervals are narrower than they should be')
    return tuple(notes)


def _listed(folders: Sequence[Path]) -> str:
    return ', '.join(str(folder) for folder in folders)
