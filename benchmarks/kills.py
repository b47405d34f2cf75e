"""Commands that are killed at random points and given again: do they end as one that was left alone?

    python benchmarks/kills.py [--kills 100] [--jobs tiles pixels ...] [--seed 0]

Makes small inputs and models of random weights. Each command runs undisturbed; then it is killed by SIGKILL
at a random moment, half of the time while it writes its results, sometimes twice, and given again. At each
kill all files under final names have to be those of the undisturbed run, byte for byte, or not there; at the
end they all have to be there and nothing else. Of `run.json` the time that was taken and the tiles of the
last run are left out. A run that refuses to go on has to say so on one line, and to end with the same bytes
when it is begun anew (`--no-resume --overwrite`). Prints a table, and ends with 1 where anything differs.
"""

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

# Fixed before GDAL is loaded: a GeoPackage holds the time at which it was written.
os.environ['OGR_CURRENT_DATE'] = '2026-01-01T00:00:00.000Z'

VOLATILE = ('seconds', 'tiles_of_this_run')
MODULES = 'modules.txt'
ANEW = ('--no-resume', '--overwrite')


def _writes(where: Path) -> bool:
    """Whether a command writes under a hidden name somewhere in a folder, which may change meanwhile."""
    for _, folders, files in os.walk(where):  # leaves out folders that are gone
        if any(name.startswith('.') and name.endswith('.writing') for name in (*folders, *files)):
            return True
    return False


@dataclass
class Job:
    """A command, and what counts as its result.

    Attributes:
        name: for the table.
        args: of the command line; results go to `results`.
        results: folder of final names, in the folder in which the command is given.
        anew: options that begin anew.
        before: arguments of a command whose results stand there at the beginning.
        main: file that stands only where all others are of the same run.
    """

    name: str
    args: list[str]
    results: str = 'out'
    anew: tuple[str, ...] = ANEW
    before: list[str] = field(default_factory=list)
    main: str = ''


def fixtures(name: str) -> Any:  # noqa: ANN401 - a module
    """Import a module of tests/, which is no package that is installed."""
    tests = sys.modules.get('tests')
    if tests is None or str(Path(__file__).parents[1]) not in str(getattr(tests, '__path__', '')):
        sys.modules['tests'] = tests = ModuleType('tests')
        tests.__path__ = [str(Path(__file__).parents[1] / 'tests')]
    return importlib.import_module(f'tests.{name}')


def make_jobs(folder: Path, wanted: list[str]) -> list[Job]:
    """Make inputs and models, and the commands on them."""
    from geores import save_bundle
    from geores.bigearthnet import writers as workers

    workers.CHUNK = 2  # patches; 128 would be all of them
    basic, osm = fixtures('fixtures'), fixtures('osm_fixtures')
    pixels, ask = fixtures('pixel_fixtures'), fixtures('ask_fixtures')
    surviving = fixtures('surviving_fixtures')
    scene = str(
        basic.write_scene(folder / 'scene.tif', height=1100, width=1300, compress='deflate', blocks=256)
    )
    first, other = (
        str(basic.tiny_bundle(folder / name, seed=seed)) for seed, name in enumerate(('one', 'two'))
    )
    by_pixel = str(save_bundle(folder / 'pixels', pixels.pixel_network(), pixels.pixel_card('pixels')))
    asked = str(ask.oracle_bundle(folder / 'oracle'))
    place = folder / 'training'
    surviving.write_images(place / 'images')
    fixtures('reben_fixtures').make_reben(folder / 'reben', count=9)
    osm.write_scene(folder / 'place.tif')
    osm.objects().to_file(folder / 'osm.gpkg')
    # The fastest runtime is measured, and a busy machine may find another one: that is another result.
    steady = ['--workers', '1', '--runtime', 'torch']
    tiles = ['classify', scene, '--model', first, '--out', 'out', '--stride', '16', *steady]
    by_other = ['classify', scene, '--model', other, *tiles[4:]]
    questions = [
        'Is there a water area?',
        'How many forests are there?',
        'Are there more forests than buildings?',
    ]
    make = ['questions', 'make', str(folder / 'place.tif'), '--osm', str(folder / 'osm.gpkg'), '--out', 'out']
    make += ['--tile', '64', '--questions', '12', '--block-size', '640', '--buffer', '0', '--jobs', '1']
    convert = ['convert', 'reben', str(folder / 'reben'), 'out', '--jobs', '1', '--format']
    jobs = [
        Job('classify tiles', tiles, main='scene_classes.tif'),
        Job('classify pixels', ['classify', scene, '--model', by_pixel, '--out', 'out', '--polygons', 'gpkg',
                                '--tile', '64', *steady], main='scene_classes.tif'),
        Job('classify over a result', [*tiles, '--overwrite'], before=by_other, main='scene_classes.tif'),
        Job('ask', ['ask', scene, *questions, '--model', asked, '--out', 'out']),
        Job('train', ['train', *surviving.recipe(place), '--checkpoint_steps', '1'],
            'runs/small/version_0/small', ('--no-resume',)),
        Job('convert to LMDB', [*convert, 'lmdb']),
        Job('convert to TIFF', [*convert, 'tiff']),
        Job('questions make', make),
    ]  # fmt: skip
    return [job for job in jobs if not wanted or any(word in job.name for word in wanted)]


