"""Accuracy of a map and areas of its classes, from a stratified random sample with reference labels.

Counting the pixels of a class gives a biased area: a map's errors do not cancel. What is left out of
a class and what is wrongly put into it differ, most of all for rare classes beside common ones. The
estimators here correct for the errors that the sample shows, and say how sure that makes us.

One implementation serves two papers: Stehman (2014), "Estimating area and map accuracy for
stratified random sampling when the strata are different from the map classes", International Journal
of Remote Sensing 35:4923-4939, by indicator functions and ratio estimators; and its special case
where the strata are the map classes, Olofsson et al. (2014), "Good practices for estimating area and
assessing accuracy of land change", Remote Sensing of Environment 148:42-57.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geores.errors import UsageError

__all__ = ['Estimate', 'MapEstimates', 'estimate_map']

Floats = NDArray[np.float64]

NORMAL_95 = 1.96
"""Standard errors to either side of a 95 % interval, as both papers have it."""


class Estimate(NamedTuple):
    """Estimates with their standard errors; both NaN where the sample says nothing.

    Intervals are those of the normal distribution and are not cut at 0 or 1.
    """

    value: Floats
    standard_error: Floats

    @property
    def margin(self) -> Floats:
        """Half the width of the 95 % confidence interval."""
        return NORMAL_95 * self.standard_error


@dataclass(frozen=True)
class MapEstimates:
    """What a sample says about a map of K classes.

    Attributes:
        matrix: (K, K) error matrix in estimated proportions of area: rows map, columns reference.
        overall: accuracy of the map, ().
        users: user's accuracy of each class, (K,): what is right of the area mapped as it.
        producers: producer's accuracy of each class, (K,): what the map finds of its true area.
        areas: true share of area of each class, (K,), corrected for the map's errors.
    """

    matrix: Floats
    overall: Estimate
    users: Estimate
    producers: Estimate
    areas: Estimate


def estimate_map(counts: ArrayLike, areas: ArrayLike, units: ArrayLike | None = None) -> MapEstimates:
    """Estimate accuracies and shares of area from the counts of a stratified random sample.

    Olofsson et al. (2014) equations 1 to 11 where the strata are the map classes; Stehman (2014)
    equations 2 and 3 with standard errors by 25 and 27 to 28 else.

    Args:
        counts: labelled sample units: (K, K), rows map classes, which are the strata, and columns
            reference classes; or (H, K, K) with the strata first. A class that only the reference
            has gets a row of zeros.
        areas: mapped area of each stratum, in any unit, (K,) or (H,); 0 for one that the map lacks.
        units: pixels in each stratum, for the finite population correction of Stehman (2014); without
            it strata count as far larger than their samples, as in Olofsson et al. (2014).

    Raises:
        UsageError: if shapes differ, numbers are negative, or a stratum has fewer than 2 sample units
            (and more pixels than that).

    Example:
        >>> estimates = estimate_map([[48, 2], [5, 45]], areas=[9.0, 1.0])
        >>> estimates.areas.value.round(3), estimates.areas.margin.round(3)
        (array([0.874, 0.126]), array([0.05, 0.05]))
    """
    table, weights, sizes, rest = _checked(counts, areas, units)
    shares = table / sizes[:, None, None]
    sample = _Sample(weights, rest / np.maximum(sizes - 1, 1))
    right = np.diagonal(shares, axis1=1, axis2=2)
    return MapEstimates(
        matrix=np.tensordot(weights, shares, axes=1),
        overall=sample.mean(right.sum(1)),
        users=sample.ratio(right, shares.sum(2)),
        producers=sample.ratio(right, shares.sum(1)),
        areas=sample.mean(shares.sum(1)),
    )


class _Sample(NamedTuple):
    """Strata: their shares of area, and (1 - n / N) / (n - 1), all (H,)."""

    weights: Floats
    scale: Floats

    def mean(self, shares: Floats) -> Estimate:
        """The share of area of which something is true, from its share (H, ...) of each stratum."""
        return Estimate(self._total(shares), self._error(shares, shares))

    def ratio(self, part: Floats, whole: Floats) -> Estimate:
        """Of the area that is ``whole``, the share that is ``part``; part implies whole, (H, K) both."""
        known = self._total(whole)
        known = np.where(known > 0, known, np.nan)
        value = self._total(part) / known
        residual = part - value * whole
        squared = part - 2 * value * part + value**2 * whole
        return Estimate(value, self._error(residual, squared) / known)

    def _total(self, shares: Floats) -> Floats:
        return np.asarray(np.tensordot(self.weights, shares, axes=1))

    def _error(self, mean: Floats, mean_of_squares: Floats) -> Floats:
        """Standard error of a total, from the first two moments in each stratum."""
        spread = np.maximum(mean_of_squares - mean**2, 0)
        return np.asarray(np.sqrt(np.tensordot(self.weights**2 * self.scale, spread, axes=1)))


def _checked(
    counts: ArrayLike, areas: ArrayLike, units: ArrayLike | None
) -> tuple[Floats, Floats, Floats, Floats]:
    """The strata that the map has: counts (H, K, K), shares of area, sample sizes, shares not sampled."""
    table, area = np.asarray(counts, float), np.asarray(areas, float)
    if table.ndim == 2:
        table = table[:, None, :] * np.eye(len(table))[:, :, None]
    if table.ndim != 3 or table.shape[1] != table.shape[2] or area.shape != table.shape[:1]:
        raise UsageError(
            f'counts {np.shape(counts)} have to be (K, K) or (H, K, K), and areas {area.shape} one a stratum'
        )
    sizes = table.sum((1, 2))
    population = np.full_like(area, np.inf) if units is None else np.asarray(units, float)
    if population.shape != area.shape:
        raise UsageError(f'units {population.shape} have to be one a stratum, {area.shape}')
    # Written so that NaN fails too.
    if not ((table >= 0).all() and (area >= 0).all() and 0 < area.sum() < np.inf):
        raise UsageError('counts and areas have to be 0 or more, and the areas together above 0')
    mapped = area > 0
    if (sizes[~mapped] > 0).any():
        raise UsageError('a stratum of area 0 has sample units')
    few = mapped & ~((sizes >= 2) | ((sizes == 1) & (population == 1)))
    if few.any():
        raise UsageError(f'stratum {int(few.argmax())} has fewer than 2 labelled sample units')
    if not (sizes <= population)[mapped].all():
        raise UsageError('a stratum has more sample units than pixels')
    rest = 1 - sizes / np.where(mapped, population, 1)
    return table[mapped], area[mapped] / area.sum(), sizes[mapped], rest[mapped]
