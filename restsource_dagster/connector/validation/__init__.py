"""What `restsource check` reports beyond the models: rules across fields, and their messages."""
