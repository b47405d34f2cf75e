"""Cards: what they hold, and what they refuse."""

# ruff: noqa: F811 - fixtures are arguments too
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geores import card_values as card_upgrades
from geores.bundle import load_model
from geores.card import WEIGHTS, ModelCard, shipped_models
from geores.card_values import IN_WORDS, DataSource, SplitParameters, Units
from geores.errors import BundleError

from .bundle_fixtures import CARD, bundle, change, fails  # noqa: F401 - fixtures


def test_card_round_trip(tmp_path):
    CARD.save(tmp_path / 'card.json')
    assert ModelCard.load(tmp_path / 'card.json') == CARD
    assert ModelCard.from_dict(CARD.to_dict()) == CARD
    assert json.loads((tmp_path / 'card.json').read_text())['format_version'] == card_upgrades.FORMAT_VERSION


@given(
    st.dictionaries(st.sampled_from(sorted(CARD.to_dict())), st.from_type(object), min_size=1)
    | st.dictionaries(
        st.sampled_from(sorted(CARD.to_dict())),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
            lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part),
            max_leaves=4,
        ),
        min_size=1,
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_card_loads_or_is_a_bundle_error(fields):
    try:
        card = ModelCard.from_dict(CARD.to_dict() | fields)
    except BundleError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1
    else:
        assert ModelCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card


@pytest.mark.parametrize(
    ('fields', 'parts'),
    [
        ({'mean': [1.0]}, ["'mean'", '1 values for 2 bands']),
        ({'std': [1.0, 0.0]}, ["'std'", 'above 0']),
        ({'std': [1.0, float('nan')]}, ["'std'", 'finite']),
        ({'mean': '12'}, ["'mean'", 'list']),
        ({'labels': ['a', 'a', 'b']}, ["'labels'", "'a' twice"]),
        ({'thresholds': [0.5, 0.5, 1.0]}, ["'thresholds'", 'between 0 and 1']),
        ({'thresholds': [0.5]}, ["'thresholds'", '1 values for 3 labels']),
        ({'thresholds': None}, ["'thresholds'", 'multi-label']),
        ({'activation': 'softmax'}, ["'activation'", "'multi-label'"]),
        ({'activation': 'relu'}, ["'activation'", 'sigmoid, softmax']),
        ({'resampling': 'cubic'}, ["'resampling'"]),
        ({'gsd': [12, 8]}, ["'gsd'"]),
        ({'input_size': 8.5}, ["'input_size'", 'whole number']),
        ({'input_size': True}, ["'input_size'"]),
        ({'calibration': {'temperature': 0}}, ["'calibration'", 'temperature']),
        ({'context': 8}, ["'context'", 'null']),
        ({'colours': ['#ff0000', 'red', '#00ff00']}, ["'colours'", "'red'"]),
        ({'colours': ['#ff0000']}, ["'colours'", '1 values for 3 labels']),
        ({'log_scale': 0}, ["'log_scale'", 'above 0']),
        ({'alignment': 0}, ["'alignment'", 'above 0']),
        ({'calibration': {'platt': 1}}, ["'calibration'", 'temperature']),
        ({'calibration': {'temperature': 1, 'ece': 0.1}}, ["'calibration'", "'measured_on'"]),
        ({'calibration': {'temperature': 1, 'ece': 2, 'measured_on': 'x'}}, ['ece outside of 0 to 1']),
        ({'limits': {'worst': {'a': 0.1}}}, ["'limits'", 'figure']),
        ({'limits': {'weak': 1}}, ["'limits'", "'weak'"]),
        ({'limits': {'unseen': 'snow'}}, ["'limits'", 'list']),
        ({'units': 'reflectance'}, ["'units'", "'reflectance'", 'reflectance*10000; ']),
        ({'units': ['dB']}, ["'units'", 'one of']),
        ({'training_data': []}, ["'training_data'", 'list']),
        ({'training_data': [{'name': 'x'}]}, ["'training_data'", "without 'licence'"]),
        (
            {'training_data': [{'name': 'x', 'licence': 'y', 'year': 1}]},
            ["'training_data'", "'year'", 'places'],
        ),
        ({'training_data': [{'name': 'x', 'licence': 'y', 'places': 'Chad'}]}, ["'training_data'", 'places']),
        ({'training_data': [{'name': 'x\x1b[2J', 'licence': 'y'}]}, ["'training_data'", 'control']),
        ({'training_data': ['x']}, ["'training_data'", 'names as keys']),
        ({'split': {'seed': 1}}, ["'split'", 'stratified, blocks']),
        ({'split': {'method': 'random'}}, ["'split'", "'random'"]),
        ({'split': {'method': 'folds', 'folds': 2.5}}, ["'split'", 'whole']),
        ({'split': {'method': 'blocks', 'buffer': -1}}, ["'split'", 'buffer']),
        ({'split': {'method': 'official', 'parts': ['train']}}, ["'split'", 'parts']),
        ({'split': {'method': 'stratified', 'share': 0.1}}, ["'split'", "'share'", 'val_share']),
        ({'tiles': {'stride': 8, 'mask': 'x.tif'}}, ["'tiles'", "'mask'"]),
        ({'metrics': {'x': {'f1': 1}}}, ["'metrics'", "'split'"]),
        ({'architecture_kwargs': {'pretrained': True}}, ["'architecture_kwargs'", 'pretrained']),
        ({'sha256': 'zz'}, ["'sha256'"]),
        ({'name': '../x'}, ["'name'"]),
        ({'licence': 'drop'}, ["'licence'", 'missing']),
        ({'bands': 'drop'}, ["'bands'", 'missing']),
        ({'lable': 1}, ["'lable'", 'not one that geores knows']),
        ({'intervals': {'level': 0.9, 'held': 0.6}}, ["'intervals'", "'measured_on'"]),
        ({'intervals': {'level': 0.9, 'held': 1.6, 'measured_on': 'x'}}, ["'intervals'", 'held outside']),
        ({'intervals': {'level': 0.9, 'kept': 1, 'measured_on': 'x'}}, ["'intervals'", "'kept'"]),
        ({'intervals': {'level': 0.9, 'held': 0.6, 'measured_on': 'x'}}, ["'intervals'", 'no class map']),
        ({'format_version': 99}, ["'format_version'", 'upgrade geores']),
        ({'format_version': 'one'}, ["'format_version'"]),
        ({'architecture': 'test-bundle-tini'}, ["did you mean 'test-bundle-tiny'"]),
    ],
)
def test_bad_cards_name_file_and_field(bundle, fields, parts):
    change(bundle, **fields)
    fails(bundle, str(bundle), *parts)


