"""Storage: atomic files, JSON, hashes, caches, free memory."""
