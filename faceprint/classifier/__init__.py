"""The classifier owns the class centres, and the triplet loss takes its place without any. Used in training only."""

from faceprint.classifier.multi import HeadOptimizers, Heads
from faceprint.classifier.optim import CentreOptimizer
from faceprint.classifier.partial_fc import BatchStatistics, PartialFC
from faceprint.classifier.triplet import TripletLoss

__all__ = ["BatchStatistics", "CentreOptimizer", "HeadOptimizers", "Heads", "PartialFC", "TripletLoss"]
