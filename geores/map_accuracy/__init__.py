"""Accuracy and areas of a map from a sample: the design, the drawing, the estimates."""
