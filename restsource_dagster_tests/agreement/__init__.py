"""`check` and the engine agree about every option: tables of options, and one loop over them."""
