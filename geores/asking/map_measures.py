"""What a class map measures for a question: numbers, areas, places and distances, with how they are said.

* Areas are *mapped areas*: what the map shows, whose errors are not corrected. Their interval is a model
  interval: the area where the errors that all pixels share lie at either end of the central 90 %.
* Counts are of connected areas of at least `LEAST` (pixels that share a side), or of the size asked for. The
  interval reaches from the areas that hold that much of pixels which stay what they are at the lower end, to
  the areas that the upper end has.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from geores.asking.class_map import (
    ClassMap,
    Mask,
    chosen_areas,
    count_areas,
    distances_to,
    inside_near,
    least_area,
    limits,
    possible_pixels,
    sure_pixels,
)
from geores.asking.intervals import ends_of_parts, ends_of_whole, ends_within
from geores.asking.places import part_of, place_of, shares_of_parts
from geores.cartography.areas import say_area, say_length
from geores.questions.everyday import MapQuestion, Thing
from geores.questions.vocabulary import AREAS, UNITS

__all__ = [
    'MapEstimate', 'area_of', 'areas_of', 'between', 'count_of', 'distance_between', 'every_area',
    'largest_of', 'percent', 'saying', 'share_of', 'size_words', 'thing_of', 'where_is',
]  # fmt: skip


@dataclass(frozen=True)
class MapEstimate:
    """An answer from a class map.

    Attributes:
        answer: the best guess with its unit, or yes, no, rural or urban; None where the map cannot answer.
        text: the answer as a sentence.
        value: the number, in `unit`.
        low: lower end of its interval.
        high: upper end.
        unit: of the number: 'm2', 'ha', 'km2', 'areas', '%', 'm', or 'pixel' where the scene has no CRS.
        probability: probability of a yes or a no; None of numbers.
        chosen: the areas that were counted: key of the cover -> mask of its areas, (n,).
        notes: what the user should know.
    """

    answer: str | None
    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    probability: float | None = None
    chosen: dict[str, Mask] = field(default_factory=dict, repr=False, compare=False)
    notes: tuple[str, ...] = ()


def count_of(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    """Number of the areas that count."""
    thing = thing_of(question)
    _, chosen = chosen_areas(thing, class_map)
    low, value, high = count_areas(thing, class_map)
    answer = f'{areas_of(value, class_map.words[thing.cover].noun)}{size_words(thing, class_map)}'
    text = f'{answer}{between(f"{low:,}", f"{value:,}", f"{high:,}")}'
    return MapEstimate(answer, text, value, low, high, 'areas', chosen={thing.cover: chosen})


def _areas(question: MapQuestion, class_map: ClassMap) -> tuple[MapEstimate, str]:
    """The area asked for in the unit of the map, and which part of the cover it is in words."""
    thing = thing_of(question)
    areas = class_map.of(thing.cover)
    chosen = np.ones(len(areas.sizes), bool)
    ends = ends_of_whole(thing.cover, class_map)
    value, words = float(areas.sizes.sum()), ''
    notes: tuple[str, ...] = ()
    if thing.near and thing.metres and not thing.sizes:
        zone = class_map.valid & (distances_to(inside_near(thing, class_map), class_map) <= thing.metres)
        inside = zone & (areas.numbers > 0)
        chosen = np.bincount(areas.numbers[inside], minlength=len(chosen) + 1)[1:] > 0
        value = class_map.total(inside)
        ends = ends_within(thing.cover, zone, value, class_map)
        words = _near_words(thing, class_map)
        notes = (f'the evidence shows the areas whole, and this is their part{words}',)
    elif thing.sizes or thing.near:
        _, chosen = chosen_areas(thing, class_map)
        value = float(areas.sizes[chosen].sum())
        ends = ends_of_parts(thing.cover, areas.inside(chosen), value, class_map)
        words = f' in areas{size_words(thing, class_map)}'
    found = MapEstimate(None, '', value, *ends, class_map.unit, chosen={thing.cover: chosen}, notes=notes)
    return found, words


def area_of(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    """Area of a cover, or of the part of it that is asked for."""
    found, sized = _areas(question, class_map)
    thing, unit = thing_of(question), question.unit
    say = saying(unit, class_map)
    noun, ice = class_map.words[thing.cover].noun, _ice(thing, class_map, say)
    low, value, high = _ends(found)
    answer = f'{say(value)} of {noun}{sized}{ice}'
    ends = between(say(low), say(value), say(high))
    share = percent(100 * value / class_map.valid_area)
    text = f'{say(value)} of {noun}{sized}{ends}{ice}; {share} of what is seen'
    scale = AREAS[unit] if unit else 1.0
    return replace(found, answer=answer, text=text, value=value / scale, low=low / scale, high=high / scale,
                   unit=unit or class_map.unit)  # fmt: skip


def share_of(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    """The same as a share of what is seen."""
    found, sized = _areas(question, class_map)
    thing, whole = thing_of(question), class_map.valid_area
    noun = class_map.words[thing.cover].noun
    low, value, high = (100 * part / whole for part in _ends(found))
    say: Callable[[float], str] = lambda area: percent(100 * area / whole)  # noqa: E731
    ice = _ice(thing, class_map, say)
    answer = f'{percent(value)} is {noun}{sized}{ice}'
    area = say_area(_ends(found)[1], class_map.unit)
    ends = between(percent(low), percent(value), percent(high))
    text = f'{percent(value)} is {noun}{sized}{ends}{ice}; {area}'
    return replace(found, answer=answer, text=text, value=value, low=low, high=high, unit='%')


def _ice(thing: Thing, class_map: ClassMap, say: Callable[[float], str]) -> str:
    """', 6.0 km² of snow or ice' beside open water, where the map has some."""
    if thing.cover != 'water' or 'snow' not in class_map.words:
        return ''
    frozen = float(class_map.of('snow').sizes.sum())
    return f', {say(frozen)} {"of " if not say(frozen).endswith("%") else ""}snow or ice' if frozen else ''


def largest_of(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    """The largest connected area and where it lies."""
    thing = thing_of(question)
    areas, chosen = chosen_areas(thing, class_map)
    noun = class_map.words[thing.cover].noun
    if not chosen.any():
        return MapEstimate(None, f'there is no area of {noun}{size_words(thing, class_map)}')
    index = int(np.where(chosen, areas.sizes, -1).argmax())
    only = np.arange(len(chosen)) == index
    inside = areas.inside(only)
    value = float(areas.sizes[index])
    low, high = ends_of_parts(thing.cover, inside, value, class_map)
    say = saying(question.unit, class_map)
    part, place = part_of(inside, class_map), place_of(inside, class_map)
    answer = f'{say(value)} has the largest area of {noun}, in the {part}'
    text = (
        f'{say(value)}{between(say(low), say(value), say(high))} has the largest area of {noun}, '
        f'in the {part}{place}; mean probability {areas.chances[index]:.2f}'
    )
    scale = AREAS[question.unit] if question.unit else 1.0
    return MapEstimate(answer, text, value / scale, low / scale, high / scale,
                       question.unit or class_map.unit, chosen={thing.cover: only})  # fmt: skip


def where_is(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    """Where the areas of a cover lie."""
    thing = thing_of(question)
    areas, chosen = chosen_areas(thing, class_map)
    noun = class_map.words[thing.cover].noun
    if not chosen.any():
        return MapEstimate(None, f'nowhere: there is no area of {noun}{size_words(thing, class_map)}')
    inside = areas.inside(chosen)
    value, unit = float(areas.sizes[chosen].sum()), class_map.unit
    ends = ends_of_parts(thing.cover, inside, value, class_map)
    parts = shares_of_parts(inside, class_map)
    answer = f'{say_area(value, unit)} of {noun}, the largest part in the {parts[0][0]}'
    spread = ', '.join(f'{name} {share:.0%}' for name, share in parts[:4])
    order = np.argsort(-np.where(chosen, areas.sizes, -1))[: min(3, int(chosen.sum()))]
    lie = '; '.join(
        f'{say_area(areas.sizes[k], unit)} in the {part_of(one, class_map)}{place_of(one, class_map)}'
        for k in order
        for one in (areas.numbers == k + 1,)
    )
    text = f'{answer} ({spread}); the largest areas: {lie}'
    return MapEstimate(answer, text, value, *ends, unit, chosen={thing.cover: chosen})


def distance_between(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    """Distance of two covers where they are nearest."""
    first, second = thing_of(question), question.other
    if second is None:
        raise ValueError('a distance has two ends')
    nouns = [class_map.words[thing.cover].noun for thing in (first, second)]
    ends = []
    for thing in (first, second):
        areas, chosen = chosen_areas(thing, class_map)
        if not chosen.any():
            noun = class_map.words[thing.cover].noun
            return MapEstimate(
                None, f"I don't know: there is no area of {noun}{size_words(thing, class_map)}"
            )
        least = limits(thing, class_map)[0]
        ends.append(
            (
                possible_pixels(areas, chosen, least, class_map),
                areas.inside(chosen),
                sure_pixels(areas, chosen),
            )
        )
    (low, value, high) = (
        float(np.min(distances_to(there, class_map)[here], initial=np.inf))
        for here, there in zip(*ends, strict=True)
    )
    words = f'{_metres(value)} between {nouns[0]} and {nouns[1]} where they are nearest'
    top = f'{_metres(high)}' if np.isfinite(high) else 'farther'
    smallest = say_area(least_area(class_map))
    text = f'{words}{between(_metres(low), _metres(value), top)}; areas of {smallest} or more'
    both = {thing.cover: chosen_areas(thing, class_map)[1] for thing in (first, second)}
    farthest = float(np.hypot(*class_map.classes.shape)) * (class_map.gsd or 1.0)  # within the scene
    return MapEstimate(words, text, value, low, min(high, farthest), 'm', chosen=both)


def _metres(length: float) -> str:
    return say_length(round(length, -1) if length >= 100 else round(length))


def size_words(thing: Thing, class_map: ClassMap) -> str:
    """' of 0.5 ha or more', and how near to what."""
    least, most = limits(thing, class_map)
    said = f' of {say_area(least, class_map.unit)} or more' if least else ''
    if most < np.inf:
        said = f' of {say_area(least, class_map.unit)} to {say_area(most, class_map.unit)}'
    return said + _near_words(thing, class_map)


def _near_words(thing: Thing, class_map: ClassMap) -> str:
    if thing.near is None:
        return ''
    other = class_map.words[thing.near].noun
    return f' within {say_length(thing.metres)} of {other}' if thing.metres else f' that touch {other}'


def every_area(keys: Iterable[str], class_map: ClassMap) -> dict[str, Mask]:
    """All areas of some covers, as `MapEstimate.chosen` has them."""
    return {key: np.ones(len(class_map.of(key).sizes), bool) for key in keys}


def thing_of(question: MapQuestion) -> Thing:
    """What a question is about, which one of this kind has."""
    if question.thing is None:
        raise ValueError(f'a question for {question.type} is about something')
    return question.thing


def _ends(found: MapEstimate) -> tuple[float, float, float]:
    return float(found.low or 0.0), float(found.value or 0.0), float(found.high or 0.0)


def saying(unit: str | None, class_map: ClassMap) -> Callable[[float], str]:
    """How areas are said.

    Args:
        unit: the unit asked for; None for the one that suits.
        class_map: the map.
    """
    if unit is None:
        return lambda area: say_area(area, class_map.unit)
    return lambda area: f'{area / AREAS[unit]:,.4g} {UNITS.get(unit, unit)}'


def areas_of(number: int, noun: str) -> str:
    """'3 areas of open water'."""
    return f'{number:,} {"area" if number == 1 else "areas"} of {noun}'


def between(low: str, value: str, high: str) -> str:
    """' (3 to 5)', or nothing where both ends are the number itself."""
    return '' if low == value == high else f' ({low} to {high})'


def percent(value: float) -> str:
    """A percentage in words."""
    return f'{value:.1f} %'
