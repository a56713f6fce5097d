"""The whole product as a new user meets it: real processes, real APIs, a real browser."""
