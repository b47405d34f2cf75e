"""Cross-validate a configuration, then train it on everything."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from geores.card_values import SplitMethod
from geores.errors import OutputError, UsageError
from geores.io.whole_files import write_whole
from geores.metrics.crossval import Evidence, Figures, Scores, cross_validated, summarised
from geores.training.train import train

PLACE = '{fold}'


def cross_validate(args: Sequence[str], folds: int, out: Path) -> Evidence:
    """Fit a configuration once per fold, then on everything.

    Writes to `out`: one bundle per fold (`fold1` ...), `crossval.json` with the figures, and the bundle
    trained on everything (`all`), whose card has the thresholds and figures of the folds. `{fold}` anywhere
    in the configuration becomes the name of the fold: so the configuration can name a teacher per fold that
    never saw the images that its student is scored on.

    Args:
        args: as in `train`; the configuration has to export.
        folds: number of folds, at least 2.
        out: folder to write; folds that stand there finished, by the same arguments and configuration,
            are not fitted again.

    Returns:
        Thresholds and figures.

    Raises:
        UsageError: if the configuration is not usable.
        OutputError: if the folder cannot be written.
    """
    if folds < 2:
        raise UsageError(f'folds have to be 2 or more, not {folds}')
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'{out}: cannot be written: {error.strerror}') from error
    parts = []
    for fold in range(1, folds + 1):
        own = [f'--data.folds={folds}', f'--data.fold={fold}']
        parts.append(_fold(args, own, out / f'fold{fold}'))
    evidence = _together(parts, f'{folds}-fold')._replace(split=SplitMethod(method='folds', folds=folds))
    _write(out / 'crossval.json', evidence)
    _fit(args, ['--data.val_share=0'], out / 'all', evidence)
    return evidence


def _together(parts: Sequence[Scores | Figures], split_id: str) -> Evidence:
    scores = [part for part in parts if isinstance(part, Scores)]
    if scores:
        return cross_validated(scores, split_id)
    return summarised([part for part in parts if isinstance(part, Figures)], split_id)


def _fold(args: Sequence[str], own: Sequence[str], folder: Path) -> Scores | Figures:
    """Fit a fold, or load the scores that an earlier run with the same options kept."""
    kept, key = folder.with_name(f'{folder.name}_scores.safetensors'), _key([*args, *own])
    if folder.is_dir() and kept.is_file():
        with safe_open(kept, framework='pt') as file:
            if file.metadata()['key'] == key:
                return _unpacked(file)
        raise OutputError(f'{folder} is of other options: choose another folder')
    begun = folder.with_name(f'{folder.name}_begun.txt')
    # A bundle without scores is of a run that was killed between the two, if that began it.
    again = begun.is_file() and begun.read_text(encoding='utf-8') == key
    if not folder.exists():
        write_whole(begun, key)
    scores = _fit(args, own, folder, None, overwrite=again)
    tensors, text = _packed(scores)
    write_whole(kept, save(tensors, {'key': key, **text}))
    begun.unlink(missing_ok=True)
    return scores


def _packed(scores: Scores | Figures) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if isinstance(scores, Figures):
        return {}, {'figures': json.dumps(scores._asdict())}
    tensors = {'values': scores.values.contiguous(), 'target': scores.target.contiguous()}
    return tensors, {'sources': json.dumps(scores.sources), 'labels': json.dumps(scores.labels)}


def _unpacked(file: Any) -> Scores | Figures:  # noqa: ANN401 - an open safetensors file
    text = file.metadata()
    if 'figures' in text:
        return Figures(**json.loads(text['figures']))
    labels = tuple(json.loads(text.get('labels', '[]')))
    return Scores(file.get_tensor('values'), file.get_tensor('target'), json.loads(text['sources']), labels)


def _key(args: Sequence[str]) -> str:
    """Hash the arguments, and the contents of configurations among them."""
    parts = [str(torch.__version__)]
    for one in args:
        path = Path(one.removeprefix('--config='))
        parts.append(path.read_text(encoding='utf-8') if path.is_file() else one)
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def _fit(
    args: Sequence[str],
    own: Sequence[str],
    folder: Path,
    evidence: Evidence | None,
    *,
    overwrite: bool = False,
) -> Scores | Figures:
    exports: list[Any] = []

    def configure(export: Any) -> None:  # noqa: ANN401 - ExportBundle, which imports Lightning
        export.path, export.evidence = str(folder), evidence
        export.overwrite = export.overwrite or overwrite
        exports.append(export)

    with tempfile.TemporaryDirectory() as scratch:
        train([*_placed(args, folder.name, Path(scratch)), *own], configure)
    scores: Scores | Figures = exports[0].scores
    return scores


def _placed(args: Sequence[str], fold: str, scratch: Path) -> list[str]:
    """Replace `{fold}` in the arguments and their configuration."""
    placed = []
    for one in args:
        path = Path(one.removeprefix('--config='))
        if path.suffix in {'.yaml', '.yml'} and path.is_file():
            copy = scratch / path.name
            copy.write_text(path.read_text(encoding='utf-8').replace(PLACE, fold), encoding='utf-8')
            placed.append(one.replace(str(path), str(copy)))
        else:
            placed.append(one.replace(PLACE, fold))
    return placed


def _write(path: Path, evidence: Evidence) -> None:
    thresholds = None if evidence.thresholds is None else evidence.thresholds.tolist()
    record = {'split_id': evidence.split_id, 'thresholds': thresholds, 'metrics': evidence.metrics}
    write_whole(path, json.dumps(record, indent=2) + '\n')
