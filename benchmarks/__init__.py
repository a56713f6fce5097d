"""Benchmarks: this project, its peers and hand-written floors on the same API."""
