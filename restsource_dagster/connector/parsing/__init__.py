"""Read a JSON or YAML file into a value, and map the parts of the value to lines and columns."""
