"""Fixtures that tests of the command line share, and what every test begins with."""

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from .fixtures import bundle, geores, one_thread

__all__ = ['bundle', 'geores', 'one_thread']

# A busy machine decides nothing. `suite` tries the same examples every time, so that a change is blamed for
# what it did alone; `--hypothesis-profile=search` draws new ones.
_ANY_MACHINE = {'deadline': None, 'print_blob': True, 'suppress_health_check': [HealthCheck.too_slow]}
settings.register_profile('suite', derandomize=True, **_ANY_MACHINE)
settings.register_profile('search', derandomize=False, **_ANY_MACHINE)
settings.load_profile('suite')


def pytest_configure(config):
    # rasterio and rioxarray multiply transforms in a way that affine 3 is about to deprecate.
    config.addinivalue_line('filterwarnings', 'ignore:Use `@` matmul:PendingDeprecationWarning')
    # Which runtime is fastest is for the tests of that; converting every tiny network would take minutes.
    os.environ.setdefault('GEORES_RUNTIME', 'torch')
    if 'GEORES_CACHE' not in os.environ:
        folder = os.environ['GEORES_CACHE'] = tempfile.mkdtemp(prefix='geores-cache-')
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    if hasattr(config, 'workerinput'):  # a process of several, which has a cache of its own
        os.environ['GEORES_CACHE'] = str(Path(os.environ['GEORES_CACHE'], config.workerinput['workerid']))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """What a test draws without a seed of its own does not depend on the tests before it.

    Nor does what it trains: Lightning remembers the last seed, from which later trainings would start.
    """
    for name in ('PL_GLOBAL_SEED', 'PL_SEED_WORKERS', 'GEORES_CHECKPOINT'):
        os.environ.pop(name, None)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - that is what libraries draw from
    if 'torch' in sys.modules:
        sys.modules['torch'].manual_seed(0)
