"""Answers from a class map: right by construction where the map is, and never more than it can tell."""

# ruff: noqa: F811 - fixtures are arguments too
import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import torch
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from PIL import Image
from torch import nn

import geores as library
from geores import models, save_bundle
from geores.asking.class_map import LEAST, TAIL, ClassMap, distances_to, shifted
from geores.asking.encoding import image_gain, known_to
from geores.asking.map_answers import TOO_CLOSE, URBAN, answer_from_map
from geores.asking.map_source import MAP_FOLDER
from geores.asking.understand import understand
from geores.card_values import Intervals
from geores.errors import OutputError
from geores.questions.everyday import MapQuestion, read_map_question
from geores.questions.vocabulary import AREAS

from ..ask_fixtures import oracle  # noqa: F401 - a fixture
from ..fixtures import RGB, hold_files, write_scene
from ..pixel_fixtures import LAND_COVER as LABELS
from ..pixel_fixtures import pixel_card

pytestmark = pytest.mark.usefixtures('one_thread')

VALUE = {label: value for value, label in enumerate(LABELS, 1)}
PIXEL = 100.0
quick = settings(max_examples=15, deadline=None)


def map_of(classes, chances=None, crs='EPSG:32633'):
    """A map whose probabilities are 0 and 1, or for the label water those given."""
    classes = np.asarray(classes, np.uint8)
    steps = np.stack([np.where(classes == value, 254, 0) for value in range(1, len(LABELS) + 1)]).astype(
        np.uint8
    )
    if chances is not None:
        steps[0] = np.rint(254 * np.asarray(chances)).astype(np.uint8)
    grid = GeoBox(classes.shape, Affine(10, 0, 300_000, 0, -10, 5_800_000), crs)
    card = pixel_card('oracle', labels=LABELS)
    return ClassMap('scene', card, grid, 10.0 if crs else None, classes, lambda labels: steps[list(labels)])


def ask(question, shown):
    found = read_map_question(question, shown.words)
    assert isinstance(found, MapQuestion), found
    return answer_from_map(found, shown)


@st.composite
def lakes(draw):
    """A map of crops with rectangles of water that do not touch, and their sizes in pixels."""
    classes = np.full((60, 70), VALUE['crops'], np.uint8)
    sizes = []
    for row in range(0, 60, 20):
        for col in range(0, 70, 20):
            tall, wide = draw(st.integers(0, 18)), draw(st.integers(0, 18))
            tall, wide = min(tall, 60 - row - 1), min(wide, 70 - col - 1)
            classes[row : row + tall, col : col + wide] = VALUE['water']
            if tall * wide:
                sizes.append(tall * wide)
    return classes, sorted(sizes, reverse=True)


@quick
@given(lakes(), st.integers(0, 400))
def test_counts_areas_and_shares_are_those_of_the_map(case, least):
    classes, sizes = case
    shown = map_of(classes)
    found = ask(f'How many lakes are larger than {least * PIXEL:.0f} m2?', shown)
    expected = sum(size >= least for size in sizes)
    assert (found.low, found.value, found.high, found.unit) == (expected, expected, expected, 'areas')
    area = ask('What is the area covered by water?', shown)
    assert area.value == pytest.approx(sum(sizes) * PIXEL)
    assert (area.low, area.high) == (pytest.approx(area.value), pytest.approx(area.value))
    assert area.probability is None
    share = ask('What percentage of the area is water?', shown)
    assert (share.unit, share.value) == ('%', pytest.approx(100 * sum(sizes) / classes.size))
    there = ask('Is there water?', shown)
    assert there.answer == ('yes' if any(size * PIXEL >= LEAST for size in sizes) else 'no')
    for unit, factor in AREAS.items():
        if unit != 'squaremiles':
            asked = ask(f'How many {unit} of water are there?', shown)
            assert asked.unit == unit
            assert asked.value * factor == pytest.approx(area.value)


SIDES = {
    'more than': float.__gt__, 'at least': float.__ge__, 'fewer than': float.__lt__, 'at most': float.__le__,
    'exactly': float.__eq__,
}  # fmt: skip


