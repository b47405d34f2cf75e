import pytest
import torch
from torch import nn

from geores import models
from geores.errors import UsageError


@pytest.mark.parametrize(('name', 'bands'), [('resnet10t', 1), ('resnet18', 10)])
def test_resnets_take_any_number_of_bands(name, bands):
    network = models.create(name, in_chans=bands, num_classes=4).eval()
    assert network(torch.zeros(2, bands, 32, 32)).shape == (2, 4)


def test_same_arguments_give_same_modules():
    one, two = (models.create('resnet10t', in_chans=2, num_classes=3) for _ in range(2))
    shapes = [{name: part.shape for name, part in n.state_dict().items()} for n in (one, two)]
    assert shapes[0] == shapes[1]


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UsageError, match="'resent18': did you mean 'resnet18'"):
        models.create('resent18')


@pytest.mark.parametrize(
    'argument', ['checkpoint_path', 'pretrained_cfg', 'cache_dir', 'features_only', 'block']
)
def test_arguments_that_reach_outside_are_refused(argument):
    with pytest.raises(UsageError, match=argument):
        models.create('resnet18', **{argument: 'x'})


@pytest.mark.parametrize('kwargs', [{'in_chans': -1}, {'act_layer': 'none such'}])
def test_odd_arguments_are_usage_errors_of_one_line(kwargs):
    with pytest.raises(UsageError) as error:
        models.create('resnet18', **kwargs)
    assert '\n' not in str(error.value)


def test_register_and_list():
    name = 'test-models-linear'

    @models.register(name)
    def build(width: int) -> nn.Module:
        return nn.Linear(width, 1)

    assert name in models.architectures()
    assert models.create(name, width=3).in_features == 3
    with pytest.raises(UsageError, match='registered already'):
        models.register(name)(build)
