import dataclasses

import numpy as np
import pytest

from geores.inference.units import conversions, needs_sample
from geores.scenes import scene_from_array

from .fixtures import tiny_bundle
