"""A conversion that is killed and started again ends with the bytes of one that was left alone."""

import subprocess
import sys

import pytest

from ..fixtures import hold_files
from ..reben_fixtures import make_reben

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import geores.bundle, rasterio  # before the forks, not in every child again
from geores.bigearthnet import writers
from geores.bigearthnet.convert import convert_reben

writers.CHUNK = 3
form, source, folder, kills = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])

def start(out):
    child = os.fork()
    if not child:
        try:
            convert_reben(source, out, form, progress=lambda done, total: time.sleep(0.01))
            os._exit(0)
        finally:
            os._exit(1)
    return child

began = time.perf_counter()
assert os.waitpid(start(folder / 'whole'), 0)[1] == 0
took = time.perf_counter() - began
begun = 0
for number in range(kills):
    child = start(folder / str(number))
    time.sleep(took * (number + 0.7) / kills)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    begun += (folder / f'.{number}.partial').exists() and not (folder / str(number)).exists()
    if not (folder / str(number)).exists():
        assert os.waitpid(start(folder / str(number)), 0)[1] == 0
assert begun >= kills // 3, begun
"""


@pytest.mark.slow
@pytest.mark.parametrize('form', ['lmdb', 'tiff'])
def test_killed_at_any_point(tmp_path, form):
    make_reben(tmp_path / 'src', count=7)
    out = tmp_path / 'out'
    out.mkdir()
    subprocess.run([sys.executable, '-c', SCRIPT, form, tmp_path / 'src', out, '8'], check=True, cwd=tmp_path)
    for number in range(8):
        assert hold_files(out / str(number)) == hold_files(out / 'whole')
        for name in hold_files(out / 'whole'):
            assert (out / str(number) / name).read_bytes() == (out / 'whole' / name).read_bytes(), name