@quick
@given(lakes(), st.integers(0, 20), st.integers(0, 100), st.sampled_from(sorted(SIDES)))
def test_limits_are_reached_where_the_map_does(case, number, share, side):
    """Of a map that is sure of every pixel nothing is too close to say, the limit itself included."""
    classes, sizes = case
    shown, counted = map_of(classes), float(sum(size * PIXEL >= LEAST for size in sizes))
    assume(not (side == 'fewer than' and 0 in (number, share)) and not (side == 'more than' and share == 100))
    found = ask(f'Are there {side} {number} lakes?', shown)
    assert found.answer == ('yes' if SIDES[side](counted, float(number)) else 'no')
    assert (found.value, found.unit, found.probability) == (counted, 'areas', None)
    counts = ask('How many lakes are there?', shown)
    assert all((found.chosen['water'] == counts.chosen['water']).tolist())
    own = sum(sizes)
    whole = own * PIXEL / 1e4
    for hectares in (whole, share):
        found = ask(f'Is there {side} {hectares} ha of water?', shown)
        expected = (round(whole, 9), round(hectares, 9))
        assert found.answer == ('yes' if SIDES[side](*map(float, expected)) else 'no')
    exact = 100 * own / classes.size
    found = ask(f'Is {side} {share} % of the area water?', shown)
    assert found.answer == ('yes' if SIDES[side](exact, float(share)) else 'no')
    assert (found.value, found.unit) == (pytest.approx(exact), '%')


def test_half_is_read_as_at_least_half_and_said_so():
    classes = np.full((20, 20), VALUE['crops'])
    classes[:10] = VALUE['trees']
    shown = map_of(classes)
    found = ask('Is half of it forest?', shown)
    assert found.answer == 'yes'
    assert '"half" is read as "at least half"' in found.notes
    assert ask('Is more than half of it forest?', shown).answer == 'no'
    assert ask('Is exactly half of it forest?', shown).answer == 'yes'
    assert not any('read as' in note for note in ask('Is more than half of it forest?', shown).notes)


@quick
@given(st.integers(0, 2**31), st.integers(0, 100), st.sampled_from(['more than', 'at least', 'at most']))
def test_a_limit_within_the_interval_is_too_close_to_say(seed, share, side):
    assume(not (side == 'more than' and share == 100))
    rng = np.random.default_rng(seed)
    chances = rng.random((30, 30))
    shown = map_of(np.where(chances >= 0.5, VALUE['water'], VALUE['crops']), chances)
    number = ask('How much of the area is water?', shown)
    found = ask(f'Is {side} {share} % of the area water?', shown)
    assert (found.low, found.value, found.high) == (number.low, number.value, number.high)
    if number.low < share < number.high:
        assert found.answer == TOO_CLOSE
        assert found.text.startswith(TOO_CLOSE)
        assert f'the line, {share} %, lies within the interval' in found.text
    else:
        assert found.answer == ('yes' if (number.value > share) == (side != 'at most') else 'no')


@quick
@given(st.lists(st.integers(0, 400), min_size=4, max_size=4))
def test_covers_stand_by_their_shares(counts):
    names = ('trees', 'crops', 'built', 'grass')
    assume(sum(counts) and len(set(counts)) == 4)
    flat = np.repeat([VALUE[name] for name in names], counts)
    shown = map_of(flat[None].repeat(2, 0))
    order = sorted(((count, name) for count, name in zip(counts, names, strict=True) if count), reverse=True)
    keys = {'trees': 'forest', 'crops': 'crops', 'built': 'built', 'grass': 'grass'}
    nouns = {'trees': 'forest (trees)', 'crops': 'cropland', 'built': 'built-up land', 'grass': 'grass'}
    shares = [(nouns[name], 100 * count / len(flat)) for count, name in order]
    every = ask('What share of the scene is which cover?', shown)
    assert every.answer == every.text == ', '.join(f'{noun} {share:.1f} %' for noun, share in shares)
    assert set(every.chosen) == {keys[name] for _, name in order}
    asked = {'Which cover is the most common?': 0, 'What is the second most common land cover?': 1,
             'Which cover is the least common?': -1}  # fmt: skip
    for question, place in asked.items():
        found = ask(question, shown)
        if place == 1 and len(order) == 1:
            assert found.answer is None
            continue
        noun, share = shares[place]
        assert found.answer == f'{noun}, {share:.1f} % of what is seen'
        assert (found.low, found.value, found.high) == tuple([pytest.approx(share)] * 3)
        assert list(found.chosen) == [keys[order[place][1]]]


def test_covers_whose_intervals_meet_are_too_close_to_say():
    chances = np.full((20, 20), 0.45)
    chances[:11] = 0.55
    shown = map_of(np.where(chances >= 0.5, VALUE['water'], VALUE['crops']), chances)
    found = ask('Which cover is the most common?', shown)
    assert found.answer == TOO_CLOSE
    assert set(found.chosen) == {'water', 'crops'}
    assert 'by the map open water 55.0 %' in found.text


