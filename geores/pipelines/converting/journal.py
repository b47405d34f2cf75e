"""What a conversion has finished, line by line, so that a killed one goes on where it was."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geores.errors import JournalError
from geores.pipelines.converting.sources import Fault

__all__ = ['Chunk', 'Journal']


@dataclass
class Chunk:
    """Patches that are worked on together.

    Attributes:
        number: From 0, in the order of all names.
        sums: Checksum by name of the patches that were read.
        faults: What is wrong with the others.
        values: What the parent has to write, where workers do not write themselves; not kept.
    """

    number: int
    sums: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)


class Journal:
    """Chunks that are finished, in their order.

    Args:
        path: The file, made if it is not there.
        key: What the work is: source, format, names. Work of another key is refused.

    Raises:
        JournalError: If the file is of other work.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path = path
        self.chunks: list[Chunk] = []
        if path.exists():
            self._read(key)
        if not path.exists():
            self._append(key)

    def add(self, chunk: Chunk) -> None:
        """Note that a chunk is finished.

        Args:
            chunk: The next.
        """
        self._append({
            'number': chunk.number,
            'sums': chunk.sums,
            'faults': [asdict(fault) for fault in chunk.faults],
        })  # fmt: skip
        self.chunks.append(chunk)

    def drop_last(self) -> None:
        """Forget the last chunk, which was noted and not written."""
        self.chunks.pop()
        lines = self.path.read_bytes().splitlines(keepends=True)
        os.truncate(self.path, sum(map(len, lines[: len(self.chunks) + 1])))

    @property
    def sums(self) -> dict[str, int]:
        """Checksums of all patches written, in their order."""
        return {name: value for chunk in self.chunks for name, value in chunk.sums.items()}

    @property
    def entries(self) -> int:
        """Patches written so far."""
        return sum(len(chunk.sums) for chunk in self.chunks)

    def _append(self, record: dict[str, Any]) -> None:
        with self.path.open('ab') as file:
            file.write(json.dumps(record).encode() + b'\n')
            file.flush()
            os.fsync(file.fileno())

    def _read(self, key: dict[str, Any]) -> None:
        """Read finished lines; a line that a kill cut short is taken off."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b'\n') + 1]
        if not whole:
            self.path.unlink()
            return
        os.truncate(self.path, len(whole))
        first, *lines = whole.splitlines()
        if json.loads(first) != key:
            raise JournalError(
                f'{self.path.parent} holds unfinished work on another source, list of patches or format: '
                'give --overwrite to start anew, or another destination'
            )
        for line in lines:
            record = json.loads(line)
            faults = [Fault(**fault) for fault in record['faults']]
            self.chunks.append(Chunk(record['number'], record['sums'], faults))
