"""Grades a file: loads it from a twin of its API that misbehaves, and compares the tables with the truth."""
