"""`geores split`: a table of positioned rows, or a folder of rasters, to training, validation and test."""

from geores.pipelines.splitting.source import Source, read_source
from geores.pipelines.splitting.split import SplitMethod, SplitOptions, SplitResult, make_split

__all__ = ['Source', 'SplitMethod', 'SplitOptions', 'SplitResult', 'make_split', 'read_source']
