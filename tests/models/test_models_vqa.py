import pytest
import torch
from torch import nn
from torch.nn import functional

from geores import models
from geores.errors import UsageError
from geores.models.features import FeatureMap
from geores.models.fusion import make_fusion
from geores.models.text import RecurrentText, TransformerText, make_text_encoder
from geores.models.vqa import FusionHead

pytestmark = pytest.mark.usefixtures('one_thread')

FUSIONS = ('product', 'attention')


def tiny_head(name='attention', **text):
    return FusionHead(
        6, 3, 12, 5, text_kwargs={'width': 8, 'embedding': 4} | text, fusion=name, fusion_kwargs={'width': 8}
    ).eval()


# --- text


@pytest.mark.parametrize('pooling', ['last', 'mean', 'attention'])
@pytest.mark.parametrize('bidirectional', [False, True])
@pytest.mark.parametrize('cell', ['gru', 'lstm'])
def test_padding_changes_no_question(cell, bidirectional, pooling):
    torch.manual_seed(0)
    encoder = RecurrentText(9, 8, 4, cell, bidirectional=bidirectional, pooling=pooling)
    tokens = torch.tensor([[3, 4, 5, 0, 0], [1, 2, 3, 4, 5]])
    both = encoder(tokens, torch.tensor([3, 5]))
    alone = encoder(tokens[:1, :3], torch.tensor([3]))
    assert both.shape == (2, encoder.out_features) == (2, 8)
    torch.testing.assert_close(both[:1], alone)


def test_last_state_of_two_directions_is_torchs():
    torch.manual_seed(0)
    encoder = RecurrentText(9, 8, 4, bidirectional=True)
    tokens = torch.tensor([[3, 4, 5]])
    out, _ = encoder.recurrent(encoder.embedding(tokens))
    torch.testing.assert_close(
        encoder(tokens, torch.tensor([3])), torch.cat([out[:, -1, :4], out[:, 0, 4:]], 1)
    )


def test_text_encoders_refuse_what_they_are_not():
    for arguments in ({'cell': 'rnn'}, {'pooling': 'max'}, {'width': 7, 'bidirectional': True}):
        with pytest.raises(UsageError):
            make_text_encoder('recurrent', 9, **arguments)
    with pytest.raises(UsageError, match='recurrent, transformer'):
        make_text_encoder('bert', 9)
    with pytest.raises(UsageError, match='model_type'):
        TransformerText(9)


def test_a_transformer_is_rebuilt_by_its_configuration():
    config = {
        'model_type': 'bert',
        'vocab_size': 20,
        'hidden_size': 8,
        'num_hidden_layers': 1,
        'num_attention_heads': 2,
        'intermediate_size': 8,
    }
    first = TransformerText(20, config).eval()
    again = TransformerText(20, first.config).eval()
    again.load_state_dict(first.state_dict())
    tokens, lengths = torch.tensor([[3, 4, 0], [3, 4, 5]]), torch.tensor([2, 3])
    torch.testing.assert_close(first(tokens, lengths), again(tokens, lengths))
    torch.testing.assert_close(first(tokens, lengths)[:1], first(tokens[:1, :2], lengths[:1]))
    assert not any(one.requires_grad for one in first.parameters())
    with pytest.raises(UsageError, match='knows 20 tokens'):
        TransformerText(30, config)


# --- fusion


@pytest.mark.parametrize('name', FUSIONS)
def test_image_and_question_both_change_the_answer(name):
    torch.manual_seed(0)
    head = tiny_head(name)
    features, tokens = torch.randn(2, 6, 3, 3), torch.tensor([[3, 4, 5], [6, 7, 8]])
    lengths = torch.tensor([3, 3])
    logits = head(features, tokens[[0, 0, 1]], lengths[[0, 0, 1]], torch.tensor([0, 1, 0]))
    assert logits.shape == (3, 5)
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2])
    alone = head(features[1:], tokens[:1], lengths[:1])
    torch.testing.assert_close(logits[1:2], alone)


@pytest.mark.parametrize('name', FUSIONS)
def test_every_weight_of_a_head_learns(name):
    torch.manual_seed(0)
    head = tiny_head(name)
    head(torch.randn(2, 6, 3, 3), torch.tensor([[3, 4], [5, 6]]), torch.tensor([2, 2])).sum().backward()
    assert all(one.grad is not None for one in head.parameters())


