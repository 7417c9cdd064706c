"""Symbol graphs as data, and the passes that rewrite them."""
