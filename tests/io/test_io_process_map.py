"""Results come in the order of the items, from however many processes."""

import operator
import os

import pytest

from geores.errors import GeoresError
from geores.io.process_map import ProcessMap, ordered_map

# What other processes call has to be importable there, which this module need not be.


@pytest.mark.parametrize('jobs', [1, 2])
def test_results_come_in_order(jobs):
    assert list(ordered_map(operator.neg, range(50), jobs)) == [-number for number in range(50)]


def test_this_process_helps(monkeypatch):
    given = []

    def room(self, waiting):
        given.append(len(given) % 2 == 0)
        return given[-1]

    monkeypatch.setattr(ProcessMap, '_room', room)
    with ProcessMap(100, 2, helping=True) as processes:
        assert list(processes.map(operator.add, range(10))) == list(range(100, 110))
    assert given.count(True) == given.count(False) == 5


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered_map(operator.neg, items(), 1)
    assert next(results) == 0
    assert taken == [0]
    results.close()


def test_a_process_that_dies_is_said():
    with pytest.raises(GeoresError, match='a worker process died'):
        list(ordered_map(os._exit, range(4), 2))
