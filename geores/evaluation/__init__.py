"""Evaluation of a bundle on labelled data: metrics, curves, plots."""
