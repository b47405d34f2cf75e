"""Classify scenes: from rasters of any size to scores, tables, maps and shares of area."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from geores.classification.earlier_runs import DONE, finished_scenes, refuse_other_run
from geores.classification.options import ClassifyOptions
from geores.classification.outputs import check_folder, work_folder
from geores.classification.result import Result
from geores.classification.scored import check_classifies, choose_model
from geores.classification.shards import Command, Shard, classify_share
from geores.classification.steps import known_key, layout_for, prepare_classification
from geores.errors import GeoresError, UsageError
from geores.inference.prepared import Progress, RunTime
from geores.inference.reader import MemoryStore
from geores.options import takes
from geores.scenes import Scene, Source, merge_scenes, open_scene

if TYPE_CHECKING:
    from geores.model import Model

__all__ = ['SceneOutcome', 'classified_into', 'classify', 'classify_many', 'model_for', 'open_scenes']

Watch: TypeAlias = Callable[[str, Path], AbstractContextManager[Progress | None]]


@takes(ClassifyOptions)
def classify(
    scene: Source | Scene,
    model: 'str | Path | Model' = 'auto',
    *,
    bands: Sequence[str] | None = None,
    allow_vrt: bool = False,
    sensor: str | None = None,
    offset: str | float = 'auto',
    out: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - checked by name and value
) -> Result:
    """Classify a scene of any size.

    Args:
        scene: a path, several paths of one place (Sentinel-1 beside Sentinel-2), an
            `xarray.DataArray`, or an open `Scene`.
        model: name or path of a bundle, a loaded `Model`, or 'auto': of the models that ship the one that
            suits the scene's bands and pixel size.
        bands: names of the bands in file order, where the file does not say.
        allow_vrt: whether a GDAL virtual raster, which can read other files, may be opened.
        sensor: which sensor the scene is of, where that is not to be decided from it: see `open_scene`.
        offset: what is to be added to Sentinel-2's digital numbers, 'none' or -1000; 'auto' decides it.
        out: folder for the results; unfinished work is kept there too, so that a killed run continues.
            Without it everything stays in memory, and a dask-backed scene is computed only when
            something of the result is asked for.
        resume: whether to continue unfinished work in `out`.
        overwrite: whether to replace results in `out`.
        progress: called with the number of tiles just finished, and of all.
        **options: options of `ClassifyOptions`.

    Returns:
        The result; with `out`, its files are written too. Where the same run was done before and its
        files stand, they are left as they are, and the result is computed when something of it is asked for.

    Raises:
        UsageError: if something given cannot be used; nothing was written.
        ReadError: if the scene could not be read to the end; finished work is kept in `out`.
        WriteError: if the results could not be written; finished work is kept too.
    """
    wanted = ClassifyOptions.from_options(options)
    if not isinstance(scene, Scene):
        scene = open_scene(scene, bands=bands, allow_vrt=allow_vrt, sensor=sensor, offset=offset)
    loaded, why = model_for(scene, model, wanted.device)
    if out is None:
        work = prepare_classification(scene, loaded, wanted, notes=why)
        return work.defer() if scene.is_lazy else work.run(MemoryStore(), progress)
    before = {} if overwrite else finished_scenes(Path(out), [scene.name])
    if before:
        key = known_key(scene, loaded, wanted, layout_for(scene, loaded.card, wanted))
        refuse_other_run(Path(out), scene.name, before[scene.name], key, wanted)
        result = prepare_classification(scene, loaded, wanted, notes=why).defer()
        note = f'{DONE}: files in {out} stand, and this is computed again when something of it is asked for'
        return replace(result, info=replace(result.info, notes=(*result.info.notes, note)))
    check_folder(Path(out), [scene.name], overwrite=overwrite)
    with classified_into(
        scene, loaded, wanted, Path(out), notes=why, resume=resume, overwrite=overwrite, progress=progress
    ) as result:
        return replace(result, store=MemoryStore.copy_of(result.store))


@dataclass(frozen=True)
class SceneOutcome:
    """What became of one of several scenes: exactly one of the others is set.

    Attributes:
        name: of the scene.
        result: of this run, whose files are written. It reads from the journal of the run, which is removed
            when the next outcome is asked for: take what is needed of it before.
        earlier: entry of the record, where the same run was done before and its files stand.
        error: why the scene could not be classified.
        share: time and tiles of a shard, whose work is kept for `geores.merge`.
    """

    name: str
    result: Result | None = None
    earlier: Mapping[str, Any] | None = None
    error: GeoresError | None = None
    share: RunTime | None = None


@takes(ClassifyOptions)
def classify_many(
    scenes: Sequence[Source | Scene],
    model: 'str | Path | Model' = 'auto',
    *,
    out: str | Path,
    beside: Sequence[Source | Scene] = (),
    bands: Sequence[str] | None = None,
    allow_vrt: bool = False,
    sensor: str | None = None,
    offset: str | float = 'auto',
    resume: bool = True,
    overwrite: bool = False,
    shard: str | Shard | None = None,
    watch: Watch | None = None,
    **options: Any,  # noqa: ANN401 - checked by name and value
) -> Generator[SceneOutcome, None, None]:
    """Classify several scenes, one after the other, into one folder.

    All scenes are checked from their headers before the first is classified, and each model is loaded once.
    A scene that fails later does not stop the others.

    Args:
        scenes: as `classify` takes one each; their names must differ, since files are named after them.
        model: as in `classify`; 'auto' chooses for each scene.
        out: folder for the results and for unfinished work.
        beside: further sources of the same place as every scene, such as Sentinel-1.
        bands: names of the bands of each scene in file order, where the files do not say.
        allow_vrt: as in `classify`.
        sensor: as in `classify`, of each scene; sources beside them are decided from what they are.
        offset: as in `classify`.
        resume: as in `classify`.
        overwrite: as in `classify`.
        shard: 'I/N', the share of the work that is done here, I from 1 to N; what is computed waits in `out`
            for `geores.merge`. Scenes and model have to be paths or names.
        watch: given the name of a scene and the folder of its unfinished work, a context manager that is
            open while the scene is classified, and gives what is called with its progress.
        **options: options of `ClassifyOptions`.

    Returns:
        A generator of one outcome per scene, in their order; a scene is classified when its outcome is
        asked for. After the last one it raises `GeoresError` where scenes failed. An error of the only scene,
        or a `UsageError` of the first, is raised at once.

    Raises:
        UsageError: if something given cannot be used; nothing was written.

    Examples:
        >>> for outcome in geores.classify_many(['a.tif', 'b.tif'], out='maps'):  # doctest: +SKIP
        ...     print(outcome.name, outcome.error or outcome.result.shares)
    """
    wanted, folder = ClassifyOptions.from_options(options), Path(out)
    opened = open_scenes(scenes, beside, bands=bands, allow_vrt=allow_vrt, sensor=sensor, offset=offset)
    names = [scene.name for scene in opened]
    done = {} if overwrite else finished_scenes(folder, names)
    check_folder(folder, [name for name in names if name not in done], overwrite=overwrite)
    held: dict[str, Model] = {}
    jobs = [(scene, *model_for(scene, model, wanted.device, held)) for scene in opened]
    for scene, loaded, _ in jobs:
        key = known_key(scene, loaded, wanted, layout_for(scene, loaded.card, wanted))
        if scene.name in done:
            refuse_other_run(folder, scene.name, done[scene.name], key, wanted)
    part = None if shard is None else Shard.parse(shard)
    if part is not None:
        opening: dict[str, Any] = {'bands': None if bands is None else list(bands)}
        opening |= {'allow_vrt': allow_vrt, 'sensor': sensor, 'offset': offset}
        command = Command.of(scenes, beside, model, opening, wanted)
        command.keep(part, folder, overwrite=overwrite)

    # A generator of its own: the checks above are made at once, not when the first outcome is asked for.
    def outcomes() -> Generator[SceneOutcome, None, None]:
        failed = []
        for number, (scene, loaded, why) in enumerate(jobs):
            if scene.name in done:
                yield SceneOutcome(scene.name, earlier=done[scene.name])
                continue
            place = (work_folder if part is None else part.work_folder)(folder, scene.name)
            watched = nullcontext(None) if watch is None else watch(scene.name, place)
            how: Any = {'notes': why, 'resume': resume, 'overwrite': overwrite}
            try:
                with scene, watched as progress:
                    how['progress'] = progress
                    if part is not None:
                        took = classify_share(scene, loaded, wanted, folder, part, **how)
                        yield SceneOutcome(scene.name, share=took)
                        continue
                    with classified_into(scene, loaded, wanted, folder, **how) as result:
                        yield SceneOutcome(scene.name, result)
            except GeoresError as error:
                # A UsageError says that nothing was written, which holds for the first scene only.
                if len(jobs) == 1 or (number == 0 and isinstance(error, UsageError)):
                    raise
                failed.append(scene.name)
                yield SceneOutcome(scene.name, error=error)
        if failed:
            raise GeoresError(f'{len(failed)} of {len(jobs)} scenes failed: {", ".join(failed)}')

    return outcomes()


def open_scenes(
    sources: Sequence[Source | Scene],
    beside: Sequence[Source | Scene],
    *,
    bands: Sequence[str] | None,
    allow_vrt: bool,
    sensor: str | None,
    offset: str | float,
) -> list[Scene]:
    """Open every scene, merged with the sources beside it; `classify_many` describes the arguments.

    Raises:
        UsageError: if two scenes have one name.
    """
    others = [one if isinstance(one, Scene) else open_scene(one, allow_vrt=allow_vrt) for one in beside]
    opened: dict[str, Scene] = {}
    for source in sources:
        scene = (
            source
            if isinstance(source, Scene)
            else open_scene(source, bands=bands, allow_vrt=allow_vrt, sensor=sensor, offset=offset)
        )
        scene = merge_scenes([scene, *others]) if others else scene
        if scene.name in opened:
            given = source if isinstance(source, str | Path) else 'a scene'
            raise UsageError(
                f'{given} and another scene are both named {scene.name!r}: classify them into '
                'folders of their own'
            )
        opened[scene.name] = scene
    return list(opened.values())


@contextmanager
def classified_into(
    scene: Scene,
    model: 'Model',
    options: ClassifyOptions,
    folder: Path,
    *,
    notes: tuple[str, ...] = (),
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Classify a scene and write its files, replacing those of an earlier run.

    The result reads from the journal of the run, which is removed at the end of the block, so that memory
    does not grow with the scene. `classify` describes what is raised.

    Args:
        scene: the scene.
        model: on its device.
        options: of the user.
        folder: for the results.
        notes: that come first, such as why the model was chosen.
        resume: whether to continue unfinished work in the folder.
        overwrite: whether to drop unfinished work of another run.
        progress: called with the number of tiles just finished, and of all.
    """
    work = prepare_classification(scene, model, options, notes=notes)
    place = work_folder(folder, scene.name)
    with work.work.open_store(place, resume=resume, overwrite=overwrite) as store:
        result = work.run(store, progress)
        result.save(folder, overwrite=True)
        try:
            yield result
        finally:
            store.remove()


def model_for(
    scene: Scene, model: 'str | Path | Model', device: str, held: 'dict[str, Model] | None' = None
) -> tuple['Model', tuple[str, ...]]:
    """The model for a scene, on its device, and a note where it was chosen automatically.

    Args:
        scene: to classify.
        model: a loaded model, its name or path, or 'auto'.
        device: as the options name it.
        held: models by name or path that were loaded for other scenes; this one is added.

    Raises:
        UsageError: if the model answers questions and does not classify.
    """
    from geores.bundle import load_model
    from geores.model import Model
    from geores.runtime.base import pick_devices

    if isinstance(model, Model):
        check_classifies(model.card)
        return model, ()
    why: tuple[str, ...] = ()
    name, held = str(model), {} if held is None else held
    if model == 'auto':
        card, reason = choose_model(scene)
        name, why = card.name, (reason,)
    if name not in held:
        held[name] = load_model(name, pick_devices(device)[0])
    check_classifies(held[name].card)
    return held[name], why
