"""What is measured: each module is a program that loads the benchmark API once, in a process of its own."""
