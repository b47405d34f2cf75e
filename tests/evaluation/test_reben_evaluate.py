"""`geores evaluate` on real reBEN patches, against scikit-learn on the same scores."""

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from geores import ModelCard, load_model, models, save_bundle
from geores.bigearthnet.labels import LABELS
from geores.bigearthnet.metadata import official_statistics
from geores.bigearthnet.stores import S2_BANDS
from geores.datasets import ReBEN

from ..reben_fixtures import real_lmdb


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """Random weights; logits are spread, so that each side of a threshold of 0.5 has scores."""
    torch.manual_seed(0)
    kwargs = {'in_chans': len(S2_BANDS), 'num_classes': len(LABELS)}
    network = models.create('resnet18', **kwargs)
    with torch.no_grad():
        network.get_classifier().weight.mul_(30)
    mean, std = official_statistics(S2_BANDS)
    card = ModelCard(
        name='random',
        description='Random weights.',
        architecture='resnet18',
        architecture_kwargs=kwargs,
        activation='sigmoid',
        task='multi-label',
        sensor='Sentinel-2 MSI',
        processing_level='L2A',
        bands=tuple(S2_BANDS),
        units='reflectance*10000',
        gsd=(10.0, 10.0),
        input_size=120,
        resampling='nearest',
        mean=tuple(mean),
        std=tuple(std),
        labels=tuple(LABELS),
        thresholds=(0.5,) * len(LABELS),
        split_id='none',
        training_data='none',
        licence='CC0-1.0',
        metrics={},
    )
    return save_bundle(tmp_path_factory.mktemp('bundle') / 'random', network, card)


def test_figures_are_those_of_scikit_learn(bundle, geores):
    root = real_lmdb()
    data = root / 'BigEarthNet-V2-LMDB'
    answer = geores('evaluate', bundle, data, '--snow-and-clouds', '--bootstrap', '0', '--json')
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)

    patches = ReBEN(data, 'all', S2_BANDS, snow_and_clouds=True, only_present=True)
    model = load_model(bundle)
    images = torch.stack([patches[place]['image'] for place in range(len(patches))])
    with torch.inference_mode():
        scores = model.network(model.normalise(images)).sigmoid().double().numpy()
    target, said = patches.targets.astype(int), scores >= 0.5
    assert len(patches) == 24
    assert 0.1 < said.mean() < 0.9

    present = target.any(0)
    close = {'abs': 2e-5}
    assert found['metrics']['ap_micro'] == pytest.approx(
        reference.average_precision_score(target, scores, average='micro'), **close
    )
    ap = [reference.average_precision_score(target[:, k], scores[:, k]) for k in np.flatnonzero(present)]
    assert found['metrics']['ap_macro'] == pytest.approx(np.mean(ap), **close)
    # Macro means are taken over the labels that have true examples, of AP and of F1.
    for average, columns in (('micro', slice(None)), ('samples', slice(None)), ('macro', present)):
        wanted = reference.f1_score(target[:, columns], said[:, columns], average=average, zero_division=0)
        assert found['metrics'][f'f1_{average}'] == pytest.approx(wanted, **close), average
    each = reference.f1_score(target, said, average=None, zero_division=0)
    for place, label in enumerate(LABELS):
        row = found['per_class'][label]
        assert row['support'] == target[:, place].sum()
        if present[place]:
            wanted = reference.average_precision_score(target[:, place], scores[:, place])
            assert row['ap'] == pytest.approx(wanted, **close), label
            assert row['f1'] == pytest.approx(each[place], **close), label
