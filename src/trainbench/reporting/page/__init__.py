"""The page of the report, its Markdown twin, their tables and figures."""
