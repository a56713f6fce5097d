"""Rows written as columns: the same tables as dlt's normalizer makes, several times faster."""
