"""`geores ask`: questions to a scene of any size."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geores.classification.options import AskOptions
from geores.cli import common
from geores.cli.common import keeping, listed, plain_console, print_outputs, progress_bar
from geores.cli.option_sets import with_options
from geores.errors import GeoresError, UsageError

if TYPE_CHECKING:
    from geores.asking.answer import SceneAnswer
    from geores.asking.sources import QASession
    from geores.inference.prepared import Progress

__all__ = ['ask']

Show = Callable[['SceneAnswer'], None]
Option = typer.Option

MAX_FILE = 16 * 2**20
"""Largest file of questions, in bytes."""
LEAVE_WORDS = ('', 'q', 'quit', 'exit')


@with_options(AskOptions)
def ask(
    scene: Annotated[
        str, typer.Argument(metavar='SCENE', help='GeoTIFF, folder of bands or Sentinel-2 product.')
    ],
    question: Annotated[
        list[str] | None,
        typer.Argument(
            metavar='[QUESTION]...', help='Such as "Is there a water area?"; none to be prompted.'
        ),
    ] = None,
    model: Annotated[
        str, Option(help='Name or path of a bundle; auto: class map, and network by pixel size.')
    ] = 'auto',
    questions: Annotated[
        str | None,
        Option(metavar='FILE|-', help='Text file of questions, one per line; - for standard input.'),
    ] = None,
    out: Annotated[
        Path | None, Option('--out', '-o', help='Folder for the class map, evidence and pictures.')
    ] = None,
    bands: common.Bands = None,
    sensor: common.Sensor = None,
    offset: common.Offset = 'auto',
    *,
    options: AskOptions,
    resume: common.Resume = True,
    overwrite: Annotated[bool, Option('--overwrite', help='Replace answers in --out.')] = False,
    allow_vrt: common.AllowVrt = False,
    quiet: common.Quiet = False,
    as_json: Annotated[bool, Option('--json', help='One JSON object per line, one per question.')] = False,
) -> None:
    """Ask questions about a scene: its class map answers what it shows, a network the rest."""
    asked = _questions(question or [], questions)
    place: dict[str, Any] = {
        'source': scene,
        'bands': listed(bands),
        'allow_vrt': allow_vrt,
        'sensor': sensor,
        'offset': offset,
    }
    _run(place, asked, model, options, out, resume=resume, overwrite=overwrite, quiet=quiet, as_json=as_json)


def _questions(given: list[str], source: str | None) -> list[str] | None:
    """The questions to ask; None where someone at a terminal is to be asked for them."""
    from geores.asking.ask import check_scene_questions

    if source is not None and given:
        raise UsageError('questions are given both as arguments and with --questions: use one of them')
    if source is None and not given:
        if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
            raise UsageError(
                'there is no question: give one, such as "Is there a water area?", or --questions FILE '
                '(- for standard input), or run it in a terminal to be prompted'
            )
        return None
    for text in given:
        if _is_file(text):
            raise UsageError(
                f'{text} is a file, and stands where a question is asked: ask one scene at a time, '
                'or give a file of questions by --questions'
            )
    asked = given if source is None else _lines(source)
    for number, text in enumerate(asked, start=1):
        try:
            check_scene_questions([text])
        except UsageError as error:
            where = f'question {number} of {source}: ' if source is not None else ''
            raise type(error)(f'{where}{error}') from error
    return asked


def _is_file(text: str) -> bool:
    """Whether a question is the path of a file or folder, as where a shell writes out ``*.tif``."""
    try:
        return not text.rstrip().endswith('?') and os.path.exists(text)
    except ValueError:  # a null byte
        return False


def _lines(source: str) -> list[str]:
    """Questions of a file or of standard input, one per line; empty lines are skipped."""
    name = 'standard input' if source == '-' else source
    try:
        text = _bytes(source).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise UsageError(
            f'{name} is no text in UTF-8 (byte {error.start}): give a text file of questions'
        ) from error
    if '\0' in text:
        raise UsageError(f'{name} is no text: give a text file of questions, one per line')
    asked = [line.strip() for line in text.splitlines() if line.strip()]
    if not asked:
        raise UsageError(f'{name} holds no question: write one per line')
    return asked


def _bytes(source: str) -> bytes:
    """The bytes of a file of questions, or of standard input."""
    try:
        if source == '-':
            if sys.stdin is None or sys.stdin.closed:
                raise UsageError('standard input is closed: give questions as arguments or in a file')
            data = sys.stdin.buffer.read(MAX_FILE + 1)
        else:
            with open(source, 'rb') as file:
                data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, GeoresError):
            raise
        name = 'standard input' if source == '-' else source
        reason = getattr(error, 'strerror', None) or error
        raise UsageError(f'{name} cannot be read: {reason}') from error
    if len(data) > MAX_FILE:
        raise UsageError(f'{source} is larger than {MAX_FILE // 2**20} MiB: give a text file of questions')
    return data


def _run(
    place: dict[str, Any],
    asked: list[str] | None,
    model: str,
    options: AskOptions,
    out: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Decide who answers, then answer what is asked or what is typed."""
    from geores.asking.ask import check_answer_folder, done_before
    from geores.asking.sources import QASession, Sources
    from geores.scenes import open_scene

    wanted, top_k = options.for_scene(), options.top_k
    with open_scene(**place) as scene:
        sources = Sources.choose(scene, model, wanted)
        if out is not None and asked is not None and not overwrite:
            said: set[str] = set()
            for entry in (before := done_before(out, sources, top_k, asked, options.accuracy)):
                _print_earlier(entry, out, said, as_json=as_json)
            if before:
                return
        if out is not None:
            check_answer_folder(out, sources, asked or [], overwrite=overwrite)

        @contextmanager
        def watch(name: str, folder: Path | None) -> Iterator['Progress']:
            kept_in = None if out is None else folder
            with keeping(name, kept_in) as kept, progress_bar(name, shown=not as_json, quiet=quiet) as bar:
                yield kept.watch(bar)

        show = _print_json if as_json else _Printer()
        session = QASession(
            sources,
            out,
            top_k=top_k,
            accuracy=options.accuracy,
            resume=resume,
            overwrite=overwrite,
            watch=watch,
        )
        with session:
            if asked is None:
                _prompt(session, out, show, overwrite=overwrite)
            else:
                _answer_all(session, asked, out, show, shown=not as_json, quiet=quiet)


