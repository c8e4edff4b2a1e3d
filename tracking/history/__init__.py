"""The pose of a body at any instant."""
