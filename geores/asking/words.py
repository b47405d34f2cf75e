"""Answers in words."""

from geores.asking.combine import Combined
from geores.questions.forms import Comparison, Form
from geores.questions.grammar_nouns import plural

__all__ = ['how_sure', 'in_words']


def in_words(form: Form, combined: Combined, tiles: int, *, one_tile: bool = False) -> str:
    """One sentence.

    Args:
        form: What was asked.
        combined: The answer.
        tiles: How many were seen.
        one_tile: Whether the answer is that of one tile, without sums behind it.
    """
    answer, carry = combined.answer, int(combined.carries.sum())
    if form.type == 'presence':
        if answer == 'no':
            return f'no: in none of {tiles:,} tiles'
        surely = bool((combined.strength[combined.carries] >= 0.5).any())
        likeliest = '' if surely else 'in some tile, likeliest '
        return f'yes: {likeliest}in {carry:,} of {tiles:,} tiles'
    if form.type == 'count' and combined.interval is not None:
        low, high = combined.interval
        value = combined.value or 0.0
        if low < high:
            low, value, high = (_rough(number) for number in (low, value, high))
        return _about(f'{value:,.0f}', f'{low:,.0f}', f'{high:,.0f}')
    if form.type == 'area' and combined.interval is not None and combined.value is not None:
        low, high = combined.interval
        return _about(_area(combined.value), _area(low), _area(high))
    if isinstance(form, Comparison) and combined.parts is not None and not one_tile:
        first, second = (
            f'{_rough(number):,.0f} {plural(part.category)}'
            for number, part in zip(combined.parts, form.parts(), strict=True)
        )
        return f'{answer}: about {first}, {second}'
    if form.type == 'rural_urban' and combined.value is not None and not one_tile:
        return f'{answer}: {combined.value:.0%} of the area'
    return answer


def how_sure(probability: float | None) -> str:
    """A probability in brackets; nothing where there is none.

    Args:
        probability: 1 of tiles without any doubt alone.
    """
    if probability is None:
        return ''
    return f' (confidence {"over 0.99" if 0.99 < probability < 1 else f"{probability:.2f}"})'


def _about(value: str, low: str, high: str) -> str:
    if low == high == value:
        return value
    return f'about {value} ({low} to {high})'


def _rough(number: float) -> float:
    """Two digits of a number above a hundred: more would promise what bins cannot hold."""
    return float(f'{number:.2g}') if number >= 100 else number


def _area(square_metres: float) -> str:
    """In the unit that suits: m², ha or km²."""
    for size, unit in ((1e6, 'km²'), (1e4, 'ha')):
        if square_metres >= size:
            number = square_metres / size
            return f'{number:,.3g} {unit}' if number < 100 else f'{number:,.0f} {unit}'
    return f'{square_metres:,.0f} m²'
