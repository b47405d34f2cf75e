"""Text from files reaches terminals and tables as text: no control characters, no formulas."""

import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geores.cli.common import escaped_output
from geores.errors import BundleError, SceneError, UsageError, printable
from geores.io.tables import csv_cell, csv_frame, read_text_table

from .fixtures import write_scene

EVIL = '\x1b[2J\x1b]0;owned\x07wood\u202edoow\x9b31m'


@given(st.text())
def test_printable_text_steers_nothing(text):
    shown = printable(text)
    assert not set(shown) & {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), 0x202E)}
    shown.encode()
    assert printable(shown) == shown


def test_errors_hold_no_control_characters():
    assert str(UsageError(f'{EVIL}: no such file')).startswith(r'\x1b[2J\x1b]0;owned\x07wood\u202e')


@pytest.mark.parametrize('ending', ['.tif', '.gpkg', ''])
def test_names_of_files_in_messages(geores, tmp_path, ending):
    path = tmp_path / f'{EVIL}{ending}'
    path.write_bytes(b'nothing')
    for command in (('info', path), ('classify', path, '--out', tmp_path / 'o', '--model', 'aerial-rgb')):
        answer = geores(*command)
        assert answer.code == 2
        assert answer.err.count('\n') == 1
        assert not set(answer.err + answer.out) & {'\x1b', '\x07', '\u202e', '\x9b'}


def test_names_of_scenes_and_bands_in_what_is_printed(geores, tmp_path):
    path = write_scene(tmp_path / f'{EVIL}.tif', height=32, width=32)
    with rasterio.open(path, 'r+') as file:
        file.descriptions = (EVIL, '\x1b[8m', 'x')
    for flags in ((), ('--json',)):
        answer = geores('info', path, *flags)
        assert answer.code == 0
        assert 'wood' in answer.out
        assert not set(answer.err + answer.out) & {'\x1b', '\x07', '\u202e', '\x9b'}


class _Screen(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_colours_alone(monkeypatch):
    screen = _Screen()
    monkeypatch.setattr(sys, 'stdout', screen)
    with escaped_output():
        print('\x1b[1mbold\x1b[0m \x1b]0;title\x07 \x1b[?25l')
        print('\r 50 %', end='')
    assert sys.stdout is screen
    assert screen.getvalue() == '\x1b[1mbold\x1b[0m \\x1b]0;title\\x07 \x1b[?25l\n\r 50 %'


@pytest.mark.parametrize('change', [
    {'labels': ['a\x1b[2J', 'b']},
    {'labels': ['a\nb', 'b']},
    {'bands': ['red', 'green', 'bl\x07ue']},
    {'description': '\x9b2J'},
    {'licence': 'x\u202e'},
])  # fmt: skip
def test_a_card_holds_no_control_characters(bundle, tmp_path, change):
    from geores.card import ModelCard

    card = json.loads((bundle / 'card.json').read_text())
    (tmp_path / 'card.json').write_text(json.dumps(card | change))
    with pytest.raises(BundleError, match='control characters') as raised:
        ModelCard.load(tmp_path / 'card.json')
    assert str(raised.value).isprintable()


FORMULAS = ['=1+1', '+49 30', '-cmd', '@SUM(A1)', '=HYPERLINK("x","y")', "'=1", '\t=1', '-']


@pytest.mark.parametrize('text', FORMULAS)
def test_no_cell_is_a_formula(text):
    assert str(csv_cell(text))[0] not in '=+-@\t\r'


@given(st.lists(st.one_of(st.text(st.characters(codec='ascii', categories=['L', 'N', 'P', 'S', 'Zs'])),
                          st.sampled_from(FORMULAS[:6])), min_size=1, max_size=6))  # fmt: skip
def test_guarded_texts_are_read_as_they_were(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp('csv') / 'a.csv'
    frame = pd.DataFrame({'id': [f'k{i}' for i in range(len(texts))], '=name': texts})
    csv_frame(frame).to_csv(path, index=False)
    found = read_text_table(path, ',')
    assert list(found.columns) == ['id', '=name']
    assert [str(one or '') for one in found['=name'].replace({np.nan: None})] == texts or found[
        '=name'
    ].dtype.kind in 'if'


def test_numbers_of_tables_stay():
    frame = pd.DataFrame({'value': [-1.5, 2.0], 'text': ['-2.5', '=x']}, index=['a', '=b'])
    assert csv_frame(frame).to_csv() == ",value,text\na,-1.5,-2.5\n'=b,2.0,'=x\n"


def test_a_folder_with_such_a_name_is_said(tmp_path):
    from geores.scenes import open_scene

    (tmp_path / '\x1b[2Jx').mkdir()
    with pytest.raises(SceneError) as raised:
        open_scene(tmp_path / '\x1b[2Jx')
    assert str(raised.value).isprintable()
