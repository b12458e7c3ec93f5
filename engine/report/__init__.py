"""The report: results of a comparison in, tables, figures and files out."""
