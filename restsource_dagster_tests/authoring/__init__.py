"""Tests of what helps to write a connector file."""
