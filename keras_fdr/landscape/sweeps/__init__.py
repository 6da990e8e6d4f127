"""The training runs of a sweep, and what it keeps on disk."""
