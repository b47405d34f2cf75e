"""Answers from a class map: pure functions of a question and the map, no files and no networks.

* Areas are *mapped areas*: what the map shows, whose errors are not corrected. Their interval is a model
  interval: the area where the errors that all pixels share lie at either end of the central 90 %.
* Counts are of connected areas of at least `LEAST` (pixels that share a side), or of the size asked for. The
  interval reaches from the areas that hold that much of pixels which stay what they are at the lower end, to
  the areas that the upper end has.
* Presence is whether there is such an area; its probability is the mean one of the best of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from geores.asking.class_map import (
    LADDER,
    TAIL,
    ClassMap,
    Mask,
    best_square,
    chosen_areas,
    count_areas,
    distances_to,
    least_area,
    limits,
    possible_pixels,
    sure_pixels,
)
from geores.asking.intervals import draws_of, ends_of_parts, ends_of_whole, held_note
from geores.asking.places import part_of, place_of, shares_of_parts
from geores.cartography.areas import say_area, say_length
from geores.questions.everyday import MapQuestion, Thing
from geores.questions.vocabulary import AREAS

__all__ = ['MAPPED', 'URBAN', 'MapEstimate', 'answer_from_map', 'percent', 'saying']

URBAN = 0.3
"""Share of built-up land from which a scene is called urban."""
ALIKE = 0.1
"""Relative difference up to which two areas are called equal."""
MAPPED = 'a mapped area, whose errors are not corrected: geores accuracy does, by a sample of this map'
"""How notes on an area begin that is only mapped."""


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


def answer_from_map(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    """Answer a question.

    Args:
        question: whose covers the map shows.
        class_map: the map.
    """
    if not class_map.valid.any():
        return MapEstimate(None, "I don't know: no pixel of the scene is valid")
    things = [thing for thing in (question.thing, question.other) if thing is not None]
    if class_map.unit != 'm2' and (
        question.unit or any(thing.sizes or thing.metres for thing in things) or question.type == 'distance'
    ):
        return MapEstimate(None, "I don't know: the scene has no CRS, so that no size on the ground is known")
    estimate = _ANSWERS[question.type](question, class_map)
    return replace(estimate, notes=(*estimate.notes, *_notes(question, things, class_map)))


def _notes(question: MapQuestion, things: list[Thing], class_map: ClassMap) -> tuple[str, ...]:
    notes = []
    for thing in things:
        cover = class_map.words[thing.cover]
        if thing.words in cover.kinds:
            notes.append(f'the map does not tell what is a {thing.words} from other {cover.noun}')
    asked = {thing.cover for thing in things}
    if 'water' in asked and 'snow' in class_map.words and question.type not in ('area', 'share'):
        frozen = float(class_map.of('snow').sizes.sum())
        if frozen >= least_area(class_map):
            area = say_area(frozen, class_map.unit)
            notes.append(f'frozen water is no part of this: {area} of snow or ice are mapped')
    if question.type in ('area', 'share', 'largest'):
        notes.append(MAPPED + held_note(class_map.card.name))
    return tuple(notes)


def _size_words(thing: Thing, class_map: ClassMap) -> str:
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


def _presence(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    thing = _thing(question)
    areas, chosen = chosen_areas(thing, class_map)
    noun, sized = class_map.words[thing.cover].noun, _size_words(thing, class_map)
    if chosen.any():
        best = float(areas.chances[chosen].max())
        whole = say_area(float(areas.sizes[chosen].sum()), class_map.unit)
        text = f'yes: {_areas_of(int(chosen.sum()), noun)}{sized}, {whole} in all'
        return MapEstimate('yes', text, probability=best, chosen={thing.cover: chosen})
    smaller = f'; the largest has {say_area(areas.sizes.max(), class_map.unit)}' if len(areas.sizes) else ''
    # Of areas of a stated size the mean probability says little: they may be cut by a gap.
    plain = thing.near is None and not thing.sizes
    chance = max(0.5, 1 - best_square(areas, least_area(class_map), class_map)) if plain else None
    text = f'no: no area of {noun}{sized}{"" if thing.near else smaller}'
    return MapEstimate('no', text, probability=chance, chosen={thing.cover: chosen})


def _count(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    thing = _thing(question)
    _, chosen = chosen_areas(thing, class_map)
    low, value, high = count_areas(thing, class_map)
    answer = f'{_areas_of(value, class_map.words[thing.cover].noun)}{_size_words(thing, class_map)}'
    text = f'{answer}{_between(f"{low:,}", f"{value:,}", f"{high:,}")}'
    return MapEstimate(answer, text, value, low, high, 'areas', chosen={thing.cover: chosen})


def _areas(question: MapQuestion, class_map: ClassMap) -> tuple[MapEstimate, float]:
    """The area asked for in the unit of the map, and its share of what is seen."""
    thing = _thing(question)
    areas = class_map.of(thing.cover)
    chosen = np.ones(len(areas.sizes), bool)
    ends = ends_of_whole(thing.cover, class_map)
    value = float(areas.sizes.sum())
    if thing.sizes or thing.near:
        _, chosen = chosen_areas(thing, class_map)
        value = float(areas.sizes[chosen].sum())
        ends = ends_of_parts(thing.cover, areas.inside(chosen), value, class_map)
    estimate = MapEstimate(None, '', value, *ends, class_map.unit, chosen={thing.cover: chosen})
    return estimate, value / class_map.valid_area


def _area(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    found, share = _areas(question, class_map)
    thing, unit = _thing(question), question.unit
    say = saying(unit, class_map)
    noun, ice = class_map.words[thing.cover].noun, _ice(thing, class_map, say)
    sized = f' in areas{_size_words(thing, class_map)}' if thing.sizes or thing.near else ''
    low, value, high = _ends(found)
    answer = f'{say(value)} of {noun}{sized}{ice}'
    ends = _between(say(low), say(value), say(high))
    text = f'{say(value)} of {noun}{sized}{ends}{ice}; {percent(100 * share)} of what is seen'
    scale = AREAS[unit] if unit else 1.0
    return replace(found, answer=answer, text=text, value=value / scale, low=low / scale, high=high / scale,
                   unit=unit or class_map.unit)  # fmt: skip


def _share(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    found, _ = _areas(question, class_map)
    thing, whole = _thing(question), class_map.valid_area
    noun = class_map.words[thing.cover].noun
    low, value, high = (100 * part / whole for part in _ends(found))
    say: Callable[[float], str] = lambda area: percent(100 * area / whole)  # noqa: E731
    sized = f' in areas{_size_words(thing, class_map)}' if thing.sizes or thing.near else ''
    ice = _ice(thing, class_map, say)
    answer = f'{percent(value)} is {noun}{sized}{ice}'
    area = say_area(_ends(found)[1], class_map.unit)
    ends = _between(percent(low), percent(value), percent(high))
    text = f'{percent(value)} is {noun}{sized}{ends}{ice}; {area}'
    return replace(found, answer=answer, text=text, value=value, low=low, high=high, unit='%')


def _ice(thing: Thing, class_map: ClassMap, say: Callable[[float], str]) -> str:
    """', 6.0 km² of snow or ice' beside open water, where the map has some."""
    if thing.cover != 'water' or 'snow' not in class_map.words:
        return ''
    frozen = float(class_map.of('snow').sizes.sum())
    return f', {say(frozen)} {"of " if not say(frozen).endswith("%") else ""}snow or ice' if frozen else ''


def _largest(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    thing = _thing(question)
    areas, chosen = chosen_areas(thing, class_map)
    noun = class_map.words[thing.cover].noun
    if not chosen.any():
        return MapEstimate(None, f'there is no area of {noun}{_size_words(thing, class_map)}')
    index = int(np.where(chosen, areas.sizes, -1).argmax())
    only = np.arange(len(chosen)) == index
    inside = areas.inside(only)
    value = float(areas.sizes[index])
    low, high = ends_of_parts(thing.cover, inside, value, class_map)
    say = saying(question.unit, class_map)
    part, place = part_of(inside, class_map), place_of(inside, class_map)
    answer = f'{say(value)} has the largest area of {noun}, in the {part}'
    text = (
        f'{say(value)}{_between(say(low), say(value), say(high))} has the largest area of {noun}, '
        f'in the {part}{place}; mean probability {areas.chances[index]:.2f}'
    )
    scale = AREAS[question.unit] if question.unit else 1.0
    return MapEstimate(answer, text, value / scale, low / scale, high / scale,
                       question.unit or class_map.unit, chosen={thing.cover: only})  # fmt: skip


def _where(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    thing = _thing(question)
    areas, chosen = chosen_areas(thing, class_map)
    noun = class_map.words[thing.cover].noun
    if not chosen.any():
        return MapEstimate(None, f'nowhere: there is no area of {noun}{_size_words(thing, class_map)}')
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


def _comparison(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    first, second = _thing(question), question.other
    if second is None:
        raise ValueError('a comparison has two sides')
    sides = [_side(thing, question.by, class_map) for thing in (first, second)]
    (a, one, said), (b, other, also) = sides
    # The two sides are drawn independently: every draw of one meets every draw of the other.
    gap = one[:, None] - other[None, :]
    near = ALIKE * np.maximum(one[:, None], other[None, :]) if question.by == 'area' else np.zeros_like(gap)
    holds = {'more': gap > 0, 'less': gap < 0, 'equal': np.abs(gap) <= near}[question.choice]
    tolerance = ALIKE * max(a, b) if question.by == 'area' else 0.0
    yes = {'more': a > b, 'less': a < b, 'equal': abs(a - b) <= tolerance}[question.choice]
    chance = float(holds.mean() if yes else 1 - holds.mean())
    if one.std() or other.std():
        chance = float(np.clip(chance, 0.5 / gap.size, 1 - 0.5 / gap.size))
    text = f'{"yes" if yes else "no"}: {said} and {also}'
    if question.by == 'number':
        chosen = {thing.cover: chosen_areas(thing, class_map)[1] for thing in (first, second)}
    else:
        chosen = {
            thing.cover: np.ones(len(class_map.of(thing.cover).sizes), bool) for thing in (first, second)
        }
    return MapEstimate('yes' if yes else 'no', text, probability=chance, chosen=chosen)


def _side(thing: Thing, by: str, class_map: ClassMap) -> tuple[float, NDArray[np.float64], str]:
    """One side of a comparison: its number, draws of it, and both in words."""
    noun = class_map.words[thing.cover].noun
    if by == 'number':
        fewest, count, most = count_areas(thing, class_map)
        draws = np.interp(LADDER, (-TAIL, 0, TAIL), (fewest, count, most))
        words = f'{_areas_of(count, noun)}{_size_words(thing, class_map)}'
        return count, draws, f'{words}{_between(f"{fewest:,}", f"{count:,}", f"{most:,}")}'
    mapped = float(class_map.of(thing.cover).sizes.sum())
    low, high = ends_of_whole(thing.cover, class_map)
    say = saying(None, class_map)
    return (
        mapped,
        draws_of(thing.cover, class_map),
        f'{say(mapped)} of {noun}{_between(say(low), say(mapped), say(high))}',
    )


def _distance(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    first, second = _thing(question), question.other
    if second is None:
        raise ValueError('a distance has two ends')
    nouns = [class_map.words[thing.cover].noun for thing in (first, second)]
    ends = []
    for thing in (first, second):
        areas, chosen = chosen_areas(thing, class_map)
        if not chosen.any():
            noun = class_map.words[thing.cover].noun
            return MapEstimate(
                None, f"I don't know: there is no area of {noun}{_size_words(thing, class_map)}"
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
    text = f'{words}{_between(_metres(low), _metres(value), top)}; areas of {smallest} or more'
    both = {thing.cover: chosen_areas(thing, class_map)[1] for thing in (first, second)}
    farthest = float(np.hypot(*class_map.classes.shape)) * (class_map.gsd or 1.0)  # within the scene
    return MapEstimate(words, text, value, low, min(high, farthest), 'm', chosen=both)


def _metres(length: float) -> str:
    return say_length(round(length, -1) if length >= 100 else round(length))


def _rural_urban(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    areas = class_map.of('built')
    chosen = areas.sizes >= least_area(class_map) * (1 - 1e-9)
    whole = class_map.valid_area
    share = float(areas.sizes.sum()) / whole
    low, high = (end / whole for end in ends_of_whole('built', class_map))
    answer = 'urban' if share >= URBAN else 'rural'
    holds = float(((draws_of('built', class_map) / whole >= URBAN) == (answer == 'urban')).mean())
    ends = _between(*(percent(100 * one) for one in (low, share, high)))
    text = (
        f'{answer}: {percent(100 * share)} is built-up land{ends}; urban is said from '
        f'{percent(100 * URBAN)} on'
    )
    return MapEstimate(answer, text, 100 * share, 100 * low, 100 * high, '%', holds, {'built': chosen})


_ANSWERS: dict[str, Callable[[MapQuestion, ClassMap], MapEstimate]] = {
    'presence': _presence,
    'count': _count,
    'area': _area,
    'share': _share,
    'comp': _comparison,
    'where': _where,
    'largest': _largest,
    'distance': _distance,
    'rural_urban': _rural_urban,
}


def _thing(question: MapQuestion) -> Thing:
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
    name = {'m2': 'm²', 'km2': 'km²', 'squaremiles': 'square miles'}.get(unit, unit)
    return lambda area: f'{area / AREAS[unit]:,.4g} {name}'


def _areas_of(number: int, noun: str) -> str:
    return f'{number:,} {"area" if number == 1 else "areas"} of {noun}'


def _between(low: str, value: str, high: str) -> str:
    """' (3 to 5)', or nothing where both ends are the number itself."""
    return '' if low == value == high else f' ({low} to {high})'


def percent(value: float) -> str:
    """A percentage in words."""
    return f'{value:.1f} %'
