"""The pipelines behind `geores questions`."""
