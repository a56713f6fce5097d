"""The cases: what is loaded, by which contestants, and the goals."""
