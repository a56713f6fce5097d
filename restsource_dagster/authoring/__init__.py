"""Help to write a connector file: it stands on top of the engine, and nothing but `cli` imports it."""
