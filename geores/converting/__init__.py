"""Bringing a data set from one layout on disk to another, and checking what stands there."""
