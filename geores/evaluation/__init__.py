"""A bundle on labelled data: figures, curves, plots."""
