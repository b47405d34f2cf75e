"""One scene by several machines: its shards are merged to the results, and dask workers compute them.

All workers have to see the scenes and the folder of results under the same paths. A worker that is lost costs
its shard: another one continues what it left in the journal.
"""

import json
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

from geores.classification.classify import SceneOutcome, classify_many, model_for, open_scenes
from geores.classification.earlier_runs import finished_scenes
from geores.classification.options import ClassifyOptions
from geores.classification.outputs import check_folder
from geores.classification.result import Result
from geores.classification.scene_result import RunInfo
from geores.classification.shards import Command, Shard, read_commands
from geores.classification.steps import explain_empty_result, make_result
from geores.errors import GeoresError, JournalError, OutputError, UsageError, import_extra
from geores.inference.prepared import PreparedScene, SceneWork, prepare_scene
from geores.inference.reader import Arrays, FolderStore
from geores.io.journal import differing, read_key
from geores.scenes import Scene, gdal_env, open_scene

if TYPE_CHECKING:
    from geores.model import Model

__all__ = ['classify_on_dask', 'merge']

OF_MACHINE = frozenset({'device', 'precision', 'runtime', 'instructions', 'gpu', 'cudnn'})
"""Parts of the key that say on what a shard was computed."""


def merge(
    folder: str | Path, *, overwrite: bool = False, mixed: bool = False
) -> Generator[SceneOutcome, None, None]:
    """Write the results of scenes whose shards lie in a folder, and remove the shards.

    Nothing is computed: the scenes' headers and a sample of their pixels are read, no network runs.

    Args:
        folder: of the results, in which all shards lie, computed or copied there.
        overwrite: whether to replace results in it.
        mixed: whether shards may have been computed on different kinds of machines, so that their
            answers are near to, but not the same as, those of one run.

    Returns:
        A generator of one outcome per scene, in their order; after the last one it raises `GeoresError` where
        scenes failed. An error of the only scene is raised at once.

    Raises:
        UsageError: if the folder holds no shards, shards of different runs, or not all; nothing was written.
    """
    place = Path(folder)
    shards, command = _one_command(place)
    wanted = ClassifyOptions.from_options(command.options)
    scenes = _open(command)
    names = [scene.name for scene in scenes]
    lying = {
        scene.name: [shard for shard in shards if shard.work_folder(place, scene.name).is_dir()]
        for scene in scenes
    }
    done = {} if overwrite else finished_scenes(place, [name for name in names if not lying[name]])
    check_folder(place, [name for name in names if name not in done], overwrite=overwrite)

    # A generator of its own: the checks above are made at once, not when the first outcome is asked for.
    def outcomes() -> Generator[SceneOutcome, None, None]:
        held: dict[str, Model] = {}
        failed = []
        for scene in scenes:
            if scene.name in done:
                yield SceneOutcome(scene.name, earlier=done[scene.name])
                continue
            try:
                model, _ = model_for(scene, command.model, 'cpu', held)
                with scene, _merged(scene, model, wanted, place, lying[scene.name], shards, mixed) as result:
                    yield SceneOutcome(scene.name, result)
            except GeoresError as error:
                if len(scenes) == 1:
                    raise
                failed.append(scene.name)
                yield SceneOutcome(scene.name, error=error)
        if failed:
            raise GeoresError(f'{len(failed)} of {len(scenes)} scenes failed: {", ".join(failed)}')
        for shard in shards:
            shard.command_file(place).unlink(missing_ok=True)

    return outcomes()


def _one_command(folder: Path) -> tuple[list[Shard], Command]:
    """All shards that there should be, and what they were asked for."""
    commands = read_commands(folder)
    if not commands:
        raise UsageError(
            f'{folder} holds no shards: geores classify --shard I/N --out {folder} computes them'
        )
    first, *others = commands
    for other in others:
        differs = commands[first].differences(commands[other]) if other.count == first.count else ['N']
        if differs:
            raise UsageError(
                f'shards {first} and {other} in {folder} are of runs with another {", ".join(differs)}: '
                'run one of them again with --overwrite'
            )
    return [Shard(number, first.count) for number in range(1, first.count + 1)], commands[first]


