"""The sensors of a code location: first runs, killed runs, changed files and broken files."""
