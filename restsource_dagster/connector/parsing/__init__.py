"""Read a JSON or YAML file into a value, and map the value's parts to lines and columns."""
