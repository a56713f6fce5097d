"""The cases: what is loaded, by whom, and what is aimed at."""
