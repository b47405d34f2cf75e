"""Results of an earlier run in a folder: whether they are what the run that is asked for would give."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from geores.classification.options import ClassifyOptions
from geores.classification.outputs import RUN, work_folder
from geores.errors import OutputError
from geores.io.journal import holds_work, read_record

__all__ = ['DONE', 'as_printed', 'changed_inputs', 'finished_scenes', 'refuse_other_run']

DONE = 'done before'
"""What commands say of such results."""

IN_KEY = frozenset(
    {'tile', 'stride', 'resolution', 'bbox', 'bbox_crs', 'aoi', 'mask', 'mask_values', 'clouds', 'min_valid'}
    | {'compile', 'device'}
)
"""Options whose effect is in the key, which is compared by itself."""

WITHOUT_EFFECT = frozenset({'workers', 'max_output'})
"""Options that change speed or memory, and no result."""

UNPRINTED = frozenset(
    {'model_sha256', 'licence_of_weights', 'geores_version', 'inputs', 'options', 'key', 'tiles_of_this_run'}
    | {'provenance', 'top_k'}
)
"""Fields of a record that a command does not print."""


def finished_scenes(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The entries of the record for those scenes whose files all stand in a folder.

    Args:
        folder: of results.
        names: of scenes.

    Returns:
        Name -> entry; scenes with unfinished work are left out.
    """
    scenes = read_record(folder / RUN) or {}
    return {
        name: scenes[name]
        for name in names
        if name in scenes and _stands(folder, scenes[name]) and not holds_work(work_folder(folder, name))
    }


def refuse_other_run(
    folder: Path,
    name: str,
    entry: Mapping[str, Any],
    key: Mapping[str, Any],
    options: ClassifyOptions,
) -> None:
    """Refuse results in a folder that differ from those of the run that is asked for.

    Args:
        folder: of results.
        name: of the scene.
        entry: of the scene in the record.
        key: of the run that is asked for, of `known_key`.
        options: of the run that is asked for.

    Raises:
        OutputError: if the results are of another scene, model, option or version.
    """
    differs = changed_inputs(entry, key, options)
    if differs:
        raise OutputError(
            f'results of {name} exist in {folder}, of a run with another {", ".join(differs)}: '
            'give --overwrite to replace them, or another --out'
        )


def changed_inputs(
    entry: Mapping[str, Any],
    key: Mapping[str, Any],
    options: ClassifyOptions,
    *,
    ignored: Collection[str] = (),
) -> list[str]:
    """Names of the inputs and options that have changed since a record was written.

    Args:
        entry: of the record.
        key: of the run that is asked for, of `known_key`.
        options: of the run that is asked for.
        ignored: further options that do not matter.
    """
    # Through JSON, as the record went: tuples become lists there.
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
    """An entry of a record as `--json` printed it when it was new, with `done_before`.

    Args:
        entry: of the record.
        folder: of results.
        name: of the scene; None where the entry holds it.
    """
    printed = {key: _rounded(value) for key, value in entry.items() if key not in UNPRINTED}
    if 'tiles_of_this_run' in entry:
        seconds = float(entry['seconds'])
        printed['tiles_per_second'] = round(entry['tiles_of_this_run'] / seconds, 2) if seconds > 0 else 0.0
    outputs = {kind: str(folder / file) for kind, file in entry.get('outputs', {}).items()}
    head = {} if name is None else {'scene': name}
    return head | printed | {'outputs': outputs, 'done_before': True}


def _stands(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether all files that an entry names are there."""
    outputs = entry.get('outputs')
    if not isinstance(outputs, dict) or not outputs or not isinstance(entry.get('key'), dict):
        return False
    return all((folder / str(file)).is_file() for file in outputs.values())


def _rounded(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value
