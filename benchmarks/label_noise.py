"""Labels of Sentinel-2 patches that other models doubt: set aside where `sentinel2` is measured on the rest.

    python benchmarks/label_noise.py PATCHES --weights efficientnet-lite0-57934424.pth --out doubted

PATCHES is a folder for `geores.datasets.GeoTIFFPatches` (L2A). Three models that share nothing with the
bundle's training answer for each patch out of the fold that it lies in: boosted trees on figures of the
bands and their indices, boosted trees on the shares of land covers that the bundle `landcover` finds, and
logistic regression on features of a network that has seen ImageNet alone. Confident learning (Northcutt et
al. 2021, section 3.1) on their mean: a label is doubted where another class has at least the mean score
that patches of that class have for it. The surest are set aside, at most `--share`. Written are DOUBTED.csv
(all patches with label, other class and rank) and a sheet of pictures, drawn by chance.
"""

import argparse
from pathlib import Path

import lightgbm
import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import geores
from geores import models
from geores.datasets import GeoTIFFPatches
from geores.protocol.features import deep_features
from geores.splits import group_folds, near_duplicates
from geores.tasks.start import start_from

mpl.use('Agg')
from matplotlib import pyplot as plt

BANDS = ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12')
Floats = NDArray[np.float64]


def band_figures(images: Floats) -> Floats:
    """Mean, deviation and percentiles of bands and indices, and roughness of three bands, (N, F)."""
    blue, green, red, near, short = (
        images[:, BANDS.index(band)] for band in ('B02', 'B03', 'B04', 'B08', 'B11')
    )
    pairs = ((near, red), (green, near), (short, near), (red, blue))
    indices = [(one - other) / np.maximum(one + other, 1) for one, other in pairs]
    layers = np.concatenate([images, np.stack(indices, axis=1)], axis=1)
    flat = layers.reshape(*layers.shape[:2], -1)
    figures = [flat.mean(2), flat.std(2), *np.percentile(flat, (5, 25, 50, 75, 95), axis=2)]
    steps = [np.abs(np.diff(layers[:, [2, 6, 8]], axis=axis)).mean((2, 3)) for axis in (2, 3)]
    return np.concatenate([*figures, *steps], axis=1)


def cover_shares(data: GeoTIFFPatches) -> Floats:
    """Mean score of each land cover in the image and in its middle, by the bundle `landcover`, (N, F)."""
    model = geores.load_model('landcover')
    wanted = GeoTIFFPatches(data.images.paths[0].parents[1], model.card.bands)
    rows = []
    for start in range(0, len(wanted), 50):
        stop = min(start + 50, len(wanted))
        images = np.stack([wanted[index]['image'].numpy() for index in range(start, stop)])
        scores = np.asarray(model.predict(images))
        rows.append(np.concatenate([scores.mean((2, 3)), scores[:, :, 24:40, 24:40].mean((2, 3))], axis=1))
    return np.concatenate(rows)


def colour_features(data: GeoTIFFPatches, weights: str) -> Floats:
    """Features of true colour by a network as trained on ImageNet, (N, 1280)."""
    network = models.create('tf_efficientnet_lite0', in_chans=3, num_classes=0, stem_stride=1)
    start_from(network, weights)
    pictures = [np.clip(data.images[index][[2, 1, 0]] / 3000.0 * 255, 0, 255) for index in range(len(data))]
    return deep_features(network, pictures, (127,) * 3, (128,) * 3).astype(np.float64)


def trees() -> lightgbm.LGBMClassifier:
    return lightgbm.LGBMClassifier(
        n_estimators=150, learning_rate=0.05, num_leaves=15, min_child_samples=5, colsample_bytree=0.4,
        subsample=0.8, subsample_freq=1, n_jobs=1, verbose=-1, random_state=0,
    )  # fmt: skip


def sheet(path: Path, table: pd.DataFrame, folder: Path, count: int) -> None:
    """Pictures of doubted patches, each with its label and the class that the models see in it."""
    some = table[table.doubted].sample(min(count, int(table.doubted.sum())), random_state=0)
    figure, axes = plt.subplots(6, 10, figsize=(20, 13.5), layout='constrained')
    for axis in axes.flat:
        axis.axis('off')
    for axis, row in zip(axes.flat, some.itertuples(), strict=False):
        image = GeoTIFFPatches(folder, ('B04', 'B03', 'B02')).images._read(folder / 'images' / str(row.file))
        low, high = np.percentile(image, (1, 99))
        axis.imshow(np.clip((image.transpose(1, 2, 0) - low) / max(high - low, 400), 0, 1))
        axis.set_title(f'{row.file[6:10]} label {row.label}\nmodels: {row.other} {row.score:.2f}', fontsize=9)
    figure.savefig(path, dpi=60)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('patches', type=Path)
    parser.add_argument('--weights', required=True, help='of EfficientNet-Lite0, trained on ImageNet')
    parser.add_argument('--out', type=Path, default=Path('doubted'))
    parser.add_argument('--share', type=float, default=0.15, help='most that is set aside')
    args = parser.parse_args()
    torch.manual_seed(0)
    data = GeoTIFFPatches(args.patches, BANDS)
    data.images.load()
    groups = near_duplicates(data.images[index] for index in range(len(data))).tolist()
    folds = group_folds(data.ids, data.strata, groups, 5, 1)  # other folds than the bundle's
    images = np.stack([data.images[index] for index in range(len(data))]).astype(np.float64)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=500))
    views = {
        'bands': (band_figures(images), trees()),
        'land covers': (np.concatenate([cover_shares(data), images.mean((2, 3))], axis=1), trees()),
        'colours': (colour_features(data, args.weights), linear),
    }
    target, scores = data.targets, {}
    for name, (features, model) in views.items():
        found = np.zeros((len(data), len(data.labels)))
        for fold in folds:
            model.fit(features[fold.train], target[fold.train])
            found[np.ix_(fold.val, model.classes_)] = model.predict_proba(features[fold.val])
        scores[name] = found
        print(f'{name}: {(found.argmax(1) == target).mean():.3f} out of fold')
    mean = np.mean(list(scores.values()), axis=0)
    print(f'mean of the three: {(mean.argmax(1) == target).mean():.3f}')
    # The mean score of each class over the patches that have it as their label.
    usual = np.array([mean[target == label, label].mean() for label in range(len(data.labels))])
    reached = np.where(mean >= usual, mean, 0)
    other = reached.argmax(1)
    doubtful = (other != target) & (reached.max(1) > 0)
    margin = np.where(doubtful, mean.max(1) - mean[np.arange(len(data)), target], -1)
    aside = np.argsort(-margin, kind='stable')[: min(int(doubtful.sum()), int(args.share * len(data)))]
    table = pd.DataFrame(
        {
            'file': [Path(one).name for one in data.ids],
            'label': data.strata,
            'other': np.array(data.labels)[other],
            'score': mean.max(1).round(4),
            'margin': margin.round(4),
            'doubted': np.isin(np.arange(len(data)), aside),
        }
    )
    table.to_csv(args.out.with_suffix('.csv'), index=False)
    args.out.with_suffix('.txt').write_text('\n'.join(table.file[table.doubted]) + '\n', encoding='utf-8')
    print(f'{int(doubtful.sum())} labels are doubted, {len(aside)} of {len(data)} set aside')
    print(
        table[table.doubted]
        .groupby(['label', 'other'])
        .size()
        .sort_values(ascending=False)
        .head(15)
        .to_string()
    )
    sheet(args.out.with_suffix('.png'), table, args.patches, 60)


if __name__ == '__main__':
    main()
