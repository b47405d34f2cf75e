import warnings
from pathlib import Path

import numpy as np
import onnx
import rasterio
import yaml
from onnx import TensorProto, helper, numpy_helper
from rasterio.errors import NotGeoreferencedWarning

TEACHER = Path(__file__).parents[2] / 'shared' / 'data' / 'weights' / 'dynamicworld.onnx'
BANDS = ['B03', 'B08']
LABELS = ['water', 'trees']
SIDE = 32


def write(path, values, descriptions=None, **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values[None] if values.ndim == 2 else values
    count, height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        with rasterio.open(
            path, 'w', driver='GTiff', count=count, height=height, width=width, dtype=values.dtype, **profile
        ) as target:
            target.write(values)
            if descriptions:
                target.descriptions = descriptions


def name_classes(path, names):
    categories = ''.join(f'<Category>{name}</Category>' for name in ['', *names])
    text = (
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{categories}'
        '</CategoryNames></PAMRasterBand></PAMDataset>'
    )
    path.with_name(path.name + '.aux.xml').write_text(text)


def pairs(root, count=12, masks=True, labels=LABELS):
    """Water where B03 is above B08, trees elsewhere, and a corner that nobody labelled."""
    rng = np.random.default_rng(0)
    for index in range(count):
        wet = np.zeros((SIDE, SIDE), bool)
        row, col = rng.integers(4, SIDE - 4, 2)
        wet[:row, :col] = True
        image = np.where(wet, np.array([[[900]], [[300]]]), np.array([[[500]], [[2600]]]))
        image = (image + rng.normal(0, 30, image.shape)).astype(np.uint16)
        write(root / 'images' / f'{index:02}.tif', image, BANDS)
        if masks:
            classes = np.where(wet, 1, 2).astype(np.uint8)
            classes[-3:, -3:] = 0
            path = root / 'masks' / f'{index:02}.tif'
            write(path, classes)
            name_classes(path, labels)
    return root


def onnx_teacher(path, weight, bias, layout='NCHW'):
    """A 1 x 1 convolution from bands to logits."""
    conv = helper.make_node('Conv', ['x', 'w', 'b'], ['y'])
    names = ['n', 2, 'h', 'w_'] if layout == 'NCHW' else ['n', 'h', 'w_', 2]
    nodes, ends = [conv], ('x', 'y')
    if layout == 'NHWC':
        nodes = [
            helper.make_node('Transpose', ['in'], ['x'], perm=[0, 3, 1, 2]),
            conv,
            helper.make_node('Transpose', ['y'], ['out'], perm=[0, 2, 3, 1]),
        ]
        ends = ('in', 'out')
    graph = helper.make_graph(
        nodes,
        'teacher',
        [helper.make_tensor_value_info(ends[0], TensorProto.FLOAT, names)],
        [helper.make_tensor_value_info(ends[1], TensorProto.FLOAT, names)],
        [
            numpy_helper.from_array(np.asarray(weight, np.float32)[..., None, None], 'w'),
            numpy_helper.from_array(np.asarray(bias, np.float32), 'b'),
        ],
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid('', 13)]), path)
    return str(path)


def settings(root, **model):
    return {
        'seed_everything': 1,
        'data': {
            'class_path': 'geores.datasets.GeoTIFFPairsDataModule',
            'init_args': {'root': str(root), 'batch_size': 4, 'val_share': 0.25},
        },
        'model': {
            'class_path': 'geores.tasks.SemanticSegmentation',
            'init_args': {
                'architecture': 'dynamic_world',
                'architecture_kwargs': {'widths': [8, 8, 8, 8]},
                'learning_rate': 0.01,
                **model,
            },
        },
        'trainer': {'max_epochs': 12, 'check_val_every_n_epoch': 6, 'accelerator': 'cpu'},
        'export': {
            'class_path': 'geores.tasks.ExportSegmentation',
            'init_args': {
                'name': 'pixels',
                'description': 'Water and trees.',
                'sensor': 'Sentinel-2 MSI',
                'processing_level': 'L2A',
                'units': 'reflectance*10000',
                'gsd': [8, 12],
                'training_data': 'Generated.',
                'licence': 'MIT',
            },
        },
    }


def config(path, **kwargs):
    path.write_text(yaml.safe_dump(settings(**kwargs)))
    return ['--config', str(path)]
