"""Previews: what a load would bring, read without a destination."""
