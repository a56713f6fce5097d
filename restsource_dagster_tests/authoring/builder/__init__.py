"""Tests of the builder: its state without a browser, and its server."""
