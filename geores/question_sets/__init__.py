"""Data sets of questions about scenes: what `geores questions` does."""
