"""The contestants: each module is a program that loads the benchmark API once, in its own process."""
