"""Tests of the import of sources: cURL lines, OpenAPI documents and others."""
