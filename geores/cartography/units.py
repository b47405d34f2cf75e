"""Areas, lengths and shares as they are said to people."""

__all__ = ['say_area', 'say_length', 'say_share']


def say_area(area: float, unit: str = 'm2') -> str:
    """An area with three figures that count: km² from one on, ha from a tenth on, else m².

    Args:
        area: In ``unit``.
        unit: 'm2', or 'pixel' where there is no CRS.

    Examples:
        >>> say_area(117_964_800), say_area(51_200), say_area(90)
        ('118 km²', '5.12 ha', '90 m²')
        >>> say_area(1_234_567, 'pixel')
        '1,234,567 px'
    """
    if unit != 'm2':
        return f'{area:,.0f} px'
    if area >= 1e6:
        return f'{_figures(area / 1e6)} km²'
    return f'{_figures(area / 1e4)} ha' if area >= 1e3 else f'{_figures(area)} m²'


def say_length(metres: float) -> str:
    """A length in m, or in km from one on.

    Examples:
        >>> say_length(2000), say_length(500)
        ('2 km', '500 m')
    """
    return f'{metres / 1000:g} km' if metres >= 1000 else f'{metres:g} m'


def say_share(share: float) -> str:
    """A share in percent; what is there but rounds to nothing is said so.

    Examples:
        >>> say_share(0.0721), say_share(0.0002), say_share(0.0)
        ('7.2 %', '< 0.1 %', '0 %')
    """
    if 0 < share < 0.0005:
        return '< 0.1 %'
    return f'{100 * share:.1f} %' if share else '0 %'


def _figures(value: float) -> str:
    """Three figures that count, all digits of what is before the point."""
    if value == 0:
        return '0'
    places = max(0, 3 - len(str(int(value)))) if value >= 1 else 2
    text = f'{value:,.{places}f}'
    return text.rstrip('0').rstrip('.') if '.' in text else text
