"""What tests of the checks for authors share."""

import pytest


def fails(check, *args, words, remedy=''):
    """A check tells of a broken rule in one line: what is wrong, and what to do."""
    with pytest.raises(AssertionError) as error:
        check(*args)
    message = str(error.value)
    assert words in message
    assert remedy in message
    assert '\n' not in message
