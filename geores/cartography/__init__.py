"""How a map looks wherever it is opened: legends, class rasters, styles, polygons and pictures.

Everything here takes plain arrays, tables and value objects, and knows nothing of models or results.
"""
