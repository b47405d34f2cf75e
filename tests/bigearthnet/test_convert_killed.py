"""A conversion that is killed and started again ends with the bytes of one that was left alone."""

import subprocess
import sys

import pytest

from ..fixtures import hold_files
from ..reben_fixtures import make_reben

SCRIPT = """
import os, signal, sys
from pathlib import Path
import geores.bundle, rasterio  # before the forks, not in every child again
from geores.bigearthnet import writers
from geores.bigearthnet.convert import convert_reben

writers.CHUNK = 3
form, source, folder, kills = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])

def convert(out, last, count):
    # What Python does to files is counted, not time: a busy machine changes nothing.
    seen = 0

    def watch(event, arguments):
        nonlocal seen
        if event == 'open' or event.startswith('os.'):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        try:
            sys.addaudithook(watch)
            convert_reben(source, out, form)
            count.write_text(str(seen))
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]

count = folder / 'count.txt'
assert convert(folder / 'whole', 0, count) == 0
events = int(count.read_text())
begun = 0
for number in range(kills):
    out = folder / str(number)
    assert convert(out, 1 + events * number // kills, count) == signal.SIGKILL
    begun += (folder / f'.{number}.partial').exists() and not out.exists()
    if not out.exists():
        assert convert(out, 0, count) == 0
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
