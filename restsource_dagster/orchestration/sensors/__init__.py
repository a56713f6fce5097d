"""The sensors of a code location."""
