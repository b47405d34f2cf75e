"""Areas that are corrected for the errors of a class map, by an accuracy report of this very map.

The report is what `geores accuracy` makes of a labelled sample (Olofsson et al. 2014). It is of this map
where it has the same classes with the same mapped areas.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geores.asking.class_map import ClassMap
from geores.asking.map_answers import MAPPED, beside_limit
from geores.asking.map_measures import MapEstimate, percent, saying
from geores.cartography.areas import say_area
from geores.errors import UsageError
from geores.metrics.map_accuracy import estimate_map
from geores.questions.everyday import MapQuestion
from geores.questions.vocabulary import AREAS
from geores.weight_files import sha256_of

__all__ = ['REPORT', 'AdjustedAreas', 'adjusted_answer', 'adjusted_areas', 'digest_of', 'report_beside']

REPORT = 'accuracy.json'
"""Name of a report beside the map, which is taken unasked."""
SAME = 1e-6
"""Largest relative difference of areas that are the same."""
HECTARE = 10_000.0
MOST_BYTES = 2**24


@dataclass(frozen=True)
class AdjustedAreas:
    """Areas of the classes of a map, corrected by a sample of it.

    Attributes:
        path: of the report.
        labelled: number of points.
        classes: names, those of the map first, (K,).
        mapped: area of each on the map, in its unit, (K,); 0 for one that the map lacks.
        areas: the estimate of each, (K,).
        margins: half of its 95 % interval, (K,).
        counts: labelled points, rows map, columns reference, (K, K).
        by_class: whether the classes of the map were the strata of the sample.
    """

    path: Path
    labelled: int
    classes: tuple[str, ...]
    mapped: NDArray[np.float64] = field(repr=False)
    areas: NDArray[np.float64] = field(repr=False)
    margins: NDArray[np.float64] = field(repr=False)
    counts: NDArray[np.int64] = field(repr=False)
    by_class: bool = True

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a report.

        Args:
            path: `accuracy.json` of `geores accuracy --out`, or what its `--json` printed.

        Raises:
            UsageError: if it cannot be read, or is no such report.
        """
        try:
            with open(path, 'rb') as file:
                text = file.read(MOST_BYTES)
            told: dict[str, Any] = json.loads(text)
            rows, scale = told['classes'], {'ha': HECTARE, 'pixel': 1.0}[told['area_unit']]
            columns = {
                name: np.array([np.nan if row[name] is None else row[name] for row in rows], float)
                for name in ('mapped_area', 'area', 'area_ci95')
            }
            counts = np.array(told['error_matrix_counts'], np.int64)
            shares = np.array(told['error_matrix_area'], float)
            names, labelled = tuple(str(row['class']) for row in rows), int(told['labelled'])
            areas, margins = columns['area'] * scale, columns['area_ci95'] * scale
            if not names or {counts.shape, shares.shape} != {(len(names),) * 2} or (counts < 0).any():
                raise ValueError('its tables do not fit together')
            if not (np.isfinite(areas) & np.isfinite(margins) & (margins >= 0)).all():
                raise ValueError('an area is no number')
        except OSError as error:
            raise UsageError(f'{path} cannot be read: {error.strerror or error}') from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            reason = f'it has no {error}' if isinstance(error, KeyError) else error
            raise UsageError(
                f'{path} is no report of `geores accuracy` ({" ".join(str(reason).split())[:100]}): give the '
                f'{REPORT} of its --out'
            ) from error
        mapped = columns['mapped_area'] * scale
        by_class = bool(np.allclose(shares.sum(1) * areas.sum(), mapped, SAME, SAME * areas.sum()))
        return cls(Path(path), labelled, names, mapped, areas, margins, counts, by_class)

    def check(self, class_map: ClassMap) -> None:
        """Refuse a report of another map.

        Raises:
            UsageError: if classes or their mapped areas differ.
        """
        shown = {
            label: class_map.total(class_map.classes == place + 1)
            for place, label in enumerate(class_map.card.labels)
        }
        shown = {label: area for label, area in shown.items() if area}
        theirs = dict(zip(self.classes, self.mapped.tolist(), strict=True))
        if np.isnan(self.mapped).any():
            raise UsageError(
                f'{self.path} does not say what areas were mapped: make it from the design of '
                '`geores sample`, or with --map'
            )
        ours = {label for label, area in theirs.items() if area}
        if ours != set(shown):
            raise UsageError(
                f'{self.path} is of a map of {_few(ours)}, and that of {class_map.name} has '
                f'{_few(shown)}: sample this map'
            )
        for label, area in shown.items():
            if abs(theirs[label] - area) > SAME * area:
                raise UsageError(
                    f'{self.path} is of another map: {say_area(theirs[label], class_map.unit)} of {label}, '
                    f'and that of {class_map.name} has {say_area(area, class_map.unit)}: sample this map'
                )

    def of(self, labels: Sequence[str]) -> tuple[float, float]:
        """Area of some labels together, and half of its 95 % interval.

        Args:
            labels: names of classes; one that neither map nor sample has counts as nothing.
        """
        held = np.isin(self.classes, list(labels))
        value, margin = float(self.areas[held].sum()), float(self.margins[held].sum())
        if held.sum() < 2 or not self.by_class:
            return value, margin  # of several whose covariance is not known, no more than this
        sizes = self.counts.sum(1)
        if (sizes[self.mapped > 0] < 2).any():
            return value, margin
        table = np.zeros((len(held), 2, 2), np.int64)
        for row, inside in enumerate(held):
            table[row, int(not inside)] = self.counts[row, held].sum(), self.counts[row, ~held].sum()
        found = estimate_map(table, self.mapped).areas
        return value, float(found.margin[0] * self.mapped.sum())