class Runner:
    """Runs commands in children of this process, which has imported what they need."""

    def start(self, args: list[str], where: Path, *, note_modules: bool = False) -> int:
        """Start a command in a folder; the id of its process."""
        child = os.fork()
        if child:
            return child
        code = 70
        try:
            log = os.open(where / 'log.txt', os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(where)
            code = self._command(args)
            if note_modules:
                (where / MODULES).write_text('\n'.join(sys.modules))
        except BaseException:  # a child must not go on as its parent
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    @staticmethod
    def _command(args: list[str]) -> int:
        from geores.cli import main

        sys.argv = ['geores', *args]
        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
        return 0

    def finish(self, args: list[str], where: Path, **options: bool) -> tuple[int, str]:
        """Run a command to its end; its exit code and what it printed."""
        _, status = os.waitpid(self.start(args, where, **options), 0)
        return os.waitstatus_to_exitcode(status), (where / 'log.txt').read_text()


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder by name, hidden ones too, without what differs from run to run."""
    found = {}
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            content = path.read_bytes()
            if path.name == 'run.json':
                content = json.dumps(_steady(json.loads(content))).encode()
            found[str(path.relative_to(folder))] = content
    return found


def _steady(record: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(record, dict):
        return record
    return {key: _steady(value) for key, value in record.items() if key not in VOLATILE}


def final(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files under final names: no part of their names is hidden."""
    return {
        name: data for name, data in files.items() if not any(part[0] == '.' for part in Path(name).parts)
    }


class Trials:
    """One command, killed again and again; counts what was found."""

    def __init__(self, job: Job, folder: Path, runner: Runner, draw: np.random.Generator) -> None:
        self.job, self.folder, self.runner, self.draw = job, folder, runner, draw
        self.found: Counter[str] = Counter()
        self.faults: list[str] = []
        self.old: dict[str, bytes] = {}
        self.whole: dict[str, bytes] = {}
        self.seconds = 0.0  # until results are written
        self.writing = 0.0

    def prepare(self) -> None:
        """Run it undisturbed, twice: the first finds out what it imports."""
        where = self._place('first')
        code, said = self.runner.finish(self.job.args, where, note_modules=True)
        if code:
            raise SystemExit(f'{self.job.name}: {said}')
        for name in (where / MODULES).read_text().splitlines():
            _import(name)
        where = self._place('whole')
        began = time.perf_counter()
        child = self.runner.start(self.job.args, where)
        self.seconds = self._until_writing(child, where) - began
        os.waitpid(child, 0)
        self.writing = time.perf_counter() - began - self.seconds
        self.whole = contents(where / self.job.results)
        if self.whole != contents(self.folder / 'first' / self.job.results):
            self.faults.append('two undisturbed runs differ')

    def kill_once(self, number: int) -> int:
        """Kill it once, or twice, and let it finish; the number of kills."""
        where, kills = self._place(str(number)), 0
        while not kills or (kills == 1 and self.draw.random() < 0.25):
            child = self.runner.start(self.job.args, where)
            if self.draw.random() < 0.5:
                time.sleep(self.seconds * self.draw.random())
            else:
                self._until_writing(child, where)
                time.sleep(self.writing * self.draw.random())
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
            self._check_killed(contents(where / self.job.results), number)
        if self.job.before and self.draw.random() < 0.5:
            self._ask_for_the_old(where, number)
        code, said = self.runner.finish(self.job.args, where)
        if code:
            self.found['refused'] += 1
            lines = [line for line in said.splitlines() if line.strip()]
            if (
                'Traceback' in said
                or 'a fault of geores' in said
                or not lines[-1].startswith('geores: error')
            ):
                self.faults.append(f'{number}: no clean refusal: {said[-300:]}')
            code, said = self.runner.finish([*self.job.args, *self.job.anew], where)
        after = contents(where / self.job.results)
        if code or after != self.whole:
            names = sorted({name for name, _ in after.items() ^ self.whole.items()})
            self.faults.append(f'{number}: ends with {code}, {names or said[-300:]} differ')
        else:
            self.found['the same bytes'] += 1
            shutil.rmtree(where)
        return kills

    @staticmethod
    def _until_writing(child: int, where: Path) -> float:
        """Wait until the first result is being written, or a process has ended; the time."""
        while not _writes(where):
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.002)
        return time.perf_counter()

    def _place(self, name: str) -> Path:
        where = self.folder / name
        where.mkdir(parents=True)
        if self.job.before:
            code, said = self.runner.finish(self.job.before, where)
            if code:
                raise SystemExit(said)
            self.old = self.old or contents(where / self.job.results)
        return where

    def _check_killed(self, files: dict[str, bytes], number: int) -> None:
        """Whatever stands under final names is of this run, or what stood there before."""
        files = final(files)
        new = {name for name, data in files.items() if self.whole.get(name) == data}
        old = {name for name, data in files.items() if self.old.get(name) == data}
        wrong = files.keys() - new - old
        if wrong:
            self.faults.append(f'{number}: wrong under final names: {sorted(wrong)}')
        beside = {name for name in files if self.job.main and name.startswith(Path(self.job.main).stem)}
        if self.job.main in beside and not (beside <= new or beside <= old):
            self.faults.append(f'{number}: style and raster of two runs')
        behind = len(new) == len(final(self.whole))
        state = 'before' if files.keys() <= old - new else 'behind' if behind else 'between'
        self.found[f'{state} results'] += 1

    def _ask_for_the_old(self, where: Path, number: int) -> None:
        """The command whose results stood there must not take a mixture for its own."""
        code, _ = self.runner.finish(self.job.before, where)
        self.found['the old one refused' if code else 'the old one goes on'] += 1
        if not code and contents(where / self.job.results) != self.old:
            self.faults.append(f'{number}: the command before takes a mixture for its results')


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:  # some modules are made while running
        sys.modules.pop(name, None)


