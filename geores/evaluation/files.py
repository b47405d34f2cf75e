"""Files of an evaluation: tables, figures and plots that appear together when all are complete."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from geores.io.tables import csv_frame
from geores.io.whole_files import check_free, whole_files

__all__ = ['ALL', 'PreparedEvaluation', 'Report', 'by_label', 'plain']

ALL = 'all'
"""What tables call all labels, or all kinds of questions, together."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Report(ABC):
    """What all evaluations have in common: a record for JSON, and a set of files.

    A report has figures by name in `metrics` with their `intervals`, and one row per sample in `predictions`.

    Args:
        provenance: model or system, data, split and options of the evaluation, as plain JSON values.
        notes: notes on the data and the predictions, for the user.
        warnings: reasons why the metrics may be misleading.
        replicates: bootstrap replicates for confidence intervals; 0 gives no intervals.
        seed: seed of the bootstrap.

    Attributes:
        FILES: what is written -> end of its file's name. Those that end in `.csv` are written from the
            table of that name, an attribute of the report.
    """

    FILES: ClassVar[Mapping[str, str]]

    provenance: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    replicates: int = 1000
    seed: int = 0

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of what was evaluated, with which names of files begin."""

    @abstractmethod
    def tables(self, *, curves: bool) -> dict[str, Any]:
        """Figures and tables for JSON, behind provenance, notes and warnings."""

    @abstractmethod
    def plot(self, paths: Mapping[str, Path]) -> None:
        """Draw all plots."""

    @classmethod
    def paths(cls, folder: Path, name: str) -> dict[str, Path]:
        """Paths of the files of an evaluation."""
        return {kind: folder / f'{name}_{end}' for kind, end in cls.FILES.items()}

    @classmethod
    def check_output(cls, folder: Path, name: str, *, overwrite: bool) -> None:
        """Check that files can be written, before any work is done.

        Raises:
            OutputError: if a file exists, or the folder cannot be written.
        """
        check_free(list(cls.paths(folder, name).values()), overwrite=overwrite)

    def record(self, *, curves: bool = False) -> dict[str, Any]:
        """Provenance, figures and tables, for JSON."""
        told = {'notes': list(self.notes), 'warnings': list(self.warnings)}
        return {**self.provenance, **told, **self.tables(curves=curves)}

    def save(self, folder: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
        """Write all tables, figures and plots; either all files appear or none.

        Returns:
            What -> its file.

        Raises:
            OutputError: if a file exists, or the folder cannot be written.
            WriteError: if writing failed, as on a full disk.
        """
        self.check_output(Path(folder), self.name, overwrite=overwrite)
        final = self.paths(Path(folder), self.name)
        with whole_files(list(final.values())) as partial:
            paths = dict(zip(final, partial, strict=True))
            text = json.dumps(plain(self.record(curves=True)), indent=1, ensure_ascii=False)
            paths['metrics'].write_text(text + '\n', encoding='utf-8')
            for kind, end in self.FILES.items():
                if end.endswith('.csv'):
                    table: pd.DataFrame = getattr(self, kind)
                    csv_frame(table).to_csv(paths[kind], index=not isinstance(table.index, pd.RangeIndex))
            self._write_predictions(paths['predictions'])
            self.plot(paths)
        return final

    def _write_predictions(self, path: Path) -> None:
        """Write one row per sample, with the provenance."""
        frame: pd.DataFrame = self.predictions  # type: ignore[attr-defined]
        table = pa.Table.from_pandas(frame, preserve_index=False)
        told = {b'geores': json.dumps(plain(self.provenance)).encode()}
        pq.write_table(
            table.replace_schema_metadata((table.schema.metadata or {}) | told), path, compression='zstd'
        )


class PreparedEvaluation(ABC):
    """An evaluation that is checked and ready to run.

    Attributes:
        report: what it gives.
    """

    report: ClassVar[type[Report]]

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of what is evaluated."""

    def check_output(self, folder: Path, *, overwrite: bool) -> None:
        """Check that results can be written, before any work is done.

        Raises:
            OutputError: if a file exists, or the folder cannot be written.
        """
        self.report.check_output(folder, self.name, overwrite=overwrite)


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Convert a value to JSON types; NaN, which JSON lacks, becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def by_label(table: pd.DataFrame) -> dict[str, Any]:
    """Split a table into the columns of each label."""
    return {
        str(label): rows.drop(columns='label').to_dict('list')
        for label, rows in table.groupby('label', sort=False)
    }
