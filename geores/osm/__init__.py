"""OpenStreetMap objects: reading them, and mapping their tags to categories."""

from geores.osm.features import Features, Found, collect
from geores.osm.geometry import Ground, shape_of, size_of
from geores.osm.mapping import TagMapping, load_mapping
from geores.osm.reading import read_features

__all__ = [
    'Features',
    'Found',
    'Ground',
    'TagMapping',
    'collect',
    'load_mapping',
    'read_features',
    'shape_of',
    'size_of',
]
