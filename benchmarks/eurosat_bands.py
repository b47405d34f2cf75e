"""Ten-band images of EuroSAT from its RGB pictures and from figures of its other bands.

    python benchmarks/eurosat_bands.py EUROSAT PATCHES OUT

EUROSAT has a folder of JPEGs per class and `statistics.parquet` (per picture, mean, std, p10, p50 and p90
of each band in L1C digital numbers), PATCHES GeoTIFFs of Sentinel-2 L2A with all bands. A small network
learns on the patches how the other bands vary within an image, given red, green and blue and the figures of
all bands; for a picture of EuroSAT the figures then set the mean and the deviation of what it drew. OUT
becomes a folder for `geores.datasets.GeoTIFFPatches` (`images/` and `labels.csv`); pictures without figures
are left out, and counted. What the network explains on patches that it was not trained on is printed, band
by band.
"""

import argparse
import csv
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import torch
from torch import Tensor, nn
from torch.nn import functional

from geores.datasets._geotiff import read_geotiff
from geores.datasets._module import read_rgb

BANDS = ('B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12')
FIGURES = ('mean', 'std', 'p10', 'p50', 'p90')
# From the 8 bits of a picture of EuroSAT to digital numbers of L1C, band by band; 255 is where they saturate.
PICTURE = {'B04': (11.12, -30.0), 'B03': (10.97, -22.0), 'B02': (11.04, -30.0)}
# From L2A to L1C, between class medians of EuroSAT and of labelled patches: for levels alone.
SLOPES = (0.66, 0.64, 0.67, 0.76, 0.78, 0.82, 0.79, 0.79, 0.86, 0.83)
OFFSETS = (810, 573, 487, 369, 318, 338, 246, 246, 353, 228)


class BandsFromRGB(nn.Module):
    """Draws how seven bands vary within an image from the three visible ones and figures of all ten.

    Args:
        width: channels of the hidden layers.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.known = nn.Sequential(
            nn.Linear(len(BANDS) * len(FIGURES), 64), nn.ReLU(), nn.Linear(64, 4 * width + 21)
        )
        self.width = width
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 7, 3, padding=1)

    def forward(self, visible: Tensor, figures: Tensor) -> Tensor:
        """Other bands, in deviations from their mean.

        Args:
            visible: (N, 3, H, W), B02, B03 and B04, each of mean 0 and deviation 1 within the image.
            figures: (N, 50), as `describe` gives them.

        Returns:
            (N, 7, H, W); about of mean 0 and deviation 1 within the image.
        """
        known = self.known(figures)
        scale1, shift1, scale2, shift2 = known[:, : 4 * self.width, None, None].chunk(4, dim=1)
        hidden = functional.relu(self.first(visible) * (1 + scale1) + shift1)
        hidden = functional.relu(self.second(hidden) * (1 + scale2) + shift2)
        linear = torch.einsum('nkc,nchw->nkhw', known[:, 4 * self.width :].view(-1, 7, 3), visible)
        drawn: Tensor = self.last(hidden) + linear
        return drawn


def standardised(images: Tensor) -> Tensor:
    """Images (N, C, H, W) with mean 0 and deviation 1 of each band within each image."""
    centred = images - images.mean((2, 3), keepdim=True)
    return centred / centred.square().mean((2, 3), keepdim=True).sqrt().clamp_min(1e-3)


def figures_of(images: Tensor) -> Tensor:
    """Mean, deviation and percentiles of each band, (N, C, 5), in the images' units."""
    flat = images.flatten(2)
    percentiles = torch.quantile(flat, torch.tensor([0.1, 0.5, 0.9]), dim=2).permute(1, 2, 0)
    return torch.cat([flat.mean(2, keepdim=True), flat.std(2, keepdim=True), percentiles], dim=2)


def describe(figures: Tensor) -> Tensor:
    """What the network is told of an image, (N, 50): levels and contrast on a scale of about 1.

    Args:
        figures: (N, 10, 5), mean, deviation and percentiles in digital numbers of L1C.
    """
    mean, std = figures[..., 0], figures[..., 1].clamp_min(1)
    shape = (figures[..., 2:] - mean[..., None]) / std[..., None]
    return torch.cat([mean.clamp_min(1).log() - 7, std.log() - 5, shape.clamp(-3, 3).flatten(1)], dim=1)


