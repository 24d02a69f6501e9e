"""The classifier owns the class centres. It is used in training only."""

from faceprint.classifier.partial_fc import BatchStatistics, PartialFC

__all__ = ["BatchStatistics", "PartialFC"]
