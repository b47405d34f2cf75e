"""What the published models of BigEarthNet v2 (reBEN) do not state: bands, labels, normalisation and figures.

The models are `BIFOLD-BigEarthNetv2-0/<architecture>-<s1|s2|all>-v<release>`. The order of bands differs
between releases (the organisation's card); labels are sorted by name (logits of the training code); images
are normalised by the statistics `120_nearest` of the training split (Clasen et al. 2024, reBEN).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from geores import models
from geores.bigearthnet.labels import LABELS
from geores.bigearthnet.metadata import RELEASE, official_statistics
from geores.card import ModelCard
from geores.card_values import Units
from geores.errors import BundleError
from geores.models.registry import SIZED

__all__ = ['BANDS', 'PUBLISHED', 'Release', 'make_card', 'release_of']

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    'resnet50-s1-v0.2.0': {
        'ap_macro': 0.628376,
        'ap_micro': 0.800728,
        'f1_macro': 0.576080,
        'f1_micro': 0.701954,
    },
    'resnet50-all-v0.2.0': {
        'ap_macro': 0.703272,
        'ap_micro': 0.860669,
        'f1_macro': 0.644179,
        'f1_micro': 0.766649,
    },
    'vit_base_patch8_224-all-v0.2.0': {
        'ap_macro': 0.667642,
        'ap_micro': 0.842169,
        'f1_macro': 0.603248,
        'f1_micro': 0.745763,
    },
    'mobilevit_s-s1-v0.2.0': {
        'ap_macro': 0.631198,
        'ap_micro': 0.811763,
        'f1_macro': 0.565671,
        'f1_micro': 0.705591,
    },
    'mobilevit_s-all-v0.1.1': {
        'ap_macro': 0.703328,
        'ap_micro': 0.863635,
        'f1_macro': 0.637516,
        'f1_micro': 0.763493,
    },
    'mixer_b16_224-s2-v0.1.1': {
        'ap_macro': 0.678437,
        'ap_micro': 0.844076,
        'f1_macro': 0.616138,
        'f1_micro': 0.744229,
    },
    'rdnet_base-s2-v0.2.0': {
        'ap_macro': 0.688747,
        'ap_micro': 0.853909,
        'f1_macro': 0.623068,
        'f1_micro': 0.754790,
    },
    'rdnet_base-all-v0.2.0': {
        'ap_macro': 0.688802,
        'ap_micro': 0.859499,
        'f1_macro': 0.619031,
        'f1_micro': 0.758917,
    },
}
"""Model -> figures that its card states, on the recommended test split."""

_OLD_S2 = ('B02', 'B03', 'B04', 'B08', 'B05', 'B06', 'B07', 'B11', 'B12', 'B8A')
_NEW_S2 = ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12')

BANDS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ('0.1.1', 's1'): ('VH', 'VV'),
    ('0.1.1', 's2'): _OLD_S2,
    ('0.1.1', 'all'): (*_OLD_S2, 'VH', 'VV'),
    ('0.2.0', 's1'): ('VV', 'VH'),
    ('0.2.0', 's2'): _NEW_S2,
    ('0.2.0', 'all'): ('VV', 'VH', *_NEW_S2),
}
"""(release, sensors) -> bands in the order of the network's input."""

_UNITS = {'s1': Units.DECIBELS, 's2': Units.REFLECTANCE, 'all': Units.REFLECTANCE_AND_DECIBELS}
_SENSORS = {'s1': 'Sentinel-1', 's2': 'Sentinel-2', 'all': 'Sentinel-1 and Sentinel-2'}
_LEVELS = {'s1': 'GRD', 's2': 'L2A', 'all': 'L2A and GRD'}
_NAME = re.compile(r'(?P<model>[a-z0-9_]+)-(?P<sensors>s1|s2|all)-v(?P<version>\d+\.\d+\.\d+)(?![\d.])')
_TRAINED = replace(RELEASE, note='recommended training split, seasonal snow and clouds out')


class Release(NamedTuple):
    """A published model: its architecture, its sensors ('s1', 's2' or 'all') and its release."""

    model: str
    sensors: str
    version: str

    @property
    def name(self) -> str:
        """The name of the repository."""
        return f'{self.model}-{self.sensors}-v{self.version}'