def learn(patches: list[Path], epochs: int) -> BandsFromRGB:
    """Train the network; every tenth patch is kept to measure what it explains, which is printed.

    Args:
        patches: GeoTIFFs with the ten bands, L2A.
        epochs: passes over the patches.
    """
    slope, offset = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (SLOPES, OFFSETS))
    images = torch.stack([torch.from_numpy(read_geotiff(path, BANDS).astype(np.float32)) for path in patches])
    kept = torch.arange(len(images)) % 10 == 0
    train, test = images[~kept], images[kept]
    network = BandsFromRGB()
    rate, size = 4e-3, 16
    optimizer = torch.optim.Adam(network.parameters(), rate)
    steps = epochs * (len(train) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for epoch in range(epochs):
        order = torch.randperm(len(train))
        for batch in order[: len(train) // size * size].view(-1, size):
            # The atmosphere of each image is another: levels vary about the known line.
            vary = 1 + 0.1 * (torch.rand(size, len(BANDS), 1, 1) - 0.5)
            top = (train[batch] * slope + offset) * vary
            visible, figures = inputs(top)
            row, col = torch.randint(0, 33, (2,)).tolist()
            part = np.s_[:, :, row : row + 32, col : col + 32]  # a quarter of each image is enough at a time
            loss = functional.mse_loss(network(visible[part], figures), standardised(top)[:, 3:][part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f'epoch {epoch + 1}: {loss.item():.3f}', flush=True)
    network.eval()
    with torch.inference_mode():
        parts = [part * slope + offset for part in test.split(64)]
        drawn = [standardised(network(*inputs(part))) - standardised(part)[:, 3:] for part in parts]
        errors = torch.cat(drawn).square().mean((2, 3))
    explained = ', '.join(
        f'{band} {1 - float(error):.2f}' for band, error in zip(BANDS[3:], errors.mean(0), strict=True)
    )
    print(f'explained of the variance within an image on {len(test)} patches kept apart: {explained}')
    return network


def inputs(top: Tensor) -> tuple[Tensor, Tensor]:
    """The two inputs of the network, as pictures of EuroSAT would give them.

    Args:
        top: (N, 10, H, W), digital numbers of L1C.
    """
    saturated = top[:, :3].clamp(max=2800)
    return standardised((saturated / 11).round()), describe(figures_of(top))


def picture_numbers(path: Path) -> Tensor:
    """Digital numbers of L1C of a picture of EuroSAT, (3, H, W): B02, B03 and B04."""
    red, green, blue = torch.from_numpy(read_rgb(path).astype(np.float32))
    colours = {'B02': blue, 'B03': green, 'B04': red}
    return torch.stack([colours[band] * PICTURE[band][0] + PICTURE[band][1] for band in BANDS[:3]])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ('eurosat', 'patches', 'out'):
        parser.add_argument(name, type=Path)
    parser.add_argument('--epochs', type=int, default=5, help='of the small network')
    args = parser.parse_args()
    torch.manual_seed(0)
    statistics = pd.read_parquet(args.eurosat / 'statistics.parquet').set_index('name')
    columns = [f'{band}_{figure}' for band in BANDS for figure in FIGURES]
    table = dict(zip(statistics.index, statistics[columns].to_numpy(np.float32), strict=True))
    paths = sorted(args.eurosat.glob('*/*.jpg'))
    known = [path for path in paths if path.stem in table]
    network = learn(sorted(args.patches.glob('*.tif')), args.epochs)
    images = args.out / 'images'
    images.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter('ignore', rasterio.errors.NotGeoreferencedWarning)
    profile = {
        'driver': 'GTiff',
        'height': 64,
        'width': 64,
        'count': len(BANDS),
        'dtype': 'uint16',
        'compress': 'lzw',
    }
    for start in range(0, len(known), 64):
        batch = known[start : start + 64]
        visible = torch.stack([picture_numbers(path) for path in batch])
        figures = torch.from_numpy(np.stack([table[path.stem] for path in batch])).view(
            -1, len(BANDS), len(FIGURES)
        )
        with torch.inference_mode():
            others = standardised(network(standardised(visible), describe(figures)))
        others = others * figures[:, 3:, 1, None, None] + figures[:, 3:, 0, None, None]
        values = torch.cat([visible, others], dim=1).round().clamp(1, 65535).numpy().astype(np.uint16)
        for path, pixels in zip(batch, values, strict=True):
            with rasterio.open(images / f'{path.stem}.tif', 'w', **profile) as target:
                target.write(pixels)
                target.descriptions = BANDS
    with (args.out / 'labels.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows(
            [('file', 'label'), *((f'{path.stem}.tif', path.parent.name) for path in known)]
        )
    print(
        f'{len(known)} images in {args.out}; {len(paths) - len(known)} pictures without figures were left out'
    )


if __name__ == '__main__':
    main()
