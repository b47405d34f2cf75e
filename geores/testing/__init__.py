"""Checks that authors of datasets, tasks and bundles run in their own tests.

Each raises an `AssertionError` whose message says what is broken and what to do about it.

>>> from geores.testing import check_bundle
>>> check_bundle('my-bundle')  # doctest: +SKIP
"""

from geores.testing.checks import check_bundle
from geores.testing.training import check_dataset, check_task

__all__ = ['check_bundle', 'check_dataset', 'check_task']
