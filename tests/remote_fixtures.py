"""A server of this machine that sends parts of files, counts what it sent, and can misbehave."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class RangeServer:
    """What is served, how, and what was asked for.

    Attributes:
        folder: of the files.
        ranges: whether parts of files are sent.
        cut: whether a connection ends in the middle of what is sent.
        silent: whether nothing is sent until the server ends.
        error: message of an error that a store of S3's kind answers everything with; nothing where not given.
        answers: file, first byte and number of bytes of each answer.
    """

    folder: Path
    ranges: bool = True
    cut: bool = False
    silent: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    error: str = ''
    address: str = ''
    answers: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def sent(self) -> list[tuple[int, int]]:
        """First byte and number of bytes of each answer."""
        return [(start, size) for _, start, size in self.answers]

    @property
    def size(self) -> int:
        """Bytes that were sent."""
        return sum(size for *_, size in self.answers)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send what is asked for."""
        path = self.folder / request.path.partition('?')[0].lstrip('/')
        if self.error:
            self._refuse(request)
            return
        if not path.is_file():
            request.send_error(404)
            return
        size, start = path.stat().st_size, 0
        last = size - 1
        asked = re.match(r'bytes=(\d+)-(\d*)', request.headers.get('Range', ''))
        if asked and self.ranges:
            start, last = int(asked[1]), min(int(asked[2] or last), last)
            request.send_response(206)
            request.send_header('Content-Range', f'bytes {start}-{last}/{size}')
        else:
            request.send_response(200)
        with path.open('rb') as file:
            file.seek(start)
            data = file.read(last + 1 - start)
        request.send_header('Content-Length', str(len(data)))
        request.end_headers()
        if request.command == 'HEAD':
            return
        if self.silent:
            self.ended.wait()
            return
        self.answers.append((path.name, start, len(data)))
        try:
            request.wfile.write(data[: len(data) // 2] if self.cut else data)
        except OSError:  # the other side did not wait
            request.close_connection = True
        request.close_connection |= self.cut

    def _refuse(self, request: BaseHTTPRequestHandler) -> None:
        """Answer with an error as S3 writes it."""
        body = (
            f'<?xml version="1.0"?>\n<Error><Code>No</Code><Message>{self.error}</Message></Error>'.encode()
        )
        request.send_response(404 if 'exist' in self.error else 403)
        request.send_header('Content-Type', 'application/xml')
        request.send_header('Content-Length', str(len(body)))
        request.end_headers()
        if request.command != 'HEAD':
            request.wfile.write(body)


@contextmanager
def serve_ranges(folder: Path) -> Iterator[RangeServer]:
    """Serve a folder on a port of this machine."""
    served = RangeServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_GET(self):
            served.answer(self)

        def do_HEAD(self):
            served.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        served.address = f'http://127.0.0.1:{server.server_port}'
        yield served
        served.ended.set()
        server.shutdown()
        thread.join()
