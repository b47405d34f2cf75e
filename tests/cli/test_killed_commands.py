"""Commands that are killed at random points end as if left alone: a few kills of `benchmarks/kills.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'benchmarks' / 'kills.py'
COMMANDS = ['tiles', 'pixels', 'over', 'ask', 'train', 'LMDB', 'TIFF', 'questions']


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS)
def test_killed_twice(tmp_path, command):
    """A process of its own, without the threads of the tests before, which could not be forked."""
    environment = os.environ | {'OMP_NUM_THREADS': '1', 'TMPDIR': str(tmp_path)}
    done = subprocess.run(
        [sys.executable, '-P', '-W', 'ignore', SCRIPT, '--kills', '2', '--jobs', command],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'the same bytes' in done.stdout