def report_beside(folder: Path | None, named: str | Path | None, map_folder: str) -> Path | None:
    """The report to read: the one that is named, or one that lies beside the class map.

    Args:
        folder: of the answers.
        named: by the user.
        map_folder: of the class map within that of the answers.
    """
    if named is not None or folder is None:
        return None if named is None else Path(named)
    places = (folder / map_folder / REPORT, folder / REPORT)
    return next((place for place in places if place.is_file()), None)


def digest_of(report: Path | None) -> str | None:
    """SHA-256 of a report, on which answers depend; None where there is none."""
    return None if report is None or not report.is_file() else sha256_of(report)


def adjusted_areas(
    path: Path | None, class_map: ClassMap, *, named: bool
) -> tuple[AdjustedAreas | None, tuple[str, ...]]:
    """Areas by a report, and a note where one that was not named by the user is of another map.

    Args:
        path: of the report; None for none.
        class_map: the map.
        named: whether the user named it, so that it has to be right.

    Raises:
        UsageError: if a report that was named cannot be read, or is of another map.
    """
    if path is None:
        return None, ()
    try:
        found = AdjustedAreas.read(path)
        found.check(class_map)
    except UsageError as error:
        if named:
            raise
        return None, (f'areas are not corrected: {error}',)
    return found, ()


def adjusted_answer(
    question: MapQuestion, found: MapEstimate, class_map: ClassMap, adjusted: AdjustedAreas
) -> MapEstimate:
    """The answer with an error-adjusted area and its 95 % interval, where it is one of a whole cover.

    Args:
        question: the question.
        found: what the map alone answers.
        class_map: the map.
        adjusted: areas by the sample of it.
    """
    thing = question.thing
    if found.value is None or question.type not in ('area', 'share', 'largest') or thing is None:
        return found
    notes = tuple(note for note in found.notes if not note.startswith(MAPPED))
    if question.type == 'largest' or thing.sizes or thing.near:
        note = (
            f'a mapped area: the sample in {adjusted.path.name} corrects whole classes, and no parts of them'
        )
        return replace(found, notes=(*notes, note))
    whole, labels = class_map.valid_area, class_map.card.labels

    def area_of(key: str) -> tuple[float, float]:
        return adjusted.of([labels[place] for place in class_map.words.labels[key]])

    say: Callable[[float], str] = saying(question.unit, class_map)
    scale, unit = AREAS[question.unit] if question.unit else 1.0, question.unit or class_map.unit
    if question.type == 'share':
        say, scale, unit = (lambda area: percent(100 * area / whole)), whole / 100, '%'
    value, margin = area_of(thing.cover)
    low, high = max(0.0, value - margin), min(whole, value + margin)
    noun, verb = class_map.words[thing.cover].noun, 'is' if question.type == 'share' else 'of'
    ice = ''
    if thing.cover == 'water' and 'snow' in class_map.words and (frozen := area_of('snow')[0]):
        ice = f', {say(frozen)} {"" if question.type == "share" else "of "}snow or ice'
    mapped = say(class_map.total(class_map.of(thing.cover).numbers > 0))
    note = (
        f'an error-adjusted area (Olofsson et al. 2014), with a 95 % confidence interval from '
        f'{adjusted.labelled:,} labelled points of this map; the evidence shows what is mapped'
    )
    adjusted_found = replace(
        found,
        answer=f'{say(value)} {verb} {noun}{ice}',
        text=f'{say(value)} {verb} {noun}, error-adjusted ({say(low)} to {say(high)}){ice}; mapped: {mapped}',
        value=value / scale,
        low=low / scale,
        high=high / scale,
        unit=unit,
        notes=(*notes, note),
    )
    return beside_limit(question, adjusted_found)


def _few(names: Sequence[str] | set[str] | dict[str, float]) -> str:
    listed = sorted(names)
    return ', '.join(listed[:4]) + (f' and {len(listed) - 4} more' if len(listed) > 4 else '')
