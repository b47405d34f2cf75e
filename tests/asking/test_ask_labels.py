"""Questions about what a label of `aerial-rgb` names, in imagery of fine pixels."""

import pytest

import geores

from ..scene_fixtures import pixels, write_tiff


@pytest.fixture(scope='module')
def answers(tmp_path_factory):
    path = tmp_path_factory.mktemp('aerial') / 'a.tif'
    write_tiff(path, pixels(3, 256, 256, 'uint8'), resolution=0.6, photometric='RGB')
    return geores.ask(path, ['Is there an airplane?', 'Is there a ship?', 'Is there a village green?'])


def test_labels_answer_what_they_name(answers):
    for answer, label in zip(answers, ('airplane', 'ship'), strict=False):
        assert answer.answer in {'yes', 'no'}
        assert f"by the label '{label}'" in answer.text
        assert answer.source == 'aerial-rgb'
        assert 0.5 <= answer.probability <= 1


def test_what_no_label_names_is_not_answered_by_one(answers):
    assert 'by the label' not in answers[2].text


def test_an_answer_is_that_of_the_labels_of_classify(tmp_path):
    path = tmp_path / 'b.tif'
    write_tiff(path, pixels(3, 256, 256, 'uint8', seed=3), resolution=0.6, photometric='RGB')
    shares = geores.classify(path, model='aerial-rgb').shares
    answer = geores.ask(path, 'Is there an airplane?')
    assert (answer.answer == 'yes') == (shares['airplane'] > 0)
