"""The sample: a real API with real data on this machine, and the supervisor behind `make run`."""
