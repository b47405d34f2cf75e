"""Files of an evaluation of answers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geores.io.whole_files import whole_files
from geores.pipelines.evaluation.files import by_label, check_files, files, plain, write_predictions

if TYPE_CHECKING:
    from geores.pipelines.evaluation.question_report import VQAEvaluation

__all__ = ['ANSWER_FILES', 'check_answer_files', 'record_answers', 'save_answers']

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


def check_answer_files(folder: Path, name: str, *, overwrite: bool) -> None:
    """Raise where files could not be written, as `check_files`."""
    check_files(folder, name, overwrite=overwrite, kinds=ANSWER_FILES)


def save_answers(found: 'VQAEvaluation', folder: Path, *, overwrite: bool) -> dict[str, Path]:
    """Write all files of an evaluation; `VQAEvaluation.save` says the rest."""
    from geores.pipelines.evaluation import question_figures as figures

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
        found: The evaluation.
        curves: Whether reliability curves go with them.
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
