"""Results as JSON, as JUnit XML, and as one page of HTML."""

from interop.report.html import write_html
from interop.report.results import as_json, as_junit, merged, read_results

__all__ = ["as_json", "as_junit", "merged", "read_results", "write_html"]
