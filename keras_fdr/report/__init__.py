"""One HTML page that shows a run to others; needs matplotlib."""

from keras_fdr.report.page import fdr_report

__all__ = ["fdr_report"]
