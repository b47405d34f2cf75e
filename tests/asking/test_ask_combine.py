"""One answer from those of tiles: right by construction where the tiles are right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.asking.area_estimator import LAND_COVER, labels_of, measurable
from geores.asking.combine import SceneEstimate, area, compare_counts, count, presence, rural_urban
from geores.asking.predictions import LEVEL, AnswerTable, TileAreas
from geores.asking.understand import how_sure, in_words
from geores.grid import Tiling
from geores.questions.grammar import parse
from geores.vqa.answers import AnswerEncoding

quick = settings(max_examples=60, deadline=None)
BINS = ('0', 'between 0 and 10', 'between 10 and 100', 'between 100 and 1000', 'more than 1000')
AREA_BINS = ('0m2', 'between 0m2 and 10m2', 'between 10m2 and 100m2', 'between 100m2 and 1000m2',
             'more than 1000m2')  # fmt: skip
YES = ('<unknown>', 'yes', 'no', 'rural', 'urban')
LR = AnswerEncoding('official', 'lr')


def said(answers, kind, labels=None):
    """TilePredictions of tiles that are sure of their answers; None for a tile that was not seen."""
    labels = labels or (*YES, *dict.fromkeys(one for one in answers if one and one not in YES))
    table = AnswerTable(labels, LR)
    predictions = table.empty(len(answers), kind)
    seen = np.array([one is not None for one in answers])
    rows = np.zeros((int(seen.sum()), len(labels)), np.float32)
    for row, one in zip(rows, (one for one in answers if one is not None), strict=True):
        row[labels.index(one)] = 1
    predictions.put(np.flatnonzero(seen), table.read(rows, kind))
    return predictions


def binned(numbers, unit=''):
    """The bins of numbers."""
    bins = AREA_BINS if unit else BINS
    return [bins[sum(number > edge for edge in (0, 10, 100, 1000))] for number in numbers]


def whole(shape, size=1e6):
    """Tiles that own all that they see."""
    return TileAreas(shape, np.full(shape[0] * shape[1], size), np.full(shape[0] * shape[1], size))


grids = st.tuples(st.integers(1, 5), st.integers(1, 5))


@st.composite
def counted(draw, most=40):
    shape = draw(grids)
    numbers = draw(st.lists(st.integers(0, most), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return shape, numbers


@quick
@given(counted())
def test_exact_answers_of_tiles_give_exact_answers_of_the_scene(case):
    shape, numbers = case
    total = sum(numbers)
    there = presence(said(['yes' if number else 'no' for number in numbers], 'presence'))
    assert there.answer == ('yes' if total else 'no')
    assert there.probability == 1
    assert there.supports.tolist() == ([number > 0 for number in numbers] if total else [True] * len(numbers))
    many = count(said([str(number) for number in numbers], 'count'), whole(shape))
    assert many.answer == str(total)
    assert many.probability == 1
    assert many.interval[0] <= total <= many.interval[1]
    large = area(said([f'{number}m2' for number in numbers], 'area'), whole(shape))
    assert large.answer == f'{total}m2'
    assert large.interval == (total, total)


@quick
@given(counted(), st.randoms(use_true_random=False))
def test_exact_counts_compare_exactly(case, random):
    shape, first = case
    second = random.sample(first, len(first)) if random.random() < 0.5 else [max(0, n - 1) for n in first]
    sides = [said([str(number) for number in side], 'count') for side in (first, second)]
    truth = {'less': sum(first) < sum(second), 'more': sum(first) > sum(second)}
    truth['equal'] = not any(truth.values())
    for choice, right in truth.items():
        found = compare_counts(*sides, whole(shape), choice)
        assert (found.answer, found.probability) == ('yes' if right else 'no', 1)
        assert found.parts == (sum(first), sum(second))


@pytest.mark.parametrize('kind', ['count', 'area'])
def test_intervals_of_doubtful_answers_cover_as_many_truths_as_they_state(kind):
    """Truths drawn from what tiles say, and from nothing else: independently, the hardest for a median."""
    draw = np.random.default_rng(0)
    bins = AREA_BINS if kind == 'area' else BINS
    table, inside = AnswerTable((*YES, *bins), LR), []
    for _ in range(200):
        tiles = int(draw.integers(1, 20))
        rows = np.zeros((tiles, len(YES) + 5), np.float32)
        rows[:, len(YES) :] = draw.dirichlet([0.6] * 5, tiles)
        places = [draw.choice(5, p=row / row.sum()) for row in rows[:, len(YES) :].astype(float)]
        truth = sum(int((0, *10.0 ** np.arange(4))[at] * 10 ** draw.random() + (at > 0)) for at in places)
        sides = table.read(rows, kind), whole((1, tiles), 1e5)
        found = count(*sides, 1) if kind == 'count' else area(*sides)
        assert found.interval[0] <= found.value <= found.interval[1]
        assert LEVEL <= found.probability <= 1
        inside.append(found.interval[0] <= truth <= found.interval[1])
    assert np.mean(inside) >= LEVEL


def test_the_interval_of_many_tiles_is_far_from_the_sum_of_their_ends():
    found = count(said(['between 10 and 100'] * 100, 'count', (*YES, *BINS)), whole((10, 10)), 1)
    low, high = found.interval
    assert 1100 < 1800 < low < found.value < high < 7000 < 10_000
    assert found.value == pytest.approx(100 * 39, rel=0.15)


@st.composite
def spanning(draw, spans):
    """Objects that touch blocks of tiles, as (row, col, height, width) in tiles."""
    shape = draw(grids)
    objects = []
    for _ in range(draw(st.integers(0, 12))):
        height, width = draw(st.sampled_from(spans))
        height, width = min(height, shape[0]), min(width, shape[1])
        row, col = draw(st.integers(0, shape[0] - height)), draw(st.integers(0, shape[1] - width))
        objects.append((row, col, height, width))
    return shape, objects


def touched(shape, objects):
    """How many objects each tile sees."""
    tiles = np.zeros(shape, int)
    for row, col, height, width in objects:
        tiles[row : row + height, col : col + width] += 1
    return tiles.ravel().tolist()


@quick
@given(spanning([(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (4, 1)]))
def test_objects_over_two_to_four_tiles_stay_in_the_interval(case):
    shape, objects = case
    numbers = touched(shape, objects)
    found = count(said(list(map(str, numbers)), 'count'), whole(shape))
    assert found.interval[0] <= len(objects) <= found.interval[1]
    assert found.value == sum(numbers) >= len(objects)


@quick
@given(spanning([(1, 1), (1, 5), (5, 1), (3, 4), (5, 5)]), st.booleans())
def test_long_objects_stay_in_the_interval(case, hole):
    shape, objects = case
    answers = [str(number) for number in touched(shape, objects)]
    if hole:  # what was not seen may join objects
        answers[len(answers) // 2] = None
        if answers == [None]:
            return
    found = count(said(answers, 'count'), whole(shape), None)
    assert found.interval[0] <= len(objects)
    assert hole or len(objects) <= found.interval[1]


@quick
@given(st.integers(20, 90), st.integers(20, 90), st.integers(8, 20), st.data())
def test_overlapping_tiles_count_small_objects_and_areas_within_the_interval(height, width, tile, data):
    tiling = Tiling(height, width, tile, data.draw(st.integers(max(tile // 2, 1), tile)))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    points = draw.integers(0, (height, width), (data.draw(st.integers(0, 30)), 2))
    covered = np.zeros((height, width), bool)
    covered[tuple(points.T)] = True
    y, x = tiling.y, tiling.x
    windows = [(slice(a, b), slice(c, d)) for a, b in zip(y.starts, y.stops, strict=True)
               for c, d in zip(x.starts, x.stops, strict=True)]  # fmt: skip
    owned = TileAreas(
        tiling.shape,
        np.array([covered[window].size for window in windows], float),
        np.outer(np.diff(y.edges), np.diff(x.edges)).ravel().astype(float),
    )
    numbers = [int(covered[window].sum()) for window in windows]
    truth = int(covered.sum())
    many = count(said([str(number) for number in numbers], 'count'), owned)
    assert many.interval[0] <= truth <= many.interval[1]
    large = area(said([f'{number}m2' for number in numbers], 'area'), owned)
    assert large.interval[0] <= truth <= large.interval[1]
    if tiling.stride == tile and height % tile == width % tile == 0:
        assert (many.value, large.value) == (truth, truth)


def chances(values):
    rows = np.array([[0, one, 1 - one, 0, 0] for one in values], np.float32)
    return AnswerTable(YES, LR).read(rows, 'presence')


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_presence_is_worth_at_least_its_best_tile_and_less_than_independent_ones(values):
    found = presence(chances(values))
    likeliest, independent = max(values), 1 - np.prod(1 - np.array(values))
    chance = found.probability if found.answer == 'yes' else 1 - found.probability
    assert likeliest - 1e-3 <= chance <= independent + 1e-3
    assert found.answer == ('yes' if chance >= 0.5 else 'no')
    if len(values) == 1:
        assert chance == pytest.approx(likeliest, abs=1e-3)


def test_more_tiles_that_say_yes_make_it_surer_but_not_sure():
    one, few, many = (presence(chances([0.7] * number)).probability for number in (1, 3, 10))
    assert one < few < many < 1 - 10 * 0.3**10


def test_doubt_in_many_tiles_becomes_presence_in_the_likeliest():
    found = presence(chances([0.3, *[0.2] * 20]))
    assert found.answer == 'yes'
    assert found.supports.tolist() == [True, *[False] * 20]


@pytest.mark.parametrize(
    ('probability', 'said'),
    [
        (None, ''),
        (1.0, ' (confidence 1.00)'),
        (0.9999, ' (confidence over 0.99)'),
        (0.9, ' (confidence 0.90)'),
    ],
)
def test_what_is_not_certain_is_not_said_to_be(probability, said):
    assert how_sure(probability) == said


def test_a_presence_that_no_tile_is_sure_of_names_the_likeliest():
    form = parse('Is there a forest?')
    assert in_words(form, presence(chances([0.3, *[0.2] * 20])), 21) == (
        'yes: in some tile, likeliest in 1 of 21 tiles'
    )
    assert in_words(form, presence(chances([0.9, 0.1])), 2) == 'yes: in 1 of 2 tiles'
    assert in_words(form, presence(chances([0.1, 0.1])), 2) == 'no: in none of 2 tiles'


def test_rural_or_urban_by_share_of_area():
    owned = TileAreas((1, 3), np.array([9.0, 9, 9]), np.array([2.0, 2, 9]))
    found = rural_urban(said(['rural', 'rural', 'urban'], 'rural_urban'), owned)
    assert (found.answer, found.probability) == ('urban', 1)
    assert found.value == pytest.approx(9 / 13)
    assert found.supports.tolist() == [False, False, True]
    unsure = AnswerTable(YES, LR).read(np.array([[0, 0, 0, 0.6, 0.4]], np.float32), 'rural_urban')
    found = rural_urban(unsure, whole((1, 1)))
    assert found.answer == 'rural'
    assert 0.5 < found.probability < 0.7


def test_the_larger_share_is_no_less_than_a_half():
    """One tile in which each seems urban with 0.05 turns the scene; the expected share is urban."""
    owned = TileAreas((1, 2), np.full(2, 100.0), np.array([49.0, 51]))
    rows = np.array([[0, 0, 0, 0, 1], [0, 0, 0, 0.95, 0.05]], np.float32)
    found = rural_urban(AnswerTable(YES, LR).read(rows, 'rural_urban'), owned)
    assert (found.answer, found.value) == ('rural', 0.5)
    assert found.probability == pytest.approx(0.95, abs=0.01)


def test_sums_that_are_drawn_leave_a_doubt():
    labels = (*YES, *BINS)
    rows = np.zeros((4, len(labels)), np.float32)
    rows[:, labels.index('between 100 and 1000')] = 0.999
    rows[:, labels.index('0')] = 0.001
    many = AnswerTable(labels, LR).read(rows, 'count')
    few = AnswerTable(labels, LR).read(
        np.eye(len(labels), dtype=np.float32)[[labels.index('0')] * 4], 'count'
    )
    assert 0.99 < compare_counts(many, few, whole((2, 2)), 'more').probability < 1
    assert compare_counts(few, few, whole((2, 2)), 'equal').probability == 1


@pytest.mark.parametrize('shape', [(0, 0), (1, 1), (2, 3)])
def test_tiles_of_which_none_was_seen(shape):
    found = count(AnswerTable((*YES, *BINS), LR).empty(shape[0] * shape[1], 'count'), whole(shape))
    assert (found.value, found.interval) == (0, (0, 0))
    assert not found.supports.any()


@pytest.mark.parametrize(
    ('square_metres', 'said'),
    [(9_999, '9,999 m²'), (123_456, '12.3 ha'), (18.94e6, '18.9 km²'), (999.7e6, '1,000 km²')],
)
def test_areas_in_words_have_no_powers_of_ten(square_metres, said):
    form = parse('What is the area covered by water?')
    value = SceneEstimate(f'{square_metres:.0f}m2', 1, np.ones(1, bool), np.ones(1), square_metres,
                     (square_metres, square_metres))  # fmt: skip
    assert in_words(form, value, 1) == said


def test_chances_of_less_more_and_equal_add_up():
    draw = np.random.default_rng(0)
    labels = (*YES, *BINS)
    sides = []
    for _ in range(2):
        rows = np.zeros((6, len(labels)), np.float32)
        rows[:, len(YES) :] = draw.dirichlet([0.5] * len(BINS), 6)
        sides.append(AnswerTable(labels, LR).read(rows, 'count'))
    total = 0.0
    for choice in ('less', 'more', 'equal'):
        found = compare_counts(*sides, whole((2, 3)), choice)
        total += found.probability if found.answer == 'yes' else 1 - found.probability
    assert total == pytest.approx(1, abs=2e-3)  # what was never drawn keeps a doubt


def test_one_tile_has_the_interval_of_its_own_answer():
    labels = (*YES, *BINS)
    sure, doubtful = np.zeros((1, len(labels)), np.float32), np.zeros((1, len(labels)), np.float32)
    sure[0, labels.index('between 10 and 100')] = 1
    doubtful[0, [labels.index(one) for one in BINS[:3]]] = 0.3, 0.4, 0.3
    table = AnswerTable(labels, LR)
    found = count(table.read(sure, 'count'), whole((1, 1)), 1)
    assert found.interval == pytest.approx((11 * (101 / 11) ** 0.05, 11 * (101 / 11) ** 0.95), abs=1)
    assert found.value == pytest.approx((11 * 101) ** 0.5, abs=1)
    found = count(table.read(doubtful, 'count'), whole((1, 1)), 1)
    assert found.interval[0] == 0
    assert 60 < found.interval[1] < 85  # five sixths up the range of 11 to 100


def test_an_open_bin_reaches_a_decade():
    found = count(said(['more than 1000', '0'], 'count'), whole((1, 2)), 1)
    assert 1001 < found.interval[0] < found.value < found.interval[1] < 10_010


def test_categories_are_measured_by_labels_that_are_there():
    assert labels_of('water area', ('SeaLake', 'River', 'Forest')) == ('SeaLake', 'River')
    assert labels_of('water area', ('SeaLake', 'Forest')) == ()
    assert labels_of('unicorn', ('SeaLake',)) == ()
    assert set(measurable(('Forest',))) == {name for name, of in LAND_COVER.items() if of == ('Forest',)}