def release_of(folder: Path, name: str = '') -> Release:
    """Find out model and release of a snapshot, by the name that the user gave, its path or its description.

    Args:
        folder: of the snapshot; the Hub's cache has the repository's name in the path.
        name: as the user gave it.

    Raises:
        BundleError: if none of them tells, or the order of bands of that release is not known.
    """
    for text in (name, *folder.parts[::-1], *folder.resolve().parts[::-1], _described(folder)):
        if match := _NAME.search(text):
            release = Release(match['model'], match['sensors'], match['version'])
            if (release.version, release.sensors) not in BANDS:
                known = sorted({version for version, _ in BANDS})
                raise BundleError(
                    f'{folder}: the order of bands of release {release.version} is not known, only that of '
                    f'{" and ".join(known)}'
                )
            return release
    raise BundleError(
        f'{folder}: nothing says which release of the reBEN models it is, and the order of bands depends on '
        'it: name the folder as the repository, such as resnet50-s2-v0.2.0'
    )


def _described(folder: Path) -> str:
    """The model that a snapshot's description names; empty where it names none or several."""
    readme = folder / 'README.md'
    text = readme.read_text(encoding='utf-8', errors='replace') if readme.is_file() else ''
    names = {match[0] for match in _NAME.finditer(text)}
    return names.pop() if len(names) == 1 else ''


def make_card(config: Mapping[str, Any], release: Release, folder: Path) -> ModelCard:
    """The card of a published model.

    Args:
        config: its `config.json` (ConfigILM's `ILMConfiguration`).
        release: model and release.
        folder: of the snapshot, for messages.

    Raises:
        BundleError: if the configuration contradicts the release, or its network is not known.
    """
    bands = BANDS[release.version, release.sensors]
    size = config.get('image_size', 120)
    _check_config(config, bands, release, folder)
    mean, std = official_statistics(bands)
    architecture = config['timm_model_name']
    kwargs: dict[str, Any] = {'in_chans': len(bands), 'num_classes': len(LABELS)}
    if architecture in SIZED:
        kwargs['img_size'] = size
    return ModelCard(
        name=release.name,
        description=(
            f'{architecture} on {_SENSORS[release.sensors]}, published by BIFOLD (reBEN {release.version}). '
            "Bands, labels and normalisation are from the publishers' documentation; this loader is not "
            'verified against a published file: see `geores verify-model`.'
        ),
        architecture=architecture,
        architecture_kwargs=kwargs,
        activation='sigmoid',
        task='multi-label',
        sensor=_SENSORS[release.sensors],
        processing_level=_LEVELS[release.sensors],
        bands=bands,
        units=_UNITS[release.sensors],
        gsd=(10.0, 10.0),
        input_size=size,
        resampling='nearest',
        mean=tuple(mean),
        std=tuple(std),
        labels=LABELS,
        thresholds=(0.5,) * len(LABELS),
        split_id='reben-recommended',
        training_data=(_TRAINED,),
        licence='MIT',
        metrics=_metrics(release),
    )


def _check_config(config: Mapping[str, Any], bands: tuple[str, ...], release: Release, folder: Path) -> None:
    architecture, names = config['timm_model_name'], config.get('class_names')
    if architecture not in models.architectures():
        raise BundleError(
            f'{folder}: architecture {architecture!r} is not one that geores or this timm builds'
        )
    if architecture != release.model:
        raise BundleError(f'{folder}: its configuration says {architecture}, and its name {release.name}')
    for key, wanted in (('channels', len(bands)), ('classes', len(LABELS)), ('network_type', 0)):
        if config.get(key, wanted) != wanted:
            raise BundleError(f'{folder}: {key} is {config[key]!r}, and {release.name} has {wanted}')
    size = config.get('image_size', 120)
    if isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= 1024:
        raise BundleError(f'{folder}: image_size is {size!r}, and has to be a number of pixels')
    unnamed = [str(index) for index in range(len(LABELS))]  # ConfigILM's default
    if names is not None and list(names) not in (unnamed, list(LABELS)):
        raise BundleError(
            f'{folder}: class_names are not the 19 classes of reBEN in the order of their names'
        )


def _metrics(release: Release) -> dict[str, dict[str, Any]]:
    figures = PUBLISHED.get(release.name)
    split = 'recommended test split, as published; chosen by it over seeds'
    return {} if figures is None else {'reben': {'split': split, **figures}}
