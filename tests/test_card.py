"""Cards: what they hold, and what they refuse."""

# ruff: noqa: F811 - fixtures are arguments too
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geores import card as card_module
from geores.bundle import load_model
from geores.card import ModelCard
from geores.errors import BundleError

from .bundle_fixtures import CARD, bundle, change, fails  # noqa: F401 - fixtures


def test_card_round_trip(tmp_path):
    CARD.save(tmp_path / 'card.json')
    assert ModelCard.load(tmp_path / 'card.json') == CARD
    assert ModelCard.from_dict(CARD.to_dict()) == CARD
    assert json.loads((tmp_path / 'card.json').read_text())['format_version'] == card_module.FORMAT_VERSION


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
        ({'calibration': {'temperature': 1, 'ece_after': 0.1}}, ["'calibration'", "'measured_on'"]),
        ({'calibration': {'temperature': 1, 'ece_after': 2, 'measured_on': 'x'}}, ['ece_after']),
        ({'limits': {'worst': {'a': 0.1}}}, ["'limits'", 'figure']),
        ({'limits': {'weak': 1}}, ["'limits'", "'weak'"]),
        ({'limits': {'unseen': 'snow'}}, ["'limits'", 'list']),
        ({'tiles': {'stride': 8, 'mask': 'x.tif'}}, ["'tiles'", "'mask'"]),
        ({'metrics': {'x': {'f1': 1}}}, ["'metrics'", "'split'"]),
        ({'architecture_kwargs': {'pretrained': True}}, ["'architecture_kwargs'", 'pretrained']),
        ({'sha256': 'zz'}, ["'sha256'"]),
        ({'name': '../x'}, ["'name'"]),
        ({'licence': 'drop'}, ["'licence'", 'missing']),
        ({'bands': 'drop'}, ["'bands'", 'missing']),
        ({'lable': 1}, ["'lable'", 'not one that geores knows']),
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
    errors = {'temperature': 1.5, 'ece_before': 0.2, 'ece_after': 0.1, 'measured_on': '9 images'}
    change(bundle, limits=limits, calibration=errors)
    card = load_model(bundle).card
    assert card.limits == limits | {'unseen': ('snow', 'night')}
    assert card.calibration == errors


def test_older_format_versions_are_upgraded(bundle, monkeypatch):
    newest = card_module.FORMAT_VERSION

    def to_next(data):
        return data | {'format_version': newest + 1, 'licence': 'upgraded'}

    monkeypatch.setattr(card_module, '_UPGRADES', card_module._UPGRADES | {newest: to_next})
    monkeypatch.setattr(card_module, 'FORMAT_VERSION', newest + 1)
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
    assert time.monotonic() - started < 5
