"""Results come in the order of the items, from however many processes."""

import os
import time

import pytest

from geores.errors import GeoresError
from geores.io.process_map import ProcessMap, ordered_map


def double(number):
    return 2 * number


def slow_first(offset, number):
    time.sleep(0.3 if number == 0 else 0.0)
    return offset + number, os.getpid()


def end(number):
    os._exit(1)


@pytest.mark.parametrize('jobs', [1, 2])
def test_results_come_in_order(jobs):
    assert list(ordered_map(double, range(50), jobs)) == [2 * number for number in range(50)]


def test_this_process_goes_on_while_another_is_slow(monkeypatch):
    monkeypatch.setattr(ProcessMap, '_room', lambda self, waiting: len(waiting) % 2 == 0)
    with ProcessMap(100, 2, helping=True) as processes:
        found = list(processes.map(slow_first, range(10)))
    assert [number for number, _ in found] == list(range(100, 110))
    assert len({process for _, process in found}) == 2
    assert os.getpid() in {process for _, process in found}


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered_map(double, items(), 1)
    assert next(results) == 0
    assert taken == [0]
    results.close()


def test_a_process_that_dies_is_said():
    with pytest.raises(GeoresError, match='a worker process died'):
        list(ordered_map(end, range(4), 2))
