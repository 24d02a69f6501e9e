"""Results of several models as one page, and as tables and pictures for papers."""

from faceprint.evaluation.page.html import write_page
from faceprint.evaluation.page.tables import Comparison, compare, write_tables

__all__ = ["Comparison", "compare", "write_page", "write_tables"]
