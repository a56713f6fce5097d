"""Connector files of what people already have: cURL lines, OpenAPI documents, manifests of other tools."""
