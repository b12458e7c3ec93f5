"""Storage: files that are whole or not there, JSON, hashes, caches, free memory."""
