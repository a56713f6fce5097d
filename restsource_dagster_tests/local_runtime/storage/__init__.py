"""Tests of the storage that keeps SQLite files open."""
