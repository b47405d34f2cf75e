"""Answers from a class map: pure functions of a question and the map, no files and no networks.

What is measured stands in `geores.asking.map_measures`; here it is decided by it whether there is something,
whether a number reaches a limit, which of several is more, and how the covers stand by their shares.

* Presence is whether there is an area that counts; its probability is the mean one of the best of them.
* A limit is reached, or not, by the whole interval; where the limit lies within it, it is too close to say.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geores.asking.class_map import (
    LADDER,
    TAIL,
    ClassMap,
    best_square,
    chosen_areas,
    count_areas,
    least_area,
)
from geores.asking.intervals import draws_of, ends_of_whole, held_note
from geores.asking.map_measures import (
    MapEstimate,
    area_of,
    areas_of,
    between,
    count_of,
    distance_between,
    every_area,
    largest_of,
    percent,
    saying,
    share_of,
    size_words,
    thing_of,
    where_is,
)
from geores.cartography.areas import say_area
from geores.questions.everyday import MapQuestion, Thing
from geores.questions.vocabulary import AREAS

__all__ = ['MAPPED', 'TOO_CLOSE', 'URBAN', 'answer_from_map', 'beside_limit']

URBAN = 0.3
"""Share of built-up land from which a scene is called urban."""
ALIKE = 0.1
"""Relative difference up to which two areas are called equal."""
TOO_CLOSE = 'too close to say'
"""The answer where an interval holds what the number is compared with."""
MAPPED = 'a mapped area, whose errors are not corrected: geores accuracy does, by a sample of this map'
"""How notes on an area begin that is only mapped."""


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
    estimate = beside_limit(question, _ANSWERS[question.type](question, class_map))
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
    if question.type in ('area', 'share', 'largest', 'covers'):
        notes.append(MAPPED + held_note(class_map.card))
    if question.limit is not None and not question.limit.said:
        notes.append(f'"{question.limit.words}" is read as "at least {question.limit.words}"')
    return tuple(notes)


def beside_limit(question: MapQuestion, found: MapEstimate) -> MapEstimate:
    """Whether the number that was found reaches the limit of a question; the number itself without one.

    Args:
        question: the question.
        found: the answer to the question for the number.
    """
    limit = question.limit
    if limit is None or found.value is None:
        return found
    scale = AREAS.get(found.unit or '', 1.0)
    ends = [float(end or 0.0) for end in (found.low, found.high)]
    sides = {limit.compare(end, scale) for end in ends}
    answers = {limit.holds(end, scale) for end in ends}
    if len(answers) > 1 or (limit.side == 'exactly' and sides == {-1, 1}):
        text = f'{TOO_CLOSE}: {found.text}; the line, {limit.words}, lies within the interval'
        return replace(found, answer=TOO_CLOSE, text=text)
    answer = 'yes' if answers == {True} else 'no'
    return replace(found, answer=answer, text=f'{answer}: {found.text}')


def _presence(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    thing = thing_of(question)
    areas, chosen = chosen_areas(thing, class_map)
    noun, sized = class_map.words[thing.cover].noun, size_words(thing, class_map)
    if chosen.any():
        best = float(areas.chances[chosen].max())
        whole = say_area(float(areas.sizes[chosen].sum()), class_map.unit)
        apart = 'with their parts farther off' if thing.near is not None and thing.metres else 'in all'
        text = f'yes: {areas_of(int(chosen.sum()), noun)}{sized}, {whole} {apart}'
        return MapEstimate('yes', text, probability=best, chosen={thing.cover: chosen})
    smaller = f'; the largest has {say_area(areas.sizes.max(), class_map.unit)}' if len(areas.sizes) else ''
    # Of areas of a stated size the mean probability says little: they may be cut by a gap.
    plain = thing.near is None and not thing.sizes
    chance = max(0.5, 1 - best_square(areas, least_area(class_map), class_map)) if plain else None
    text = f'no: no area of {noun}{sized}{"" if thing.near else smaller}'
    return MapEstimate('no', text, probability=chance, chosen={thing.cover: chosen})


def _comparison(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    first, second = thing_of(question), question.other
    if second is None:
        raise ValueError('a comparison has two sides')
    sides = [_side(thing, question.by, class_map) for thing in (first, second)]
    (a, one, said), (b, other, also) = sides
    # The two sides are drawn independently: every draw of one meets every draw of the other.
    gap = one[:, None] - other[None, :]
    near = ALIKE * np.maximum(one[:, None], other[None, :]) if question.by == 'area' else np.zeros_like(gap)
    choice = 'more' if question.choice == 'which' else question.choice
    holds = {'more': gap > 0, 'less': gap < 0, 'equal': np.abs(gap) <= near}[choice]
    tolerance = ALIKE * max(a, b) if question.by == 'area' else 0.0
    yes = {'more': a > b, 'less': a < b, 'equal': abs(a - b) <= tolerance}[choice]
    chance = float(holds.mean() if yes else 1 - holds.mean())
    if one.std() or other.std():
        chance = float(np.clip(chance, 0.5 / gap.size, 1 - 0.5 / gap.size))
    answer = 'yes' if yes else 'no'
    if question.choice == 'which' and a == b:
        answer = ('as many of both' if question.by == 'number' else 'as much of both') if a else 'neither'
    elif question.choice == 'which':
        answer = class_map.words[(first if yes else second).cover].noun
    if question.by == 'number':
        chosen = {thing.cover: chosen_areas(thing, class_map)[1] for thing in (first, second)}
    else:
        chosen = every_area((first.cover, second.cover), class_map)
    told = None if question.choice == 'which' and a == b else chance  # a tie is no answer to be sure of
    return MapEstimate(answer, f'{answer}: {said} and {also}', probability=told, chosen=chosen)


def _side(thing: Thing, by: str, class_map: ClassMap) -> tuple[float, NDArray[np.float64], str]:
    """One side of a comparison: its number, draws of it, and both in words."""
    noun = class_map.words[thing.cover].noun
    if by == 'number':
        fewest, count, most = count_areas(thing, class_map)
        draws = np.interp(LADDER, (-TAIL, 0, TAIL), (fewest, count, most))
        words = f'{areas_of(count, noun)}{size_words(thing, class_map)}'
        return count, draws, f'{words}{between(f"{fewest:,}", f"{count:,}", f"{most:,}")}'
    mapped = float(class_map.of(thing.cover).sizes.sum())
    low, high = ends_of_whole(thing.cover, class_map)
    say = saying(None, class_map)
    return (
        mapped,
        draws_of(thing.cover, class_map),
        f'{say(mapped)} of {noun}{between(say(low), say(mapped), say(high))}',
    )


def _rural_urban(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    areas = class_map.of('built')
    chosen = areas.sizes >= least_area(class_map) * (1 - 1e-9)
    whole = class_map.valid_area
    share = float(areas.sizes.sum()) / whole
    low, high = (end / whole for end in ends_of_whole('built', class_map))
    answer = 'urban' if share >= URBAN else 'rural'
    holds = float(((draws_of('built', class_map) / whole >= URBAN) == (answer == 'urban')).mean())
    ends = between(*(percent(100 * one) for one in (low, share, high)))
    text = (
        f'{answer}: {percent(100 * share)} is built-up land{ends}; urban is said from '
        f'{percent(100 * URBAN)} on'
    )
    return MapEstimate(answer, text, 100 * share, 100 * low, 100 * high, '%', holds, {'built': chosen})


@dataclass(frozen=True)
class _Standing:
    """The share of a cover of what is seen, percent, with the ends of its interval."""

    key: str
    value: float
    low: float
    high: float

    def meets(self, other: '_Standing') -> bool:
        """Whether the interval of either share holds the other share."""
        return self.low <= other.value <= self.high or other.low <= self.value <= other.high


def _covers(question: MapQuestion, class_map: ClassMap) -> MapEstimate:
    """The shares of all covers, or which of them has the largest, the next, or the smallest."""
    whole, words = class_map.valid_area, class_map.words
    standings = []
    for cover in words.covers:
        if not cover.parts and (mapped := float(class_map.of(cover.key).sizes.sum())):
            ends = (mapped, *ends_of_whole(cover.key, class_map))
            standings.append(_Standing(cover.key, *(100 * one / whole for one in ends)))
    standings.sort(key=lambda one: -one.value)

    def said(one: _Standing) -> str:
        ends = between(percent(one.low), percent(one.value), percent(one.high))
        return f'{words[one.key].noun} {percent(one.value)}{ends}'

    every = ', '.join(map(said, standings))
    if not question.place:
        short = ', '.join(f'{words[one.key].noun} {percent(one.value)}' for one in standings)
        return MapEstimate(short, every, chosen=every_area([one.key for one in standings], class_map))
    if abs(question.place) > len(standings):
        return MapEstimate(None, f"I don't know: the map shows no more than {every}")
    index = question.place - 1 if question.place > 0 else len(standings) + question.place
    one = standings[index]
    close = [other for other in standings if other is not one and one.meets(other)]
    answer = f'{words[one.key].noun}, {percent(one.value)} of what is seen'
    text = f'{answer}{between(percent(one.low), percent(one.value), percent(one.high))}'
    if close:
        answer = TOO_CLOSE
        ordered = sorted((one, *close), key=lambda each: -each.value)
        text = f'{TOO_CLOSE}, by the map {" and ".join(map(said, ordered))}'
    chosen = every_area([each.key for each in (one, *close)], class_map)
    return MapEstimate(answer, text, one.value, one.low, one.high, '%', chosen=chosen)


_ANSWERS: dict[str, Callable[[MapQuestion, ClassMap], MapEstimate]] = {
    'presence': _presence,
    'count': count_of,
    'area': area_of,
    'share': share_of,
    'comp': _comparison,
    'where': where_is,
    'largest': largest_of,
    'distance': distance_between,
    'rural_urban': _rural_urban,
    'covers': _covers,
}
