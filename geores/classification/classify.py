"""Classify a scene: from a raster of any size to scores, a table, a map and shares of area.

Results that stand already: whether the run that made them is the one that is asked for.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geores.classification.options import ClassifyOptions
from geores.classification.outputs import RUN, check_folder, work_folder
from geores.classification.pixel_map import PixelClassification
from geores.classification.result import Classification
from geores.classification.select import check_classifies, choose_model
from geores.classification.steps import known_key, lay_out, prepare
from geores.errors import OutputError
from geores.inference.store import MemoryStore
from geores.inference.work import Progress
from geores.io.records import read_record
from geores.scenes import Scene, Source, open_scene

if TYPE_CHECKING:
    from geores.model import Model

__all__ = [
    'DONE',
    'as_printed',
    'check_same',
    'classified_into',
    'classify',
    'differences',
    'finished_before',
    'model_for',
]


def classify(
    scene: Source | Scene,
    model: 'str | Path | Model' = 'auto',
    *,
    bands: Sequence[str] | None = None,
    allow_vrt: bool = False,
    out: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - checked by name and value
) -> Classification | PixelClassification:
    """Classify a scene of any size.

    Args:
        scene: a path, several paths of one place (Sentinel-1 beside Sentinel-2), an
            `xarray.DataArray`, or an open `Scene`.
        model: name or path of a bundle, a loaded `Model`, or ``auto``: the one that ships and suits
            the scene's bands and pixel size.
        bands: names of the bands in file order, where the file does not say.
        allow_vrt: whether a GDAL virtual raster, which can read other files, may be opened.
        out: folder for the results; unfinished work is kept there too, so that a killed run continues.
            Without it everything stays in memory, and a dask-backed scene is computed only when
            something of the result is asked for.
        resume: continue unfinished work in ``out``.
        overwrite: replace results in ``out``.
        progress: called as tiles are finished.
        **options: ``tile`` (pixels; the model's input size), ``stride`` (the tile), ``resolution``
            (metres a pixel), ``bbox`` and ``bbox_crs``, ``aoi`` (vector file), ``mask`` (raster whose
            cloud classes, or non-zero pixels, are invalid; the scene's own where it brings one, 'none' leaves
            it) and ``mask_values``, ``clouds`` (whether clouds of Sentinel-2 L1C are looked for and left out:
            extra ``geores[clouds]``), ``min_valid`` (share of valid pixels below which a tile is skipped,
            0.5), ``threshold`` (least score for a label), ``top_k`` (most labels a tile), ``batch_size``,
            ``device``, ``precision``, ``compile``,
            ``workers``, ``max_output`` (bytes), ``linear_s1`` (Sentinel-1's backscatter is calibrated on a
            linear scale instead of in dB), ``atmosphere`` ('auto': dark objects of an L1C scene are
            subtracted for a model of L2A; 'none').

    Returns:
        The result; with ``out``, its files are written too. Where the same run was done before and its
        files stand, they are left as they are, and the result is computed when something of it is asked for.

    Raises:
        UsageError: something given cannot be used; nothing was written.
        ReadError: the scene could not be read to the end; finished work is kept in ``out``.
        WriteError: the results could not be written; likewise.
    """
    wanted = ClassifyOptions.from_options(options)
    if not isinstance(scene, Scene):
        scene = open_scene(scene, bands=bands, allow_vrt=allow_vrt)
    loaded, why = model_for(scene, model, wanted.device)
    if out is None:
        work = prepare(scene, loaded, wanted, notes=why)
        return work.defer() if scene.is_lazy else work.run(MemoryStore(), progress)
    before = {} if overwrite else finished_before(Path(out), [scene.name])
    if before:
        key = known_key(scene, loaded, wanted, lay_out(scene, loaded.card, wanted))
        check_same(Path(out), scene.name, before[scene.name], key, wanted)
        result = prepare(scene, loaded, wanted, notes=why).defer()
        note = f'{DONE}: files in {out} stand, and this is computed again when something of it is asked for'
        return replace(result, info=replace(result.info, notes=(*result.info.notes, note)))
    check_folder(Path(out), [scene.name], overwrite=overwrite)
    with classified_into(
        scene, loaded, wanted, Path(out), notes=why, resume=resume, progress=progress
    ) as result:
        return replace(result, store=MemoryStore.copy_of(result.store))


@contextmanager
def classified_into(
    scene: Scene,
    model: 'Model',
    options: ClassifyOptions,
    folder: Path,
    *,
    notes: tuple[str, ...] = (),
    resume: bool = True,
    progress: Progress | None = None,
) -> Iterator[Classification | PixelClassification]:
    """Classify a scene and write its files, replacing those that stand there.

    The result reads what it holds from the journal, which is removed at the end of the block; memory
    does not grow with the scene. `classify` describes what is raised.
    """
    work = prepare(scene, model, options, notes=notes)
    store = work.work.open_store(work_folder(folder, scene.name), resume=resume)
    result = work.run(store, progress)
    result.save(folder, overwrite=True)
    try:
        yield result
    finally:
        store.remove()


def model_for(
    scene: Scene, model: 'str | Path | Model', device: str, held: 'dict[str, Model] | None' = None
) -> tuple['Model', tuple[str, ...]]:
    """The model, on its device, and why it was chosen where it was.

    Args:
        scene: that it is for.
        model: one, or its name or path, or `auto`.
        device: as options name it.
        held: models by name and path that were loaded for other scenes; this one is added.

    Raises:
        UsageError: it answers questions, and does not classify.
    """
    from geores.bundle import load_model
    from geores.model import Model
    from geores.runtime.base import pick_device

    if isinstance(model, Model):
        check_classifies(model.card)
        return model, ()
    why: tuple[str, ...] = ()
    name, held = str(model), {} if held is None else held
    if model == 'auto':
        card, reason = choose_model(scene)
        name, why = card.name, (reason,)
    if name not in held:
        held[name] = load_model(name, pick_device(device))
    check_classifies(held[name].card)
    return held[name], why


DONE = 'done before'

IN_KEY = frozenset(
    {'tile', 'stride', 'resolution', 'bbox', 'bbox_crs', 'aoi', 'mask', 'mask_values', 'clouds', 'min_valid'}
    | {'compile', 'device'}
)
"""Options whose effect is in the key."""

WITHOUT_EFFECT = frozenset({'workers', 'max_output'})
"""Options that change no result."""

UNPRINTED = frozenset(
    {'model_sha256', 'licence_of_weights', 'geores_version', 'inputs', 'options', 'key', 'tiles_of_this_run'}
    | {'provenance', 'top_k'}
)
"""What a record holds and a command does not print."""


def finished_before(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the record says of those scenes whose results all stand in a folder.

    Args:
        folder: of results.
        names: of scenes.
    """
    scenes = read_record(folder / RUN) or {}
    return {
        name: scenes[name]
        for name in names
        if name in scenes and _stands(folder, scenes[name]) and not work_folder(folder, name).exists()
    }


def check_same(
    folder: Path,
    name: str,
    entry: Mapping[str, Any],
    key: Mapping[str, Any],
    options: ClassifyOptions,
) -> None:
    """Refuse to take what stands in a folder for what another run would give.

    Args:
        folder: of results.
        name: of the scene.
        entry: what the record says of it.
        key: what decides the results, as far as headers tell.
        options: that are asked for.

    Raises:
        OutputError: the results are of another scene, model, options or version.
    """
    differs = differences(entry, key, options)
    if differs:
        raise OutputError(
            f'results of {name} exist in {folder}, of a run with another {", ".join(differs)}: '
            'give --overwrite to replace them, or another --out'
        )


def differences(
    entry: Mapping[str, Any],
    key: Mapping[str, Any],
    options: ClassifyOptions,
    *,
    ignored: Collection[str] = (),
) -> list[str]:
    """Names of what is not as it was when a record was written.

    Args:
        entry: of the record.
        key: what decides the results, as far as headers tell.
        options: that are asked for.
        ignored: options besides that do not matter.
    """
    held, asked = entry.get('key') or {}, json.loads(json.dumps(key))
    differs = {name for name, value in asked.items() if name not in held or held[name] != value}
    recorded = entry.get('options') or {}
    current = json.loads(json.dumps(asdict(options)))
    passed_over = IN_KEY | WITHOUT_EFFECT | set(ignored)
    for field in fields(options):
        if field.name not in passed_over and recorded.get(field.name, field.default) != current[field.name]:
            differs.add(field.name.replace('_', '-'))
    return sorted(differs)


def as_printed(entry: Mapping[str, Any], folder: Path, name: str | None = None) -> dict[str, Any]:
    """A record's entry as ``--json`` printed it, with ``done_before``.

    Args:
        entry: of the record.
        folder: of results.
        name: of the scene, where the entry does not hold it.
    """
    printed = {key: _rounded(value) for key, value in entry.items() if key not in UNPRINTED}
    if 'tiles_of_this_run' in entry:
        seconds = float(entry['seconds'])
        printed['tiles_per_second'] = round(entry['tiles_of_this_run'] / seconds, 2) if seconds > 0 else 0.0
    outputs = {kind: str(folder / file) for kind, file in entry.get('outputs', {}).items()}
    head = {} if name is None else {'scene': name}
    return head | printed | {'outputs': outputs, 'done_before': True}


def _stands(folder: Path, entry: Mapping[str, Any]) -> bool:
    outputs = entry.get('outputs')
    if not isinstance(outputs, dict) or not outputs or not isinstance(entry.get('key'), dict):
        return False
    return all((folder / str(file)).is_file() for file in outputs.values())


def _rounded(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value
