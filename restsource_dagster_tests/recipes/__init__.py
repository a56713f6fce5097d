"""The recipes in docs/recipes, each run against a server."""
