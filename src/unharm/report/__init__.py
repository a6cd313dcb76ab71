"""The report: one self-contained HTML page, and tables in LaTeX."""