@quick
@given(st.integers(2, 9), st.integers(1, 30))
def test_an_area_within_a_distance_is_that_part_alone(edge, pixels):
    classes = np.full((40, 40), VALUE['crops'])
    classes[:, 10:] = VALUE['trees']
    classes[:, :edge] = VALUE['water']
    shown = map_of(classes)
    inside = sum(10 * (col - edge) <= 10 * pixels for col in range(10, 40))
    found = ask(f'How much forest lies within {10 * pixels} m of water?', shown)
    assert (found.low, found.value, found.high) == tuple([pytest.approx(inside * 40 * PIXEL)] * 3)
    assert found.chosen['forest'].tolist() == [inside > 0]
    assert any('the evidence shows the areas whole' in note for note in found.notes)


def test_a_question_which_is_more_is_answered_by_what_is_more():
    classes = np.full((20, 20), VALUE['crops'])
    classes[:5] = VALUE['trees']
    shown = map_of(classes)
    assert ask('Which is larger, forest or cropland?', shown).answer == 'cropland'
    neither = ask('Which is larger, snow or wetland?', shown)
    assert (neither.answer, neither.probability) == ('neither', None)
    assert ask('Is there more cropland or forest?', shown).answer == 'cropland'


def test_notes_say_how_often_intervals_held_by_the_card():
    shown = map_of(np.full((20, 20), VALUE['water']))
    assert any('was not measured' in note for note in ask('How much water is there?', shown).notes)
    measured = Intervals(level=0.9, held=0.71, measured_on='9 mosaics')
    told = replace(shown, card=replace(shown.card, intervals=measured))
    notes = ask('How much water is there?', told).notes
    assert any('such ones held 71% of areas that people labelled' in note for note in notes)


@quick
@given(lakes())
def test_the_largest_and_its_evidence(case):
    classes, sizes = case
    shown = map_of(classes)
    found = ask('What is the largest lake?', shown)
    if not sizes or sizes[0] * PIXEL < LEAST:
        assert found.answer is None
        return
    assert found.value == pytest.approx(sizes[0] * PIXEL)
    assert sum(found.chosen['water']) == 1
    assert found.answer.startswith(f'{sizes[0] * PIXEL / 1e4:.3g} ha')


@quick
@given(lakes(), st.integers(1, 59), st.integers(1, 69))
def test_answers_do_not_depend_on_where_the_map_was_cut(case, row, col):
    classes, _ = case
    parts = [[classes[:row, :col], classes[:row, col:]], [classes[row:, :col], classes[row:, col:]]]
    again = map_of(np.block(parts))
    for question in ('How many lakes are there?', 'How much water is there?', 'Where is the water?'):
        assert ask(question, again) == ask(question, map_of(classes))


@quick
@given(st.integers(0, 2**31), st.floats(0.5, 3))
def test_intervals_hold_the_truth_where_the_probabilities_are_right(seed, spread):
    """Truths are drawn with errors that pixels share; nine in ten lie within the interval."""
    rng = np.random.default_rng(seed)
    chances = 1 / (1 + np.exp(-spread * rng.standard_normal((40, 50))))
    classes = np.where(chances >= 0.5, VALUE['water'], VALUE['crops'])
    found = ask('How much water is there?', map_of(classes, chances))
    drawn = rng.standard_normal(400)
    truths = np.array([shifted(chances, one).sum() for one in drawn]) * PIXEL
    held = (truths >= found.low - 2e4) & (truths <= found.high + 2e4)
    assert held[abs(drawn) <= TAIL].all()
    assert held.mean() >= 0.8


@quick
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 250))
def test_distances_are_those_between_edges(down, across, metres):
    assume(down or across)
    classes = np.full((40, 40), VALUE['crops'])
    classes[:10, :10] = VALUE['water']
    classes[10 + down : 20 + down, 10 + across : 20 + across] = VALUE['built']
    shown = map_of(classes)
    expected = 10 * np.hypot(down, across)
    found = ask('How far is the nearest water from buildings?', shown)
    assert (found.unit, found.value) == ('m', pytest.approx(expected))
    near = ask(f'Is there water within {metres} m of buildings?', shown)
    assert near.answer == ('yes' if expected <= metres else 'no')


def test_nothing_is_near_what_is_not_there():
    shown = map_of(np.full((20, 20), VALUE['water']))
    assert np.isinf(distances_to(np.zeros((20, 20), bool), shown)).all()
    assert ask('Is there water within 5 km of buildings?', shown).answer == 'no'
    assert ask('How far is the water from buildings?', shown).answer is None