def _open(command: Command) -> list[Scene]:
    """Open the scenes of a command as its shards did."""
    opening, paths = command.opening, [path for one in command.scenes for path in _listed(one)]
    missing = [path for path in paths if '://' not in path and not Path(path).exists()]
    if missing and command.folder != str(Path.cwd()):
        raise UsageError(
            f'{missing[0]} is not here: merge in {command.folder}, where the shards were computed'
        )
    vrt = opening['allow_vrt']
    beside = [open_scene(one['paths'], bands=one['bands'], allow_vrt=vrt) for one in command.beside]
    return open_scenes(command.scenes, beside, **opening)


def _listed(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else paths


@contextmanager
def _merged(
    scene: Scene,
    model: 'Model',
    options: ClassifyOptions,
    folder: Path,
    lying: Sequence[Shard],
    shards: Sequence[Shard],
    mixed: bool,
) -> Iterator[Result]:
    """Write the files of a scene from its shards, which are removed at the end of the block."""
    keys = {shard: read_key(shard.work_folder(folder, scene.name)) or {} for shard in lying}
    if not keys:
        raise OutputError(f'{scene.name}: no shard has work of it in {folder}: {_again(shards)}')
    alone = {shard: {name: key[name] for name in key if name != 'shard'} for shard, key in keys.items()}
    first = next(iter(alone))
    _refuse_mixture(scene.name, alone, mixed=mixed)
    prepared = prepare_scene(scene, model.card, options, device=str(alone[first].get('device', 'cpu')))
    _refuse_other(scene.name, first, alone[first], prepared, model)
    with ExitStack() as stack:
        stores = {
            shard: stack.enter_context(FolderStore(shard.work_folder(folder, scene.name), key))
            for shard, key in keys.items()
        }
        merged = _MergedStore(list(stores.values()))
        _refuse_gaps(scene.name, folder, shards, prepared, merged.done())
        records = [store.records[-1] for store in stores.values() if store.records]
        if not records:
            raise JournalError(f'{folder}: no shard of {scene.name} was finished: {_again(shards)}')
        info = RunInfo(
            records[0]['device'],
            records[0]['precision'],
            sum(record['seconds'] for record in records),
            sum(record['tiles'] for record in records),
            options.given(),
            alone[first],
            (*records[0]['notes'], *_mixture_note(alone)),
        )
        work = SceneWork(prepared, _cannot_compute, (), info.device, {})
        result = make_result(work, options, merged, info)
        with gdal_env():
            note = explain_empty_result(prepared, result.valid_share, options.min_valid)
        if note is not None:
            result = replace(result, info=replace(info, notes=(*info.notes, note)))
        result.save(folder, overwrite=True)
        yield result
        for store in stores.values():
            store.remove()


class _MergedStore:
    """The chunks of several stores as one."""

    def __init__(self, stores: Sequence[FolderStore]) -> None:
        self._holders = {index: store for store in stores for index in store.done()}

    def done(self) -> set[int]:
        """List the indices of the chunks that are finished."""
        return set(self._holders)

    def put(self, index: int, arrays: Arrays) -> None:
        """Refuse: nothing is computed here."""
        _cannot_compute(arrays)

    def get(self, index: int) -> Arrays:
        """Give a finished chunk."""
        return self._holders[index].get(index)


def _cannot_compute(found: object) -> Never:
    """Stand in for the step of the engine, and for what would keep its results."""
    raise UsageError('this was not kept by the shards, and merging computes nothing')


def _differing(keys: Mapping[Shard, Mapping[str, Any]]) -> tuple[list[str], Shard | None]:
    """Names of what differs between shards, and one that differs from the first."""
    first, *others = keys
    for other in others:
        if names := differing(keys[first], keys[other]):
            return names, other
    return [], None


def _refuse_mixture(name: str, keys: Mapping[Shard, Mapping[str, Any]], *, mixed: bool) -> None:
    differs, other = _differing(keys)
    if not differs:
        return
    found = f'shards {next(iter(keys))} and {other} of {name} differ in {", ".join(differs)}'
    if not set(differs) <= OF_MACHINE:
        raise JournalError(f'{found}: run one of them again with --overwrite')
    if not mixed:
        raise JournalError(
            f'{found}, so that the result is not that of one run: give --mixed to merge them nonetheless, or '
            'run them with one --device, --precision and --runtime on machines of one kind'
        )


def _mixture_note(keys: Mapping[Shard, Mapping[str, Any]]) -> tuple[str, ...]:
    differs, _ = _differing(keys)
    return (f'computed by shards of different {", ".join(differs)}',) if differs else ()


def _refuse_other(
    name: str, shard: Shard, key: Mapping[str, Any], prepared: PreparedScene, model: 'Model'
) -> None:
    """Refuse shards of another scene, model or version than what is found now."""
    known = json.loads(json.dumps(prepared.key | {'model': model.sha256}))
    differs = sorted(part for part, value in known.items() if key.get(part) != value)
    if differs:
        raise JournalError(
            f'shard {shard} of {name} was computed with another {", ".join(differs)}: run the shards again '
            'with --overwrite'
        )


def _refuse_gaps(
    name: str, folder: Path, shards: Sequence[Shard], prepared: PreparedScene, done: set[int]
) -> None:
    """Name the shards that are lost or not finished."""
    gaps, said = [], []
    for shard in shards:
        chunks = shard.chunks(name, len(prepared.plan))
        have = len(done.intersection(chunks))
        if have < len(chunks):
            gaps.append(shard)
            said.append(f'shard {shard} has {have} of {len(chunks)} chunks')
    if gaps:
        raise OutputError(f'{name}: in {folder} {", ".join(said)}: {_again(gaps)}')


def _again(shards: Sequence[Shard]) -> str:
    asked = ' and with '.join(f'--shard {shard}' for shard in shards)
    return f'run the same command with {asked}, and merge then'


SHARDS_A_WORKER = 4
"""So that quick workers do more of them, and a lost one costs little."""

WAIT = 30
"""Seconds in which a scheduler has to answer, and a worker to be there."""

_logger = logging.getLogger(__name__)


def classify_on_dask(
    cluster: Any,  # noqa: ANN401 - an address or a `distributed.Client`
    scenes: list[str],
    model: str = 'auto',
    *,
    out: Path,
    **how: Any,  # noqa: ANN401 - checked by name and value
) -> Generator[SceneOutcome, None, None]:
    """Classify scenes on a cluster of dask.

    Args:
        cluster: address of its scheduler, or a client of it.
        scenes: paths, as all workers see them.
        model: name or path.
        out: folder for the results, as all workers see it.
        **how: as `geores.classify_many` takes it; `shard` and `watch` not.

    Returns:
        A generator of one outcome per scene, as `geores.merge` gives them.

    Raises:
        UsageError: if there is no such cluster, or it has no workers.
        GeoresError: if a shard failed; what is computed is kept.
    """
    distributed = import_extra('distributed')
    try:
        owned = isinstance(cluster, str)
        client = distributed.Client(cluster, timeout=WAIT, set_as_default=False) if owned else cluster
    except (OSError, ValueError) as error:
        raise UsageError(f'no scheduler of dask answers at {cluster}: {error}') from error
    with client if owned else nullcontext():
        try:
            client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError as error:
            raise UsageError(f'the cluster of dask at {cluster} has no workers') from error
        # Another number of workers than before continues the shards that there are.
        held = {} if how.get('overwrite') else read_commands(out)
        count = next(iter(held)).count if held else SHARDS_A_WORKER * len(client.scheduler_info()['workers'])
        shards = [f'{number}/{count}' for number in range(1, count + 1)]
        futures = client.map(_compute, shards, scenes=scenes, model=model, out=out, how=how, pure=False)
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                shard, tiles = future.result()
                _logger.info(f'shard {shard} is done: {tiles:,} tiles')
        except distributed.scheduler.KilledWorker as error:
            raise UsageError(f'workers of dask were lost again and again: {error}') from error
        finally:
            client.cancel(futures)
    yield from merge(out, overwrite=bool(how.get('overwrite')))


def _compute(shard: str, scenes: list[str], model: str, out: Path, how: dict[str, Any]) -> tuple[str, int]:
    """Compute a shard, on a worker."""
    outcomes = classify_many(scenes, model, out=out, shard=shard, **how)
    return shard, sum(outcome.share.tiles for outcome in outcomes if outcome.share is not None)