def test_a_card_says_where_the_model_fails(bundle):
    limits = {'figure': 'f1', 'worst': {'a': 0.25}, 'measured_on': '9 images', 'unseen': ['snow', 'night']}
    errors = {'temperature': 1.5, 'ece_uncalibrated': 0.2, 'ece': 0.1, 'measured_on': '9 images'}
    change(bundle, limits=limits, calibration=errors)
    card = load_model(bundle).card
    assert card.limits == limits | {'unseen': ('snow', 'night')}
    assert card.calibration == errors


def test_training_data_split_and_units_have_parts(bundle):
    source = {'name': 'UC Merced', 'licence': 'none', 'places': ['United States'], 'also': ['ucmerced']}
    split = {'method': 'blocks', 'block_size': 900.0, 'buffer': 10.5, 'val_share': 0.25, 'seed': 3}
    change(bundle, training_data=[source], split=split, units='reflectance*10000, dB')
    card = load_model(bundle).card
    places, also = ('United States',), ('ucmerced',)
    assert card.training_data == (
        DataSource(name='UC Merced', licence='none', places=places, also=also, note=''),
    )
    assert card.split == SplitParameters(method='blocks', block_size=900, buffer=10.5, val_share=0.25, seed=3)
    assert card.units is Units.REFLECTANCE_AND_DECIBELS
    assert card.units.has_reflectance
    written = card.to_dict()
    assert (written['training_data'], written['split']) == ([source], split)
    assert card.trained_on(['UCMerced', 'uc-merced', 'made_up', 'merced', 'other']) == [
        'UCMerced',
        'made_up',
        'uc-merced',
    ]