@quick
@given(st.integers(0, 1600), st.integers(0, 1600))
def test_comparisons_and_rural_or_urban(first, second):
    assume(first + second <= 1600)
    flat = np.full(1600, VALUE['grass'])
    flat[:first], flat[first : first + second] = VALUE['trees'], VALUE['built']
    shown = map_of(flat.reshape(40, 40))
    assert ask('Is there more forest than built-up land?', shown).answer == (
        'yes' if first > second else 'no'
    )
    assert ask('Is there less forest than built-up land?', shown).answer == (
        'yes' if first < second else 'no'
    )
    kind = ask('Is it a rural or an urban area?', shown)
    assert kind.answer == ('urban' if second / 1600 >= URBAN else 'rural')


def test_water_and_ice_are_said_apart():
    classes = np.full((30, 30), VALUE['crops'])
    classes[:10], classes[20:] = VALUE['water'], VALUE['snow_and_ice']
    shown = map_of(classes)
    assert ask('How much water is there?', shown).answer == '3 ha of open water, 3 ha of snow or ice'
    assert any('3 ha of snow or ice' in note for note in ask('How many lakes are there?', shown).notes)


def test_without_crs_nothing_is_measured_on_the_ground():
    shown = map_of(np.full((30, 30), VALUE['water']), crs=None)
    assert ask('How much water is there?', shown).unit == 'pixel'
    for question in ('How many lakes are larger than 1 ha?', 'Is there water within 5 m of forest?'):
        assert ask(question, shown).answer is None


def test_a_map_without_valid_pixels_answers_nothing():
    assert ask('Is there water?', map_of(np.zeros((5, 5)))).answer is None


@models.register('ask-map-oracle')
class ByColour(nn.Module):
    """Each pixel's label by its colour: red is built, green trees, blue water, and dark is bare."""

    def __init__(self, in_chans=3, num_classes=4):
        super().__init__()
        self.mix = nn.Conv2d(in_chans, num_classes, 1)
        with torch.no_grad():
            self.mix.weight.zero_()
            self.mix.bias.copy_(torch.tensor([0.0, -200.0, -200.0, -200.0]))
            for label, band in ((1, 2), (2, 1), (3, 0)):
                self.mix.weight[label, band] = 2.0

    def forward(self, images):
        return self.mix(images)


ORACLE = ('bare', 'water', 'trees', 'built')


@pytest.fixture(scope='module')
def mapper(tmp_path_factory):
    card = pixel_card(
        'mapper', architecture='ask-map-oracle', architecture_kwargs={'in_chans': 3, 'num_classes': 4},
        labels=ORACLE, mean=(0.0,) * 3, std=(1.0,) * 3, context=0, alignment=1,
    )  # fmt: skip
    return save_bundle(tmp_path_factory.mktemp('bundles') / 'mapper', ByColour().eval(), card, torch.float32)


@pytest.fixture(scope='module')
def coloured(tmp_path_factory):
    """A scene of several blocks of pixels; water lies across their borders."""
    values = np.full((3, 800, 832), 10, np.uint8)
    for band, rows, cols in ((2, (700, 790), (700, 800)), (2, (10, 20), (10, 20)), (1, (100, 200), (0, 832)),
                             (0, (300, 320), (740, 790))):  # fmt: skip
        values[band, slice(*rows), slice(*cols)] = 240
    return write_scene(tmp_path_factory.mktemp('scenes') / 'land.tif', values=values, bands=RGB)


ASKED = [
    'How many lakes are there?',
    'How much water is there?',
    'How much of the area is forest?',
    'Is there water within 500 m of buildings?',
    'Is there an island?',
]


def test_a_scene_is_answered_from_its_map(geores, mapper, coloured, tmp_path):
    out = tmp_path / 'out'
    answer = geores('ask', coloured, *ASKED, '--model', mapper, '--out', out, '--json')
    assert answer.code == 0, answer
    lakes, water, forest, near, island = answer.records
    assert (lakes['value'], lakes['low'], lakes['high'], lakes['unit']) == (2, 2, 2, 'areas')
    assert water['value'] == 910_000
    assert water['answer'].startswith('91 ha of open water')
    assert forest['value'] == pytest.approx(12.5)
    assert near['answer'] == 'no'
    assert island['answer'] is None
    assert {one['source'] for one in answer.records[:4]} == {'mapper'}
    assert all(one['probability'] is None for one in (lakes, water, forest))
    table = gpd.read_file(lakes['outputs']['evidence'])
    assert table['area_m2'].tolist() == [900_000, 10_000]
    assert table['rank'].tolist() == [1, 2]
    assert table.geometry.area.tolist() == [900_000, 10_000]
    assert table.crs.to_epsg() == 32633
    assert pyogrio.list_layers(lakes['outputs']['evidence'])[0][0] == 'areas'
    with Image.open(lakes['outputs']['map']) as picture:
        assert min(picture.size) > 300
    assert (out / MAP_FOLDER / 'land_classes.tif').is_file()
    run = json.loads((out / 'answers.json').read_text())['scenes']['land']
    assert run[ASKED[0]]['provenance']['model'] == 'mapper'
    assert 'How many lakes' in json.dumps(list(run))


