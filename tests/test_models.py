import pytest
import torch
from torch import nn

from geores import models
from geores.errors import UsageError
from geores.models.indices import NormalisedDifferences


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


def spectra():
    return NormalisedDifferences([[1, 0], [0, 2]], mean=[1000.0, 2000.0, 500.0], std=[500.0, 800.0, 300.0])


def test_indices_are_those_of_the_values():
    values = torch.rand(2, 3, 8, 8) * 3000 + 100
    module = spectra()
    seen = module((values - module.mean) / module.std)
    torch.testing.assert_close(seen[:, :3] * module.std + module.mean, values)
    ndvi = (values[:, 1] - values[:, 0]) / (values[:, 1] + values[:, 0])
    torch.testing.assert_close(seen[:, 3], 2 * ndvi, atol=1e-5, rtol=1e-5)
    brighter = module((values * 2 - module.mean) / module.std)
    torch.testing.assert_close(brighter[:, 3:], seen[:, 3:], atol=1e-5, rtol=1e-5)


def test_indices_of_dark_pixels_are_bounded():
    module = spectra()
    seen = module(torch.stack([-module.mean / module.std, -2 * module.mean / module.std]))
    assert seen[:, 3:].isfinite().all()
    assert seen[:, 3:].abs().max() <= 2


@pytest.mark.parametrize('architecture', ['efficientnet_lite0', 'tf_efficientnet_lite0'])
@pytest.mark.parametrize('stride', [1, 2])
def test_a_network_that_sees_indices(architecture, stride):
    indices = {'pairs': [[1, 0]], 'mean': [1.0, 2.0, 3.0], 'std': [1.0, 1.0, 1.0]}
    kwargs = {'in_chans': 3, 'num_classes': 4, 'stem_stride': stride}
    plain = models.create(architecture, **kwargs).eval()
    seeing = models.create(architecture, **kwargs, indices=indices).eval()
    assert plain.state_dict().keys() == seeing.state_dict().keys()
    # Blind to its indices, it is the plain one.
    weights = dict(plain.state_dict())
    stem = weights['conv_stem.weight']
    weights['conv_stem.weight'] = torch.cat([stem, torch.zeros_like(stem[:, :1])], 1)
    seeing.load_state_dict(weights)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(seeing(images), plain(images))


@pytest.mark.parametrize(
    'indices',
    [
        {'pairs': [[0, 3]], 'mean': [1.0] * 3, 'std': [1.0] * 3},
        {'pairs': [[0, 0]], 'mean': [1.0] * 3, 'std': [1.0] * 3},
        {'pairs': [[0]], 'mean': [1.0] * 3, 'std': [1.0] * 3},
        {'pairs': [[0, 1]], 'mean': [1.0] * 3, 'std': [1.0] * 2},
        {'pairs': [[0, 1]], 'mean': [1.0] * 2, 'std': [1.0] * 2},
    ],
)
def test_indices_that_cannot_be(indices):
    with pytest.raises(UsageError, match='indices'):
        models.create('efficientnet_lite0', in_chans=3, num_classes=2, indices=indices)