@pytest.mark.parametrize(
    ('split_id', 'split'),
    [
        (
            'stratified-0.1-seed0-0ef22b13dfec',
            {'method': 'stratified', 'val_share': 0.1, 'seed': 0},
        ),
        (
            'blocks-1e+04m-buffer0m-0.25-seed3-0ef22b13dfec',
            {'method': 'blocks', 'block_size': 1e4, 'buffer': 0.0, 'val_share': 0.25, 'seed': 3},
        ),
        ('5-fold', {'method': 'folds', 'folds': 5}),
        ('fold2of5-seed0-0ef22b13dfec', {'method': 'folds', 'fold': 2, 'folds': 5, 'seed': 0}),
        (
            'location-buffer100m-fold1of3-seed0-0ef22b13dfec',
            {'method': 'location', 'buffer': 100.0, 'fold': 1, 'folds': 3, 'seed': 0},
        ),
        (
            'location-buffer0m-stratified-0.2-seed1-0ef22b13dfec',
            {'method': 'location', 'buffer': 0.0, 'val_share': 0.2, 'seed': 1},
        ),
        ('reben-official-train-validation', {'method': 'official', 'parts': ('train', 'validation')}),
        ('everything', {'method': 'everything'}),
        ('my own', None),
    ],
)
def test_cards_of_format_4(bundle, split_id, split):
    """Their splits stood in ids, their training data in words, and calibration errors had other names."""
    card = json.loads((bundle / 'card.json').read_text())
    del card['split']
    errors = {'temperature': 1.5, 'ece_before': 0.2, 'ece_after': 0.1, 'measured_on': '9 images'}
    card |= {'format_version': 4, 'split_id': split_id, 'training_data': 'UC Merced and others (CC0)'}
    card |= {'calibration': errors, 'units': 'counts'}
    (bundle / 'card.json').write_text(json.dumps(card))
    found = load_model(bundle).card
    assert found.split == (None if split is None else SplitParameters(**split))
    (source,) = found.training_data
    assert (source.name, str(source)) == (IN_WORDS, 'UC Merced and others (CC0)')
    assert found.trained_on(['ucmerced']) == []
    assert found.units is Units.OTHER
    assert found.calibration == {
        'temperature': 1.5,
        'ece_uncalibrated': 0.2,
        'ece': 0.1,
        'measured_on': '9 images',
    }
    assert found.format_version == card_upgrades.FORMAT_VERSION
    assert ModelCard.from_dict(found.to_dict()) == found


def test_shipped_cards_name_their_training_data():
    for card in shipped_models():
        assert card.split is not None
        assert not any(source.in_words for source in card.training_data)
        raw = json.loads((WEIGHTS / card.name / 'card.json').read_text())
        assert raw['format_version'] == card_upgrades.FORMAT_VERSION


def test_bundles_of_land_cover_say_how_often_their_intervals_held():
    told = {card.name: card.intervals for card in shipped_models() if card.intervals is not None}
    assert {name: (one.level, one.held) for name, one in told.items()} == {
        'landcover': (0.9, 0.64),
        'landcover-l1c': (0.9, 0.6),
    }
    card = next(card for card in shipped_models() if card.name == 'landcover')
    assert ModelCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_older_format_versions_are_upgraded(bundle, monkeypatch):
    newest = card_upgrades.FORMAT_VERSION

    def to_next(data):
        return data | {'format_version': newest + 1, 'licence': 'upgraded'}

    monkeypatch.setitem(card_upgrades.UPGRADES, newest, to_next)
    monkeypatch.setattr(card_upgrades, 'FORMAT_VERSION', newest + 1)
    assert load_model(bundle).card.licence == 'upgraded'


@pytest.mark.parametrize('text', ['', 'no json', '[]', '{"name":' * 9000])
def test_cards_that_are_not_json(bundle, text):
    (bundle / 'card.json').write_text(text)
    fails(bundle, 'card.json')


@pytest.mark.parametrize(
    ('fields', 'parts'),
    [
        ({'input_size': 2**63}, ["'input_size'", 'at most 4,096 pixels']),
        ({'input_size': 10**7}, ["'input_size'", '10,000,000']),
        ({'input_size': 20_000}, ["'input_size'", '20,000']),
        ({'input_size': 10**400}, ["'input_size'", 'of 401 digits']),
        ({'alignment': 10**9}, ["'alignment'", 'at most 4,096']),
        ({'mean': [10**400, 1.0]}, ["'mean'", 'more than 300 digits']),
        ({'gsd': [1, 10**400]}, ["'gsd'", 'more than 300 digits']),
        ({'labels': ['\ud800', 'b', 'c']}, ["'labels'", 'surrogate']),
        ({'description': 'a \udcff'}, ["'description'", 'surrogate']),
        ({'labels': [f'l{n}' for n in range(30_000)]}, ["'labels'", '30,000 names']),
        ({'training_data': [{'name': 'x', 'licence': 'y'}] * 2000}, ["'training_data'", '2,000']),
        ({'split': {'method': 'folds', 'seed': 10**400}}, ["'split'", 'more than 300 digits']),
        ({'labels': [f'l{n % 9_000}' for n in range(10_000)]}, ["'labels'", 'twice']),
    ],
)
def test_numbers_and_texts_beyond_all_use_are_refused_at_once(tmp_path, fields, parts):
    started = time.monotonic()
    (tmp_path / 'card.json').write_text(json.dumps(CARD.to_dict() | fields))
    with pytest.raises(BundleError) as error:
        ModelCard.load(tmp_path / 'card.json')
    for part in ['card.json', *parts]:
        assert part in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert time.monotonic() - started < 60  # of a busy machine; without limits it would go on and on
