"""Incremental cursors: their state, their order, and which rows they let pass."""
