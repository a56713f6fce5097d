"""Programs for those who work on the package. Nothing in the package imports them."""
