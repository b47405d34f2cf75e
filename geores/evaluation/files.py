"""Files of an evaluation, of labels or of answers to questions: they all appear together, when complete."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geores.io.whole_files import check_free, whole_files

if TYPE_CHECKING:
    from geores.evaluation.question_report import VQAEvaluation
    from geores.evaluation.report import Evaluation

__all__ = [
    'ANSWER_FILES',
    'FILES',
    'by_label',
    'check_answer_files',
    'check_files',
    'files',
    'plain',
    'record',
    'record_answers',
    'save',
    'save_answers',
    'write_predictions',
]

FILES = {
    'metrics': 'metrics.json',
    'per_class': 'per_class.csv',
    'per_source': 'per_source.csv',
    'confusion': 'confusion.csv',
    'predictions': 'predictions.parquet',
    'confusion_plot': 'confusion.png',
    'reliability_plot': 'reliability.png',
    'threshold_plot': 'thresholds.png',
    'precision_recall_plot': 'precision_recall.png',
}
"""What is written, and how its file's name ends."""

ANSWER_FILES = {
    'metrics': 'metrics.json',
    'per_type': 'per_type.csv',
    'numbers': 'numbers.csv',
    'per_source': 'per_source.csv',
    'confusion': 'confusion.csv',
    'predictions': 'predictions.parquet',
    'accuracy_plot': 'accuracy.png',
    'reliability_plot': 'reliability.png',
}


def files(folder: Path, name: str, kinds: Mapping[str, str] = FILES) -> dict[str, Path]:
    """Paths of the files of a model's evaluation.

    Args:
        folder: folder that holds them.
        name: name of the model.
        kinds: what is written, and the end of its file's name.
    """
    return {kind: folder / f'{name}_{end}' for kind, end in kinds.items()}


def check_files(folder: Path, name: str, *, overwrite: bool, kinds: Mapping[str, str] = FILES) -> None:
    """Check that files can be written, before any work is done.

    Args:
        folder: folder to write to; need not be there.
        name: name of the model.
        overwrite: whether files may be replaced.
        kinds: as of `files`.

    Raises:
        OutputError: if a file exists, or the folder cannot be written.
    """
    check_free(list(files(folder, name, kinds).values()), overwrite=overwrite)


def save(found: 'Evaluation', folder: Path, *, overwrite: bool) -> dict[str, Path]:
    """Write all files of an evaluation; see `Evaluation.save`."""
    from geores.evaluation import figures

    name = found.card.name
    check_files(folder, name, overwrite=overwrite)
    final = files(folder, name)
    with whole_files(list(final.values())) as partial:
        paths = dict(zip(final, partial, strict=True))
        text = json.dumps(plain(record(found, curves=True)), indent=1, ensure_ascii=False)
        paths['metrics'].write_text(text + '\n', encoding='utf-8')
        for table in ('per_class', 'per_source', 'confusion'):
            getattr(found, table).to_csv(paths[table])
        write_predictions(found, paths['predictions'])
        figures.write_confusion(found, paths['confusion_plot'])
        figures.write_reliability(found, paths['reliability_plot'])
        figures.write_thresholds(found, paths['threshold_plot'])
        figures.write_precision_recall(found, paths['precision_recall_plot'])
    return final


def record(found: 'Evaluation', *, curves: bool) -> dict[str, Any]:
    """Provenance, figures and tables of an evaluation.

    Args:
        found: the evaluation to show.
        curves: whether reliability and threshold curves go with them.
    """
    entries = {
        **found.provenance,
        'notes': list(found.notes),
        'warnings': list(found.warnings),
        'metrics': found.metrics,
        'intervals': {name: list(limits) for name, limits in found.intervals.items()},
        'per_class': found.per_class.to_dict('index'),
        'per_source': found.per_source.to_dict('index'),
        'confusion': found.confusion.to_dict('index'),
    }
    if curves:
        entries['reliability'] = by_label(found.reliability)
        entries['threshold_curve'] = by_label(found.threshold_curve)
    return entries


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Convert a value to JSON types; NaN, which JSON lacks, becomes None.

    Args:
        value: value of mappings, lists, text and numbers.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def by_label(table: pd.DataFrame) -> dict[str, Any]:
    """Split a table into the columns of each label.

    Args:
        table: table with a column `label`.
    """
    return {
        str(label): rows.drop(columns='label').to_dict('list')
        for label, rows in table.groupby('label', sort=False)
    }


def write_predictions(found: 'Evaluation | VQAEvaluation', path: Path) -> None:
    """Write predictions, with their provenance.

    Args:
        found: the evaluation to show.
        path: Parquet file to write.
    """
    table = pa.Table.from_pandas(found.predictions, preserve_index=False)
    told = {b'geores': json.dumps(plain(found.provenance)).encode()}
    pq.write_table(
        table.replace_schema_metadata((table.schema.metadata or {}) | told), path, compression='zstd'
    )


def check_answer_files(folder: Path, name: str, *, overwrite: bool) -> None:
    """Check that files can be written, like `check_files`."""
    check_files(folder, name, overwrite=overwrite, kinds=ANSWER_FILES)


def save_answers(found: 'VQAEvaluation', folder: Path, *, overwrite: bool) -> dict[str, Path]:
    """Write all files of a VQA evaluation; see `VQAEvaluation.save`."""
    from geores.evaluation import figures

    name = found.card.name
    check_answer_files(folder, name, overwrite=overwrite)
    final = files(folder, name, ANSWER_FILES)
    with whole_files(list(final.values())) as partial:
        paths = dict(zip(final, partial, strict=True))
        text = json.dumps(plain(record_answers(found, curves=True)), indent=1, ensure_ascii=False)
        paths['metrics'].write_text(text + '\n', encoding='utf-8')
        for table in ('per_type', 'numbers', 'per_source'):
            getattr(found, table).to_csv(paths[table])
        found.confusion.to_csv(paths['confusion'], index=False)
        write_predictions(found, paths['predictions'])
        figures.write_answer_accuracy(found, paths['accuracy_plot'])
        figures.write_answer_reliability(found, paths['reliability_plot'])
    return final


def record_answers(found: 'VQAEvaluation', *, curves: bool) -> dict[str, Any]:
    """Provenance, figures and tables of an evaluation.

    Args:
        found: the evaluation to show.
        curves: whether reliability curves go with them.
    """
    numbers: dict[str, dict[str, Any]] = {}
    for who, kinds in found.comparison.numbers.items():
        for kind, error in kinds.items():
            numbers.setdefault(kind, {})[who.replace('-', '_')] = error._asdict()
    entries = {
        **found.provenance,
        'notes': list(found.notes),
        'warnings': list(found.warnings),
        'metrics': found.metrics,
        'intervals': {name: list(limits) for name, limits in found.intervals.items()},
        'unknown_answers': found.unknown,
        'per_type': found.per_type.to_dict('index'),
        'numbers': numbers,
        'per_source': found.per_source.to_dict('index'),
    }
    return entries | {'reliability': by_label(found.reliability)} if curves else entries
