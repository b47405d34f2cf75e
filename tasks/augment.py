"""Augmentations of whole batches, on the batch's device, with one random draw per image.

Each takes images (N, C, H, W), float32, in the dataset's units, and the names of their bands, and
returns images of the same shape, type and units.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2.functional import gaussian_blur

from geores.errors import UsageError
from geores.scenes.bands import WAVELENGTHS

# Those of aerial pictures besides, in nm.
_WAVELENGTHS = {**WAVELENGTHS, 'blue': 470.0, 'green': 550.0, 'red': 650.0}


def _draw(images: Tensor, low: float, high: float, channels: int = 1) -> Tensor:
    values = torch.empty(len(images), channels, 1, 1, device=images.device)
    return values.uniform_(low, high)


def _chosen(images: Tensor, share: float) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device) < share


def _flip(images: Tensor) -> Tensor:
    images = torch.where(_chosen(images, 0.5), images.flip(-1), images)
    return torch.where(_chosen(images, 0.5), images.flip(-2), images)


class Augmentation(nn.Module):
    """Base of the augmentations.

    Attributes:
        moves: whether it moves whole pixels and changes none, so that a mask moves with its image;
            'resampled' where it moves them by parts of a pixel, which a mask cannot follow; 'blended' where
            the labels of what it makes are nobody's but a teacher's to say.
    """

    moves: ClassVar[bool | Literal['resampled', 'blended']] = False

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:
        """Change a batch.

        Args:
            images: (N, C, H, W), float32, in the dataset's units.
            bands: names of the C bands.

        Returns:
            Images of the same shape, type and units.
        """
        raise NotImplementedError


class Dihedral(Augmentation):
    """Flips and quarter turns: each of the eight with the same chance. Images have to be square."""

    moves = True

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        images = _flip(images)
        return torch.where(_chosen(images, 0.5), images.transpose(-1, -2), images)


class Flips(Augmentation):
    """Left to right and top to bottom, each for half of the images."""

    moves = True

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        return _flip(images)


class RandomResizedCrop(Augmentation):
    """A random square of each image, brought back to the image's size: jitter of scale and place.

    Args:
        scale: smallest and largest side of the square as a share of the image's side. Above 1 the
            image is surrounded by its reflection.
        share: share of images that are changed.
    """

    moves = 'resampled'

    def __init__(self, scale: tuple[float, float] = (0.7, 1.0), share: float = 1.0) -> None:
        super().__init__()
        if not 0 < scale[0] <= scale[1]:
            raise UsageError(f'scale has to be two rising values above 0, not {scale}')
        self.scale = scale
        self.share = share

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        side = torch.where(_chosen(images, self.share), _draw(images, *self.scale), 1.0).flatten()
        centre = (1 - side)[:, None] * torch.empty(len(images), 2, device=images.device).uniform_(-1, 1)
        theta = torch.zeros(len(images), 2, 3, device=images.device)
        theta[:, 0, 0] = theta[:, 1, 1] = side
        theta[:, :, 2] = centre
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode='reflection', align_corners=False)


class Blend(Augmentation):
    """Images mixed with others of the batch: spectra that no place of the data has, for a teacher to answer.

    Args:
        share: share of images that are changed.
        most: largest part of the other image.
    """

    moves = 'blended'

    def __init__(self, share: float = 0.3, most: float = 0.5) -> None:
        super().__init__()
        if not (0 <= share <= 1 and 0 <= most <= 1):
            raise UsageError(f'share and most lie within 0 and 1, not {share} and {most}')
        self.share = share
        self.most = most

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        others = images[torch.randperm(len(images), device=images.device)]
        mixed = torch.lerp(images, others, _draw(images, 0, self.most))
        return torch.where(_chosen(images, self.share), mixed, images)


class Gain(Augmentation):
    """Brightness: one factor for all bands, and one more for each.

    Stands for sun height, shadow, season and calibration.

    Args:
        common: smallest and largest common factor, drawn evenly on a logarithmic scale.
        band: largest relative change of one band alone.
    """

    def __init__(self, common: tuple[float, float] = (0.7, 1.3), band: float = 0.1) -> None:
        super().__init__()
        if not 0 < common[0] <= common[1]:
            raise UsageError(f'common has to be two rising values above 0, not {common}')
        self.low, self.high = math.log(common[0]), math.log(common[1])
        self.band = band

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        common = _draw(images, self.low, self.high).exp()
        return images * common * _draw(images, 1 - self.band, 1 + self.band, images.shape[1])


class Haze(Augmentation):
    """Scattered light of an atmosphere that was not corrected for, stronger in short wavelengths.

    Brings surface reflectance near to what the top of the atmosphere shows (Sentinel-2 L1C): path
    reflectance falls with a power of the wavelength, between that of aerosol and 4 (Rayleigh), and
    what comes from the ground is dimmed by about as much.

    Args:
        amount: largest path reflectance at 490 nm, in the dataset's units.
        exponent: smallest and largest power.
        offset: largest added constant of a band alone, in the dataset's units.
        unit: value of a reflectance of 1 in the dataset's units.
        share: share of images that are changed.
    """

    def __init__(
        self,
        amount: float = 1400.0,
        exponent: tuple[float, float] = (1.5, 4.0),
        offset: float = 50.0,
        unit: float = 10000.0,
        share: float = 0.75,
    ) -> None:
        super().__init__()
        self.amount = amount
        self.exponent = exponent
        self.offset = offset
        self.unit = unit
        self.share = share

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        try:
            ratios = [490.0 / _WAVELENGTHS[band] for band in bands]
        except KeyError as error:
            raise UsageError(f'Haze knows no wavelength of band {error}') from error
        ratio = torch.tensor(ratios, device=images.device).view(1, -1, 1, 1)
        path = _draw(images, 0, self.amount) * ratio ** _draw(images, *self.exponent)
        noise = _draw(images, -self.offset, self.offset, images.shape[1])
        hazy = images * (1 - path / self.unit) + path + noise
        return torch.where(_chosen(images, self.share), hazy.clamp_min(0), images)


# Reflectance of dry soil and straw, relative to that at 842 nm (typical field spectra).
DRY = {
    'B01': 0.28,
    'B02': 0.35,
    'B03': 0.48,
    'B04': 0.62,
    'B05': 0.74,
    'B06': 0.84,
    'B07': 0.92,
    'B08': 1.0,
    'B8A': 1.06,
    'B09': 1.08,
    'B11': 1.4,
    'B12': 1.12,
}


class Season(Augmentation):
    """Winter and drought for images taken in summer: green pixels fade to dry soil and straw.

    Each pixel is mixed with a dry spectrum of its own brightness in the near infrared, by a share that
    is drawn for the image and grows with the pixel's NDVI, so that water and buildings stay.

    Args:
        amount: largest share of the dry spectrum in a pixel of NDVI 1.
        share: share of images that are changed.
    """

    def __init__(self, amount: float = 0.8, share: float = 0.6) -> None:
        super().__init__()
        self.amount = amount
        self.share = share

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        missing = sorted({'B04', 'B08'} - set(bands)) or [band for band in bands if band not in DRY]
        if missing:
            raise UsageError(f'Season needs bands B04 and B08 and knows Sentinel-2 alone: {missing[0]!r}')
        red, near = (images[:, list(bands).index(band)].unsqueeze(1) for band in ('B04', 'B08'))
        ndvi = ((near - red) / (near + red).clamp_min(1)).clamp_min(0)
        mixed = _chosen(images, self.share) * _draw(images, 0, self.amount) * ndvi
        dry = torch.tensor([DRY[band] for band in bands], device=images.device).view(1, -1, 1, 1)
        brightness = _draw(images, 0.7, 1.1)
        return images * (1 - mixed) + mixed * near * dry * brightness


class Smooth(Augmentation):
    """Plain ground: detail blurred and brought nearer to the image's mean, band by band.

    Stands of one age, haze that scatters light into its surroundings and coarse compression leave little
    texture, so that a network which knows water by its lack of texture alone takes dark woods for lakes.

    Args:
        contrast: smallest share of each pixel's difference from the mean that is left.
        blur: largest share of the blurred image in it.
        sigma: standard deviation of the blur, in pixels.
        share: share of images that are changed.
    """

    def __init__(
        self, contrast: float = 0.3, blur: float = 1.0, sigma: float = 2.0, share: float = 0.4
    ) -> None:
        super().__init__()
        if not (0 <= contrast <= 1 and 0 <= blur <= 1 and sigma > 0):
            raise UsageError(
                f'contrast and blur lie within 0 and 1, sigma above 0, not {contrast}, {blur}, {sigma}'
            )
        self.contrast = contrast
        self.blur = blur
        self.sigma = sigma
        self.size = 2 * math.ceil(2 * sigma) + 1
        self.share = share

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        blurred = gaussian_blur(images, [self.size, self.size], [self.sigma, self.sigma])
        smooth = torch.lerp(images, blurred, _draw(images, 0, self.blur))
        mean = images.mean((2, 3), keepdim=True)
        smooth = torch.lerp(mean, smooth, _draw(images, self.contrast, 1))
        return torch.where(_chosen(images, self.share), smooth, images)


class Colour(Augmentation):
    """Brightness, contrast and saturation of 8-bit red, green and blue.

    Args:
        brightness: largest added share of the full range.
        contrast: largest relative change about the image's mean.
        saturation: largest relative change about each pixel's grey.
    """

    def __init__(self, brightness: float = 0.15, contrast: float = 0.3, saturation: float = 0.3) -> None:
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation

    def forward(self, images: Tensor, bands: Sequence[str]) -> Tensor:  # noqa: D102
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * _draw(images, 1 - self.saturation, 1 + self.saturation)
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * _draw(images, 1 - self.contrast, 1 + self.contrast)
        images = images + 255 * _draw(images, -self.brightness, self.brightness)
        return images.clamp(0, 255)
