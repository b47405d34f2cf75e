"""OpenStreetMap objects: reading them, and mapping their tags to categories."""

from geores.osm.features import Features, Ground, OSMObject, collect, shape_of, size_of
from geores.osm.mapping import TagMapping, load_mapping
from geores.osm.reading import read_osm

__all__ = [
    'Features',
    'Ground',
    'OSMObject',
    'TagMapping',
    'collect',
    'load_mapping',
    'read_osm',
    'shape_of',
    'size_of',
]