def shares(kills: int, jobs: int) -> Iterator[int]:
    """Divide a number of kills among commands."""
    for number in range(jobs):
        yield kills * (number + 1) // jobs - kills * number // jobs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument('--jobs', nargs='*', default=[], help='words of their names; all by default')
    parser.add_argument('--seed', type=int, default=0)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)  # a process with threads cannot be forked well
    draw, runner, failed = np.random.default_rng(given.seed), Runner(), False
    with tempfile.TemporaryDirectory(prefix='geores-kills-') as name:
        folder = Path(name).resolve()
        jobs = make_jobs(folder, given.jobs)
        for job, share in zip(jobs, shares(given.kills, len(jobs)), strict=True):
            trials = Trials(job, folder / 'runs' / job.name.replace(' ', '-'), runner, draw)
            trials.prepare()
            done = number = 0
            while done < share:
                done += trials.kill_once(number)
                number += 1
            found = ', '.join(f'{what}: {count}' for what, count in sorted(trials.found.items()))
            print(
                f'{job.name}: {done} kills within {trials.seconds:.1f} + {trials.writing:.1f} s ({found})',
                flush=True,
            )
            for fault in trials.faults:
                print(f'  {fault}', flush=True)
            failed |= bool(trials.faults)
    sys.exit(int(failed))


if __name__ == '__main__':
    main()
