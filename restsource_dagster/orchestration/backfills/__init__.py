"""Backfills: partitions of the past, loaded beside the live stream, newest first."""
