"""What is true against what was said."""

from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix, multilabel_confusion_matrix

from geores.metrics.validate import check_multi_label, check_single_label


def confusion_matrix(scores: Tensor, target: Tensor) -> Tensor:
    """Samples by their class (rows) and the best class of their scores (columns), by torchmetrics.

    Args:
        scores: (N, K).
        target: (N,) class indices.

    Returns:
        (K, K), int64.

    Raises:
        UsageError: Shapes do not fit or indices are out of range.
    """
    check_single_label(scores, target)
    classes = scores.shape[1]
    matrix: Tensor = multiclass_confusion_matrix(scores.argmax(1), target, classes, validate_args=False)
    return matrix


def label_matrices(predictions: Tensor, target: Tensor) -> Tensor:
    """For each label: samples by whether it is true (rows: no, yes) and was said (columns: no, yes).

    Args:
        predictions: (N, K) of 0 and 1.
        target: (N, K) of 0 and 1.

    Returns:
        (K, 2, 2), int64: [[true negatives, false positives], [false negatives, true positives]].

    Raises:
        UsageError: Shapes differ or values are out of range.
    """
    check_multi_label(predictions, target)
    labels = predictions.shape[1]
    matrices: Tensor = multilabel_confusion_matrix(
        predictions.long(), target.long(), labels, validate_args=False
    )
    return matrices
