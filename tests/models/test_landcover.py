"""The bundles of land cover that ship."""

from pathlib import Path

import numpy as np
import pytest

from geores.bundle import load_model
from geores.card import WEIGHTS
from geores.models.segmentation import measure_context
from geores.tasks.levels import _LINES

pytestmark = pytest.mark.usefixtures('one_thread')
LEVELS = {'landcover': 'L1C and L2A', 'landcover-l1c': 'L1C'}

# Typical L2A digital numbers of B02 B03 B04 B05 B06 B07 B08 B11 B12.
SPECTRA = {
    'water': [250, 280, 180, 150, 120, 110, 90, 40, 30],
    'trees': [180, 330, 210, 550, 1900, 2350, 2500, 1050, 450],
    'snow_and_ice': [8500, 8400, 8300, 8200, 8000, 7800, 7600, 900, 700],
}


@pytest.fixture(scope='module', params=LEVELS)
def model(request):
    return load_model(request.param)


def test_its_card_says_what_it_is(model):
    card = model.card
    level = LEVELS[card.name]
    assert (card.task, card.processing_level, card.licence) == ('segmentation', level, 'Apache-2.0')
    assert len(card.labels) == len(card.colours) == 9
    told = ' '.join(map(str, card.training_data))
    assert 'National Geographic and the World Resources Institute' in told
    assert 'Copernicus' in told
    assert card.metrics
    assert card.calibration['ece'] <= card.calibration['ece_uncalibrated']
    assert card.limits['worst']
    assert card.limits['unseen']
    assert sum(part.numel() for part in model.network.parameters()) < 1.5e6


def test_its_context_is_as_the_card_says(model):
    card = model.card
    assert measure_context(model.network, len(card.bands), card.alignment, 96) == card.context


@pytest.mark.parametrize('bundle', LEVELS)
@pytest.mark.parametrize('name', ['LICENSE', 'NOTICE', 'CHANGES.md', 'card.json', 'model.safetensors'])
def test_licence_notice_and_changes_stand_beside_the_weights(name, bundle):
    assert (WEIGHTS / bundle / name).stat().st_size > 200
    project = (Path(__file__).parents[2] / 'pyproject.toml').read_text()
    shipped = next(line for line in project.splitlines() if line.startswith('"geores.weights"'))
    assert f'*/{name}' in shipped


@pytest.mark.parametrize('level', ['L2A', 'L1C by the first line', 'L1C by the second line'])
@pytest.mark.parametrize('label', SPECTRA)
def test_it_knows_plain_ground_at_its_levels(model, label, level):
    if level.split()[0] not in model.card.processing_level:
        pytest.skip(f'{model.name} is not for {level}')
    values = np.array(SPECTRA[label], float)
    if level != 'L2A':
        place = int('second' in level)
        lines = np.array([_LINES[band][place] for band in model.card.bands])
        values = values * lines[:, 0] + lines[:, 1]
    rng = np.random.default_rng(0)
    images = values[:, None, None] * rng.normal(1, 0.03, (len(values), 64, 64))
    inner = np.s_[:, :, model.card.context : -model.card.context, model.card.context : -model.card.context]
    found = model.predict(images[None])[inner].argmax(1)
    assert (found == model.card.labels.index(label)).mean() > 0.9


def test_one_is_a_mean_of_the_other_and_its_teacher():
    """Nine tenths of the way: the weights differ, and not by much."""
    ours, other = (load_model(name).network.state_dict() for name in LEVELS)
    assert ours.keys() == other.keys()
    gaps = [float((ours[name] - other[name]).abs().max()) for name in ours]
    assert 0 < max(gaps) < 1
