"""Runs of a connector: which families they load, in which packages, with which outcomes."""
