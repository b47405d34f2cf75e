import pytest
import torch
from torch import nn

from geores import models
from geores.errors import UsageError
from geores.models.lite import LITE0, LiteNetwork


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


@pytest.mark.parametrize('size', [(64, 64), (37, 52)])
@pytest.mark.parametrize('shape', [{'num_classes': 10}, {'num_classes': 0, 'stem_stride': 1}])
def test_the_network_for_inference_answers_as_that_of_timm(size, shape):
    trained, quick = models.create(LITE0, in_chans=4, **shape).eval(), LiteNetwork(in_chans=4, **shape).eval()
    for norm in trained.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    assert list(quick.state_dict()) == list(trained.state_dict())
    quick.load_state_dict(trained.state_dict())
    images = torch.randn(2, 4, *size)
    with torch.inference_mode():
        assert torch.equal(quick(images), trained(images))
        assert torch.equal(
            quick.forward_head(quick.forward_features(images), pre_logits=True),
            trained.forward_head(trained.forward_features(images), pre_logits=True),
        )


def test_a_name_of_timm_is_taken():
    with pytest.raises(UsageError, match="'resnet18' is registered already"):
        models.register('resnet18')(lambda: torch.nn.Identity())


def test_networks_without_memory_may_draw_from_a_generator():
    with models.without_memory():
        drawn = torch.randn(2, 3, generator=torch.Generator(), dtype=torch.float64)
    assert (drawn.device.type, drawn.shape, drawn.dtype) == ('meta', (2, 3), torch.float64)