def test_limits_and_covers_have_evidence_like_others(geores, mapper, coloured, tmp_path):
    asked = ['Are there more than 5 lakes?', 'Is half of it forest?', 'Which cover is the most common?',
             'What share of the scene is which cover?']  # fmt: skip
    out = tmp_path / 'out'
    answer = geores('ask', coloured, *asked, '--model', mapper, '--out', out, '--json')
    assert answer.code == 0, answer
    assert [one['question_type'] for one in answer.records] == ['limit', 'limit', 'covers', 'covers']
    lakes, half, most, every = answer.records
    assert (lakes['answer'], lakes['value'], lakes['probability']) == ('no', 2, None)
    assert (half['answer'], half['unit'], half['value']) == ('no', '%', pytest.approx(12.5))
    assert most['answer'].startswith('bare ground, ')
    assert every['value'] is None
    assert every['answer'].count(' %') == 4
    table = gpd.read_file(every['outputs']['evidence'])
    assert set(table['cover']) == {'bare ground', 'open water', 'forest (trees)', 'built-up land'}
    assert table['area_m2'].sum() == 800 * 832 * 100
    for one in answer.records:
        with Image.open(one['outputs']['map']) as picture:
            assert min(picture.size) > 300


@quick
@given(lakes())
def test_outlines_are_those_of_the_areas(case):
    classes, _ = case
    shown = map_of(classes)
    for key in ('water', 'crops', 'forest'):
        areas, outlines = shown.of(key), shown.outlines(key)
        assert [one.area for one in outlines] == pytest.approx(areas.sizes.tolist())
        assert all(one.is_valid for one in outlines)


def test_later_questions_open_no_network(geores, mapper, coloured, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    model = library.load_model(mapper)
    assert library.ask(coloured, ASKED[0], model, out=out).value == 2
    before = (out / MAP_FOLDER / 'land_classes.tif').stat()
    passes = []
    model.network.register_forward_hook(lambda *args: passes.append(1))
    monkeypatch.setattr('geores.bundle.load_model', lambda *args: 1 / 0)
    many = [f'How many lakes are larger than {size} ha?' for size in range(1, 101)]
    answers = library.ask(coloured, many, model, out=out)
    assert [one.value for one in answers] == [
        2 if size <= 1 else 1 if size <= 90 else 0 for size in range(1, 101)
    ]
    assert passes == []
    assert (out / MAP_FOLDER / 'land_classes.tif').stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(OutputError, match='grid'):
        library.ask(coloured, ASKED[1], model, out=out, bbox=(300_000, 5_799_000, 301_000, 5_800_000))


def test_the_same_questions_again_read_nothing(geores, mapper, coloured, tmp_path, monkeypatch):
    args = ('ask', coloured, *ASKED[:2], '--model', mapper, '--out', tmp_path / 'out', '--json')
    first = geores(*args)
    files = hold_files(tmp_path / 'out')
    monkeypatch.setattr('geores.asking.sources.answer_from_map', None)
    again = geores(*args)
    assert [one.pop('done_before') for one in again.records] == [True, True]
    assert [one['answer'] for one in again.records] == [one['answer'] for one in first.records]
    assert hold_files(tmp_path / 'out') == files


def test_a_classification_of_pixels_answers_itself(mapper, coloured):
    classified = library.classify(coloured, mapper)
    found = library.ask(classified, 'How many lakes are there?', mapper)
    assert (found.value, found.source) == (2, 'mapper')
    assert found.evidence['area_m2'].tolist() == [900_000, 10_000]
    assert '<img' in found._repr_html_()


def test_a_network_that_does_not_need_the_image_is_refused(oracle):
    figures = {
        'accuracy_presence': 0.874,
        'question_only_accuracy_presence': 0.871,
        'split': '5-fold',
        'accuracy_count': 0.7,
        'question_only_accuracy_count': 0.6,
    }
    card = replace(library.load_model(oracle).card, metrics={'RSVQA': figures})
    assert image_gain(card, 'presence').is_none
    assert not image_gain(card, 'count').is_small
    known = known_to(card, None)
    assert set(known.blind) == {'presence'}
    found = understand('Is there a forest?', known)
    assert found.form is None
    assert '87.4% with it, 87.1% without' in found.reason
    assert understand('How many forests are there?', known).form is not None
