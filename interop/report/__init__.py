"""Results as JSON, as JUnit XML, and as one page of HTML."""

from interop.report.html import page, write_html
from interop.report.results import as_json, as_junit, merged, read_results
from interop.report.text import matrix, plain

__all__ = ["as_json", "as_junit", "matrix", "merged", "page", "plain", "read_results", "write_html"]
