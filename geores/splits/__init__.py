"""Splits of samples into training, validation and test parts."""

from geores.splits.blocks import block_split
from geores.splits.duplicates import near_duplicates
from geores.splits.folds import group_folds
from geores.splits.stratified import Split, stratified_split

__all__ = ['Split', 'block_split', 'group_folds', 'near_duplicates', 'stratified_split']
