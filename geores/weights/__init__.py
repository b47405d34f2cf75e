"""The bundles that ship with geores, one folder each."""
