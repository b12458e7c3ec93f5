"""The command line: words in, a request out."""
