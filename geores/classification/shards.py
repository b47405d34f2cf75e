"""One of N shares of the work on scenes, for machines that know nothing of each other.

A shard is a share of each scene's chunks. What it computes stays in a journal of its own in the folder of
results, beside one file that holds the command, until `geores.classification.merge` puts all shares together.
"""

import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from geores.classification.options import ClassifyOptions
from geores.classification.steps import prepare_classification
from geores.errors import OutputError, UsageError
from geores.inference.prepared import Progress, RunTime
from geores.io.journal import differing
from geores.io.whole_files import failing, write_whole
from geores.scenes import Scene, Source

if TYPE_CHECKING:
    from geores.model import Model

__all__ = ['BY_MACHINE', 'Command', 'Shard', 'classify_share', 'read_commands']

BY_MACHINE = frozenset({'workers', 'max_output', 'device'})
"""Options that may differ from shard to shard."""


@dataclass(frozen=True)
class Shard:
    """One of several shares.

    Attributes:
        number: of the share, from 1.
        count: how many there are.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        """Refuse a share that does not exist."""
        if not 1 <= self.number <= self.count:
            raise UsageError(f'shard {self} does not exist: give I/N with I from 1 to N, such as 2/4')

    @classmethod
    def parse(cls, text: 'str | Shard') -> 'Shard':
        """Read 'I/N'.

        Raises:
            UsageError: if it says something else.
        """
        if isinstance(text, cls):
            return text
        found = re.fullmatch(r'(\d{1,6})/(\d{1,6})', str(text).strip())
        if found is None:
            raise UsageError(f'shard {text!r} is not I/N: give the second of four as 2/4')
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f'{self.number}/{self.count}'

    def chunks(self, name: str, total: int) -> range:
        """The chunks of a scene that are this shard's: neighbours, so that few blocks are read twice.

        Args:
            name: of the scene. It decides which shards get more, so that scenes of a single chunk do not all
                fall to the same one.
            total: number of the scene's chunks.
        """
        part = (self.number + zlib.crc32(name.encode())) % self.count
        return range(total * part // self.count, total * (part + 1) // self.count)

    def work_folder(self, folder: Path, name: str) -> Path:
        """The folder that keeps this shard's work on a scene."""
        return folder / f'.{name}.shard-{self.number}-of-{self.count}.partial'

    def command_file(self, folder: Path) -> Path:
        """The file that keeps the command of this shard."""
        return folder / f'.shard-{self.number}-of-{self.count}.json'


@dataclass(frozen=True)
class Command:
    """What all shards of a run were asked for.

    Attributes:
        scenes: paths of each scene.
        beside: paths of each source beside them, with the names of its bands.
        model: name or path, or 'auto'.
        opening: how scenes are opened: `bands`, `allow_vrt`, `sensor` and `offset` of `open_scene`.
        options: of the classification that have a value.
        folder: where it was given: paths may be relative to it.
    """

    scenes: list[Any]
    beside: list[dict[str, Any]]
    model: str
    opening: dict[str, Any]
    options: dict[str, Any]
    folder: str

    @classmethod
    def of(
        cls,
        scenes: Sequence[Source | Scene],
        beside: Sequence[Source | Scene],
        model: 'str | Path | Model',
        opening: Mapping[str, Any],
        options: ClassifyOptions,
    ) -> Self:
        """What was asked for as plain values.

        Raises:
            UsageError: if scenes or the model are objects in memory, which another process cannot open.
        """
        named = getattr(model, 'folder', model)
        if named is None:
            raise UsageError('shards need a model that can be loaded again: give its name or path')
        others = []
        for one in beside:
            bands = list(one.bands) if isinstance(one, Scene) else None
            others.append({'paths': _paths(one.paths if isinstance(one, Scene) else one), 'bands': bands})
        given = json.loads(json.dumps(options.given()))
        return cls([_paths(one) for one in scenes], others, str(named), dict(opening), given, os.getcwd())

    def differences(self, other: 'Command') -> list[str]:
        """Names of what another shard was asked for differently."""
        parts = ('scenes', 'beside', 'model')
        names = [name for name in parts if getattr(self, name) != getattr(other, name)]
        for one, two in ((self.opening, other.opening), (self.options, other.options)):
            names += [name.replace('_', '-') for name in differing(one, two) if name not in BY_MACHINE]
        return names

    def keep(self, shard: Shard, folder: Path, *, overwrite: bool) -> None:
        """Write the command into the folder of results.

        Raises:
            OutputError: if the folder holds shards of another command.
        """
        if not overwrite:
            for other, held in read_commands(folder).items():
                differs = self.differences(held) if other.count == shard.count else ['N']
                if differs:
                    raise OutputError(
                        f'{folder} holds shard {other} of a run with another {", ".join(differs)}: merge it '
                        'first, give --overwrite to drop it, or another --out'
                    )
        else:
            _drop_others(shard, folder)
        with failing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(shard.command_file(folder), json.dumps(vars(self), indent=1) + '\n')


def read_commands(folder: Path) -> dict[Shard, Command]:
    """Read the commands of all shards whose work lies in a folder, in the order of their numbers.

    Raises:
        OutputError: if one of the files is damaged.
    """
    found = {}
    for path in folder.glob('.shard-*-of-*.json'):
        named = re.fullmatch(r'\.shard-(\d+)-of-(\d+)\.json', path.name)
        if named is None or path.is_symlink():
            continue
        try:
            found[Shard(int(named[1]), int(named[2]))] = Command(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise OutputError(f'{path} is damaged: remove it, and run that shard again') from error
    return dict(sorted(found.items(), key=lambda item: (item[0].count, item[0].number)))


def _drop_others(shard: Shard, folder: Path) -> None:
    """Remove commands of runs in another number of shards, whose work would not be found any more."""
    for path in folder.glob('.shard-*-of-*.json'):
        if not path.name.endswith(f'-of-{shard.count}.json'):
            path.unlink(missing_ok=True)


def _paths(source: Any) -> Any:  # noqa: ANN401 - a path, several, or what is refused
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, list | tuple) and all(isinstance(one, str | os.PathLike) for one in source):
        return [os.fspath(one) for one in source]
    raise UsageError('shards need scenes that can be opened again: give paths')


def classify_share(
    scene: Scene,
    model: 'Model',
    options: ClassifyOptions,
    folder: Path,
    shard: Shard,
    *,
    notes: tuple[str, ...] = (),
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> RunTime:
    """Compute a shard's chunks of a scene, and keep them in the folder of results.

    Args:
        scene: the scene.
        model: on its device.
        options: of the user.
        folder: of the results.
        shard: which share.
        notes: that come first, such as why the model was chosen.
        resume: whether to continue unfinished work of this shard.
        overwrite: whether to drop unfinished work of another run.
        progress: called with the number of tiles just finished, and of all that are the shard's.

    Raises:
        ReadError: if the scene could not be read to the end; finished work is kept.
        JournalError: if the folder holds work of another run.
    """
    work = prepare_classification(scene, model, options, notes=notes)
    chunks = shard.chunks(scene.name, len(work.work.prepared.plan))
    place = shard.work_folder(folder, scene.name)
    key = {'shard': str(shard)}
    with work.work.open_store(place, resume=resume, overwrite=overwrite, more=key) as store:
        took = work.work.run(store, progress, chunks)
        if chunks and not store.records:
            store.add_record({
                'device': work.device,
                'precision': work.precision,
                'seconds': took.seconds,
                'tiles': took.tiles,
                'notes': list(work.notes),
            })  # fmt: skip
    return took
