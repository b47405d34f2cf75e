"""Lightning tasks, one module each; a task wraps a network from `geores.models`."""

if __name__ != 'geores.tasks':
    raise ImportError('this folder installs as geores.tasks: import it under that name')

from geores.errors import missing_extra

try:
    from geores.tasks._exports import ExportSegmentation, ExportVQABundle
    from geores.tasks.classification import SceneClassification
    from geores.tasks.export import ExportBundle
    from geores.tasks.segmentation import SemanticSegmentation
    from geores.tasks.vqa import VisualQuestionAnswering
except ModuleNotFoundError as error:
    raise (missing_extra(error) or error) from None

__all__ = [
    'ExportBundle',
    'ExportSegmentation',
    'ExportVQABundle',
    'SceneClassification',
    'SemanticSegmentation',
    'VisualQuestionAnswering',
]
