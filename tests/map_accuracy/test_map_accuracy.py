"""Estimators against the worked examples of their papers, and against the formulas written out."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geores.errors import UsageError
from geores.map_accuracy.strata import allocate, allocate_within, sample_size
from geores.metrics.map_accuracy import estimate_map

# Olofsson et al. (2014), table 8: deforestation, forest gain, stable forest, stable non-forest.
OLOFSSON = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HECTARES = PIXELS * 0.09

# Stehman (2014), table 2: strata, map and reference classes of 40 pixels, 10 a stratum.
STRATA = 'A' * 10 + 'B' * 10 + 'C' * 10 + 'D' * 10
MAP = 'AAAAAAABBB' + 'ABBBBBBBBB' + 'BBCCCCCCBB' + 'D' * 10
REFERENCE = 'AAAAACBABC' + 'ABBBBBAABB' + 'CCCCCDDBBA' + 'DDDDDDDCCB'
UNITS = np.array([40_000, 30_000, 20_000, 10_000])


def tally(strata, mapped, reference, classes):
    counts = np.zeros((len(set(strata)), len(classes), len(classes)))
    for stratum, row, column in zip(strata, mapped, reference, strict=True):
        counts[sorted(set(strata)).index(stratum), classes.index(row), classes.index(column)] += 1
    return counts


def test_olofsson_table_9():
    printed = [
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    estimates = estimate_map(OLOFSSON, PIXELS)
    np.testing.assert_array_equal(estimates.matrix.round(4), printed)
    np.testing.assert_array_equal(estimates.areas.value.round(4), [0.0235, 0.0130, 0.3175, 0.6460])


def test_olofsson_section_5_2_1():
    estimates = estimate_map(OLOFSSON, PIXELS)
    assert (estimates.overall.value.round(2), estimates.overall.margin.round(2)) == (0.95, 0.02)
    np.testing.assert_array_equal(estimates.users.value.round(2), [0.88, 0.73, 0.93, 0.96])
    np.testing.assert_array_equal(estimates.users.margin.round(2), [0.07, 0.10, 0.04, 0.02])
    np.testing.assert_array_equal(estimates.producers.value.round(2), [0.75, 0.85, 0.93, 0.96])
    # The paper prints 0.23 and 0.01 for the second and the last, which its equation 7 does not give:
    # V = (0.015² 0.153² 0.733 0.267 / 74 + 0.847² (0.02² 0 + 0.32² 0 + 0.645² 0.0031 0.9969 / 324)) / 0.013²
    np.testing.assert_array_equal(estimates.producers.margin.round(2), [0.21, 0.25, 0.03, 0.02])


def test_olofsson_section_5_2_2():
    areas = estimate_map(OLOFSSON, HECTARES).areas
    np.testing.assert_array_equal((areas.value * 900_000).round(), [21_158, 11_686, 285_770, 581_386])
    np.testing.assert_array_equal((areas.margin * 900_000).round(), [6_158, 3_756, 15_510, 16_282])


def test_olofsson_sample_size_and_allocation():
    """Section 5.1.1 and table 5; its equal column has 160 each, one short of the 641."""
    shares = PIXELS / PIXELS.sum()
    assert sample_size(shares, [0.7, 0.6, 0.9, 0.95], 0.01) == 641
    assert sample_size(shares, [0.7, 0.6, 0.9, 0.95], 0.01, units=PIXELS.sum()) == 641
    assert allocate(shares, 641, 'proportional').tolist() == [13, 10, 205, 413]
    assert allocate(shares, 640, 'equal').tolist() == [160] * 4
    recommended = allocate(shares, 641, 'recommended', 50)
    # Table 5 prints 50, 50, 180, 361, which is not in proportion 320 to 645 to the last unit.
    assert recommended.tolist() == [50, 50, 179, 362]


def test_stehman_numerical_example():
    """Pages 4932 to 4936."""
    estimates = estimate_map(tally(STRATA, MAP, REFERENCE, 'ABCD'), UNITS, UNITS)
    np.testing.assert_allclose(estimates.areas.value, [0.35, 0.34, 0.20, 0.11])
    assert estimates.overall.value.round(2) == 0.63
    assert estimates.overall.standard_error.round(3) == 0.085
    assert estimates.users.value[1].round(3) == 0.574
    assert estimates.users.standard_error[1].round(3) == 0.125
    assert estimates.producers.value[1].round(3) == 0.794
    assert estimates.matrix[1, 2].round(2) == 0.08


def test_against_mapac():
    """Output of the R package mapac 0.3 for the same example, without finite population correction."""
    estimates = estimate_map(tally(STRATA, MAP, REFERENCE, 'ABCD'), UNITS)
    users = [0.7419355, 0.5744681, 0.5, 0.7], [0.1645627, 0.1248023, 0.2151657, 0.1527525]
    producers = [0.6571429, 0.7941176, 0.3, 0.6363636], [0.1477318, 0.1165671, 0.1504438, 0.1623242]
    np.testing.assert_allclose(estimates.users, users, atol=6e-8)
    np.testing.assert_allclose(estimates.producers, producers, atol=6e-8)
    matrix = [[23, 4, 4, 0], [12, 27, 8, 0], [0, 2, 6, 4], [0, 1, 2, 7]]
    np.testing.assert_allclose(estimates.matrix, np.array(matrix) / 100, atol=1e-12)


@st.composite
def error_matrices(draw, least=2):
    classes = draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts = rng.integers(0, draw(st.sampled_from([2, 40])), (classes, classes))
    counts[:, 0] += np.maximum(least - counts.sum(1), 0)
    return counts, rng.uniform(0.1, 10, classes) * rng.choice([1, 1000], classes)


@given(error_matrices())
@settings(max_examples=80, deadline=None)
def test_equals_equations_5_to_11_of_olofsson(case):
    counts, areas = case
    weight, size = areas / areas.sum(), counts.sum(1)
    matrix = weight[:, None] * counts / size[:, None]  # equation 4
    users = np.diag(matrix) / matrix.sum(1)
    share = matrix.sum(0)
    overall_variance = (weight**2 * users * (1 - users) / (size - 1)).sum()  # equation 5
    users_variance = users * (1 - users) / (size - 1)  # equation 6
    part = counts / size[:, None]
    area_variance = (weight[:, None] ** 2 * part * (1 - part) / (size[:, None] - 1)).sum(0)  # equation 10
    estimates = estimate_map(counts, areas)
    np.testing.assert_allclose(estimates.matrix, matrix, atol=1e-12)
    np.testing.assert_allclose(estimates.overall, (np.trace(matrix), overall_variance**0.5), atol=1e-7)
    np.testing.assert_allclose(estimates.users, (users, users_variance**0.5), atol=1e-7)
    np.testing.assert_allclose(estimates.areas, (share, area_variance**0.5), atol=1e-7)
    for j in range(len(areas)):
        if share[j] == 0:
            assert np.isnan(estimates.producers.value[j])
            continue
        hit = matrix[j, j] / share[j]
        own = weight[j] ** 2 * (1 - hit) ** 2 * users_variance[j]
        others = [
            weight[i] ** 2 * part[i, j] * (1 - part[i, j]) / (size[i] - 1)
            for i in range(len(areas))
            if i != j
        ]
        variance = (own + hit**2 * sum(others)) / share[j] ** 2  # equation 7
        np.testing.assert_allclose(estimates.producers.value[j], hit, atol=1e-12)
        np.testing.assert_allclose(estimates.producers.standard_error[j], variance**0.5, atol=1e-7)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_equals_equations_of_stehman_unit_by_unit(seed, strata, classes):
    rng = np.random.default_rng(seed)
    units = rng.integers(40, 500, strata)
    sizes = rng.integers(2, 30, strata)
    stratum = np.repeat(np.arange(strata), sizes)
    mapped, truth = rng.integers(0, classes, (2, len(stratum)))
    counts = np.zeros((strata, classes, classes))
    np.add.at(counts, (stratum, mapped, truth), 1)
    estimates = estimate_map(counts, units, units)

    def total(y):
        return sum(n * y[stratum == h].mean() for h, n in enumerate(units))

    def variance(y):
        return sum(
            n**2 * (1 - size / n) * y[stratum == h].var(ddof=1) / size
            for h, (n, size) in enumerate(zip(units, sizes, strict=True))
        )

    area = (truth == 0).astype(float)
    np.testing.assert_allclose(estimates.areas.value[0], total(area) / units.sum(), atol=1e-12)
    np.testing.assert_allclose(
        estimates.areas.standard_error[0], variance(area) ** 0.5 / units.sum(), atol=1e-9
    )
    both = ((truth == 0) & (mapped == 0)).astype(float)
    for whole, said in (((mapped == 0) * 1.0, estimates.users), (area, estimates.producers)):
        if not whole.any():
            assert np.isnan(said.value[0])
            continue
        ratio = total(both) / total(whole)
        error = variance(both - ratio * whole) ** 0.5 / total(whole)
        np.testing.assert_allclose([said.value[0], said.standard_error[0]], [ratio, error], atol=1e-7)


@given(error_matrices())
@settings(max_examples=60, deadline=None)
def test_one_implementation_serves_both_papers(case):
    counts, areas = case
    general = np.zeros((len(areas), *counts.shape), int)
    general[np.arange(len(areas)), np.arange(len(areas))] = counts
    special, split = estimate_map(counts, areas), estimate_map(general, areas)
    for name in ('overall', 'users', 'producers', 'areas'):
        np.testing.assert_array_equal(getattr(special, name), getattr(split, name))
    assert special.areas.value.sum() == pytest.approx(1)
    assert special.matrix.sum() == pytest.approx(1)
    np.testing.assert_allclose(special.matrix.sum(1), areas / areas.sum())


@given(st.lists(st.tuples(st.integers(2, 500), st.floats(1e-3, 1e9)), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_perfect_agreement(strata):
    sizes, areas = np.array(strata).T
    estimates = estimate_map(np.diag(sizes), areas)
    for said in (estimates.overall, estimates.users, estimates.producers):
        np.testing.assert_allclose(said.value, 1)
        np.testing.assert_allclose(said.standard_error, 0, atol=1e-7)
    np.testing.assert_allclose(estimates.areas.value, areas / areas.sum())


def test_estimates_are_unbiased_and_pixel_counting_is_not():
    """2,000 samples of a map that misses two thirds of a rare class."""
    rng = np.random.default_rng(0)
    truth_by_map = np.array([[900, 100], [1800, 97_200]])  # rows map: rare, common
    true_share = truth_by_map[:, 0].sum() / truth_by_map.sum()
    sizes = np.array([60, 240])
    found = np.stack(
        [rng.hypergeometric(*row, n, 2000) for row, n in zip(truth_by_map, sizes, strict=True)], 1
    )
    areas = truth_by_map.sum(1)
    runs = [estimate_map([[a, 60 - a], [b, 240 - b]], areas, areas).areas for a, b in found]
    shares = np.array([run.value[0] for run in runs])
    errors = np.array([run.standard_error[0] for run in runs])
    assert shares.mean() == pytest.approx(true_share, rel=0.02)
    assert (errors**2).mean() ** 0.5 == pytest.approx(shares.std(), rel=0.05)
    assert areas[0] / areas.sum() < 0.4 * true_share


def test_whole_stratum_sampled_has_no_error():
    counts = [[3, 1], [0, 1]]
    estimates = estimate_map(counts, areas=[4, 1], units=[4, 1])
    np.testing.assert_allclose(estimates.areas.value, [0.6, 0.4])
    assert not estimates.areas.standard_error.any()


def test_class_that_only_the_reference_has():
    estimates = estimate_map([[40, 5, 5], [2, 46, 2], [0, 0, 0]], areas=[30, 70, 0])
    assert np.isnan(estimates.users.value[2])
    assert estimates.areas.value[2] == pytest.approx(0.3 * 0.1 + 0.7 * 0.04)
    assert (estimates.producers.value[2], estimates.producers.standard_error[2]) == (0, 0)


@pytest.mark.parametrize(
    ('counts', 'areas', 'units', 'said'),
    [
        ([[5, 1], [1, 5]], [1, 2, 3], None, 'one a stratum'),
        ([[5, 1, 0], [1, 5, 0]], [1, 2], None, 'have to be'),
        ([[5, 1], [1, 5]], [1, 2], [1], 'units'),
        ([[5, -1], [1, 5]], [1, 2], None, '0 or more'),
        ([[5, np.nan], [1, 5]], [1, 2], None, '0 or more'),
        ([[5, 1], [1, 5]], [1, np.nan], None, '0 or more'),
        ([[5, 1], [1, 5]], [0, 0], None, 'above 0'),
        ([[5, 1], [1, 5]], [1, 0], None, 'area 0'),
        ([[5, 1], [1, 0]], [1, 2], None, 'stratum 1 has fewer than 2'),
        ([[5, 1], [1, 5]], [1, 2], [5, 100], 'more sample units than pixels'),
    ],
)
def test_what_cannot_be_estimated(counts, areas, units, said):
    with pytest.raises(UsageError, match=said):
        estimate_map(counts, areas, units)


@given(
    st.lists(st.floats(1e-6, 1), min_size=1, max_size=12),
    st.integers(0, 3000),
    st.sampled_from(['recommended', 'proportional', 'equal']),
    st.integers(2, 100),
)
@settings(max_examples=150, deadline=None)
def test_allocations_add_up(areas, more, how, least):
    size = 2 * len(areas) + more
    counts = allocate(areas, size, how, least)
    assert counts.sum() == size
    floor = min(least, size // len(areas)) if how == 'recommended' else 2
    assert counts.min() >= floor


@given(
    st.lists(st.tuples(st.floats(1e-6, 1), st.integers(1, 400)), min_size=1, max_size=8),
    st.integers(0, 1500),
    st.sampled_from(['recommended', 'proportional', 'equal']),
)
@settings(max_examples=150, deadline=None)
def test_small_strata_give_what_they_have_and_the_others_the_rest(strata, more, how):
    areas, units = map(np.array, zip(*strata, strict=True))
    size = 2 * len(areas) + more
    counts = allocate_within(areas, units, size, how)
    assert (counts <= units).all()
    assert counts.sum() == min(size, units.sum())
    assert (counts >= np.minimum(units, 2)).all()


def test_an_estimate_needs_no_torch():
    code = 'import sys, geores.map_accuracy.assess; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_designs_out_of_range():
    with pytest.raises(UsageError, match='too small for 3 strata'):
        allocate([1, 1, 1], 5)
    with pytest.raises(UsageError, match='allocation'):
        allocate([1, 1], 50, 'neyman')
    with pytest.raises(UsageError, match='min-per-class'):
        allocate([1, 1], 50, min_per_class=1)
    with pytest.raises(UsageError, match='standard-error'):
        sample_size([1], [0.9], 0)
    with pytest.raises(UsageError, match='accuracy'):
        sample_size([1], [1.2], 0.01)