def test_attention_knows_place_and_amount():
    torch.manual_seed(0)
    head = tiny_head('attention')
    tokens, lengths = torch.tensor([[3, 4]]), torch.tensor([2])
    maps = torch.zeros(3, 6, 3, 3)
    maps[0, :, 0, 0] = maps[1, :, 2, 2] = maps[2, :, 0, :] = 5.0
    left, right, more = head(maps, tokens.expand(3, 2), lengths.expand(3))
    assert not torch.allclose(left, right)
    assert not torch.allclose(left, more)


def test_attention_takes_maps_of_any_size_and_vectors_only_theirs():
    arguments = torch.tensor([[3, 4]]), torch.tensor([2])
    assert tiny_head('attention')(torch.randn(1, 6, 5, 5), *arguments).shape == (1, 5)
    with pytest.raises(UsageError, match='3 x 3'):
        tiny_head('product')(torch.randn(1, 6, 5, 5), *arguments)


@pytest.mark.parametrize(
    ('name', 'kwargs'),
    [
        ('sum', {}),
        ('attention', {'glimpses': 3}),
        ('product', {'flat': 4}),
    ],
)
def test_fusions_refuse_what_they_are_not(name, kwargs):
    with pytest.raises(UsageError):
        make_fusion(name, 6, 3, 8, **kwargs)


# --- the published model (Lobry et al. 2020)


def test_the_published_head_has_the_published_shapes():
    with torch.device('meta'):
        low = FusionHead(2048, 8, 500, 10, text_kwargs={'width': 2400})
        high = FusionHead(2048, 16, 500, 99, text_kwargs={'width': 2400})
    shapes = {name: tuple(one.shape) for name, one in low.named_parameters() if not name.startswith('text.')}
    assert shapes == {
        'fusion.reduce.weight': (32, 2048, 1, 1),
        'fusion.reduce.bias': (32,),
        'fusion.image.weight': (1200, 2048),
        'fusion.image.bias': (1200,),
        'fusion.text.weight': (1200, 2400),
        'fusion.text.bias': (1200,),
        'classifier.1.weight': (256, 1200),
        'classifier.1.bias': (256,),
        'classifier.4.weight': (10, 256),
        'classifier.4.bias': (10,),
    }
    assert high.fusion.reduce.weight.shape == (8, 2048, 1, 1)
    assert [one.p for one in low.modules() if isinstance(one, nn.Dropout)] == [0.0, 0.5, 0.5, 0.5]


def test_the_published_encoder_gives_the_published_maps():
    with torch.device('meta'):
        encoder = FeatureMap(models.create('resnet152', in_chans=3, num_classes=0), range(3), 3).eval()
        assert encoder(torch.zeros(1, 3, 256, 256)).shape == (1, 2048, 8, 8)
        assert encoder(torch.zeros(1, 3, 512, 512)).shape == (1, 2048, 16, 16)


class Reference(nn.Module):
    """The published head written out, on vectors of questions."""

    def __init__(self, head):
        super().__init__()
        self.reduce, self.image, self.text = (
            getattr(head.fusion, name) for name in ('reduce', 'image', 'text')
        )
        self.first, self.second = head.classifier[1], head.classifier[4]

    def forward(self, features, text):
        image = self.image(functional.dropout(self.reduce(features).flatten(1), 0.0)).tanh()
        fused = (image * self.text(text).tanh()).tanh()
        return self.second(self.first(fused).tanh())


def test_a_step_of_the_published_head_is_that_of_plain_torch():
    torch.manual_seed(0)
    sizes = {'text_kwargs': {'width': 24}, 'fusion_kwargs': {'width': 12, 'flat': 64, 'dropout': 0.0}}
    ours = FusionHead(20, 4, 9, 5, **sizes, hidden=6, dropout=0.0)
    theirs = FusionHead(20, 4, 9, 5, **sizes, hidden=6, dropout=0.0)
    theirs.load_state_dict(ours.state_dict())
    features, target = torch.randn(7, 20, 4, 4), torch.arange(7) % 5
    tokens, lengths = torch.randint(1, 9, (7, 6)), torch.full((7,), 6)
    steps = [torch.optim.Adam(head.parameters(), 1e-3) for head in (ours, theirs)]
    functional.cross_entropy(ours(features, tokens, lengths), target).backward()
    reference = Reference(theirs)
    text = theirs.text.recurrent(theirs.text.embedding(tokens))[0][:, -1]
    functional.cross_entropy(reference(features, text), target).backward()
    for step in steps:
        step.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)
