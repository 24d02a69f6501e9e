"""The classifier owns the class centres, and the triplet loss takes its place without any. Used in training only."""

from faceprint.classifier.multi import HeadOptimizers, Heads
from faceprint.classifier.optim import CentreOptimizer
from faceprint.classifier.partial_fc import BatchStatistics, PartialFC
from faceprint.classifier.state import change_classes, load_classes, save_classes
from faceprint.classifier.triplet import TripletLoss

__all__ = [
    "BatchStatistics",
    "CentreOptimizer",
    "HeadOptimizers",
    "Heads",
    "PartialFC",
    "TripletLoss",
    "change_classes",
    "load_classes",
    "save_classes",
]
