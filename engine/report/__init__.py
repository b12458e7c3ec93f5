"""Report of a comparison: tables, figures and files."""
