"""The shipped templates, each against a server that behaves as the documentation of its API says."""
