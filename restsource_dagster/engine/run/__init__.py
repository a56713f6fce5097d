"""One run of a connector: its families, their loads and the outcomes."""
