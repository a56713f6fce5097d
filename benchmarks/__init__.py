"""Benchmarks: this project beside its peers and beside hand-written floors, on the same API."""
