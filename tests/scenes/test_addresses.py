"""Tokens of signed addresses are shown and kept nowhere."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from geores import open_scene
from geores.errors import BandError, ReadError, SceneError, without_secrets

from ..fixtures import hold_files, write_scene

HIDDEN = 'S3CRET'


@pytest.mark.parametrize(
    ('text', 'shown'),
    [
        ('https://host/a.tif?sv=1&sig=S3CRET%3D', 'https://host/a.tif'),
        ('https://me:S3CRET@host:443/a.tif', 'https://host:443/a.tif'),
        ('https://me:S3C@RET@host/a.tif', 'https://host/a.tif'),
        ('HTTPS://S3CRET@host/a@b.tif#S3CRET', 'HTTPS://host/a@b.tif'),
        ('/vsicurl/https://host/a.tif?sig=S3CRET', '/vsicurl/https://host/a.tif'),
        ('/vsicurl?token=S3CRET&url=https%3A%2F%2Fhost', '/vsicurl'),
        ("cannot open 's3://b/a.tif?x=S3CRET': 404", "cannot open 's3://b/a.tif': 404"),
        (
            'https://h/a.tif?sig=S3CRET: no such file (https://h/b?S3CRET)',
            'https://h/a.tif: no such file (https://h/b)',
        ),
        ('why? see a@b.de, a?b.tif and /data/a#1.tif', 'why? see a@b.de, a?b.tif and /data/a#1.tif'),
    ],
)
def test_texts(text, shown):
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize('kind', [SceneError, BandError, ReadError])
def test_errors(kind):
    error = kind('https://host/a.tif?sig=S3CRET: is damaged')
    assert str(error) == 'https://host/a.tif: is damaged'


@pytest.fixture
def address(tmp_path, monkeypatch):
    """Serve a folder over HTTP to those who name themselves."""
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, '127.0.0.1')

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def send_head(self):
            if HIDDEN in self.path:
                return super().send_head()
            return self.send_error(403)

    with ThreadingHTTPServer(('127.0.0.1', 0), partial(Handler, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_signed_scene_is_classified_and_its_token_is_in_no_file(geores, bundle, tmp_path, address):
    write_scene(tmp_path / 'signed.tif', height=64, width=96)
    scene = f'{address}/signed.tif?sig={HIDDEN}'
    answer = geores(
        'classify', scene, '--mask', f'{address}/signed.tif?n=1&sig={HIDDEN}', '--bands', 'red,green,blue',
        '--model', bundle, '--out', tmp_path / 'out',
    )  # fmt: skip
    assert answer.code == 2  # a mask has one band
    assert HIDDEN not in answer.out + answer.err
    answer = geores('classify', scene, '--model', bundle, '--out', tmp_path / 'out')
    assert answer.code == 0, answer
    assert HIDDEN not in answer.out + answer.err
    assert f'{address}/signed.tif' in (tmp_path / 'out' / 'run.json').read_text()
    assert len(hold_files(tmp_path / 'out')) == 8
    for name in hold_files(tmp_path / 'out'):
        assert HIDDEN.encode() not in (tmp_path / 'out' / name).read_bytes()


def test_errors_of_a_signed_scene(geores, bundle, tmp_path, address):
    (tmp_path / 'text.tif').write_text('no raster')
    for name in ('text.tif', 'missing.tif'):
        answer = geores('info', f'{address}/{name}?sig={HIDDEN}')
        assert answer.code == 2
        assert f'{address}/{name}' in answer.err
        assert HIDDEN not in answer.out + answer.err


def test_a_new_token_does_not_make_it_another_scene(tmp_path, address):
    write_scene(tmp_path / 'signed.tif', height=64, width=96)
    first, second = (open_scene(f'{address}/signed.tif?{n}={HIDDEN}') for n in (1, 2))
    assert first.fingerprint == second.fingerprint
    assert HIDDEN not in repr(first)
