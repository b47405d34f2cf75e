"""Accuracy and areas of a map from a sample: design, draw and estimates (Olofsson et al. 2014)."""
