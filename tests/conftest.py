"""Fixtures that tests of the command line share, and what every test ignores."""

import os
import tempfile

from .fixtures import bundle, geores, one_thread

__all__ = ['bundle', 'geores', 'one_thread']


def pytest_configure(config):
    # rasterio and rioxarray multiply transforms in a way that affine 3 is about to deprecate.
    config.addinivalue_line('filterwarnings', 'ignore:Use `@` matmul:PendingDeprecationWarning')
    # Which runtime is fastest is for the tests of that; converting every tiny network would take minutes.
    os.environ.setdefault('GEORES_RUNTIME', 'torch')
    os.environ.setdefault('GEORES_CACHE', tempfile.mkdtemp(prefix='geores-cache-'))
