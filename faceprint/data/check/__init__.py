"""What is in a labelled set, and what is wrong with it: one pass, no network."""

from faceprint.data.check.report import Check, check_source
from faceprint.data.check.write import write_check

__all__ = ["Check", "check_source", "write_check"]