def _answer_all(
    session: 'QASession', asked: list[str], out: Path | None, show: Show, *, shown: bool, quiet: bool
) -> None:
    """Answer all questions, with their files where there is a folder for them."""
    from geores.asking.ask import write_answers

    answers = session.answer(asked)
    if out is not None:
        with progress_bar('evidence', shown=shown, quiet=quiet, unit='answers') as drawn:
            answers = write_answers(answers, out, done=lambda: drawn(1, len(asked)))
    for answer in answers:
        show(answer)


def _prompt(session: 'QASession', out: Path | None, show: Show, *, overwrite: bool) -> None:
    """Answer what is typed, until a line is empty or the input ends."""
    print('Ask in English, such as "Is there a water area?". An empty line ends.', file=sys.stderr)
    written: set[str] = set()  # questions as understood, whose files may be replaced by their own
    while True:
        print('? ', end='', file=sys.stderr, flush=True)  # answers alone go to standard output
        try:
            line = input()
        except EOFError:
            return
        if line.strip().lower() in LEAVE_WORDS:
            return
        try:
            show(_answer_typed(session, line, out, written, overwrite=overwrite))
        except UsageError as error:
            print(f'geores: {" ".join(str(error).split())}', file=sys.stderr)


def _answer_typed(
    session: 'QASession', line: str, out: Path | None, written: set[str], *, overwrite: bool
) -> 'SceneAnswer':
    """The answer to one question, with its files where there is a folder for them."""
    from geores.asking.ask import check_answers_writable, write_answers

    (answer,) = session.answer([line])
    if out is None:
        return answer
    if answer.answer is not None:
        wording = answer.understood_as or answer.question
        check_answers_writable(out, answer.scene, [wording], overwrite=overwrite or wording in written)
        written.add(wording)
    return write_answers([answer], out)[0]


def _print_json(answer: 'SceneAnswer') -> None:
    print(json.dumps(answer.to_dict()), flush=True)


class _Printer:
    """Prints answers in words, with their notes and files; what was assumed of the scene is said once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, answer: 'SceneAnswer') -> None:

        from geores.asking.understand import how_sure

        _say_once(answer.scene_notes, self._said)
        console = plain_console()
        console.print(answer.question, style='bold', soft_wrap=True)
        if answer.understood_as is not None:
            console.print(f'  understood as: {answer.understood_as}', soft_wrap=True)
        console.print(f'  {answer.text}{how_sure(answer.probability)}', soft_wrap=True)
        for note in answer.notes:
            console.print(f'  note: {note}', style='dim', soft_wrap=True)
        print_outputs(console, answer.outputs, indent='  ')


def _say_once(notes: Iterable[str], said: set[str]) -> None:
    """Print notes on a scene that were not printed with another answer."""
    for note in notes:
        if note not in said:
            print(f'note: {note}', file=sys.stderr)
            said.add(note)


def _print_earlier(entry: Mapping[str, Any], folder: Path, said: set[str], *, as_json: bool) -> None:
    """Print the answer of an earlier run from its record.

    Args:
        entry: of the question in the record.
        folder: of the results.
        said: notes on the scene that were printed already.
        as_json: as one JSON object on a line, with `done_before`.
    """
    from geores.asking.understand import how_sure
    from geores.classification.earlier_runs import DONE, as_printed

    record = as_printed(entry, folder)
    if as_json:
        print(json.dumps(record), flush=True)
        return
    _say_once(record.get('scene_notes', []), said)
    console = plain_console()
    console.print(record['question'], style='bold', soft_wrap=True)
    if record.get('understood_as') is not None:
        console.print(f'  understood as: {record["understood_as"]}', soft_wrap=True)
    console.print(f'  {record["text"]}{how_sure(record["probability"])}', soft_wrap=True)
    for note in record.get('notes', []):
        console.print(f'  note: {note}', style='dim', soft_wrap=True)
    console.print(f'  {DONE}; --overwrite computes it again', soft_wrap=True)
    print_outputs(console, record['outputs'], indent='  ')
