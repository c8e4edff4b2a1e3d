"""The hospital's wires, a folder each: a codec that knows no socket, a link that knows no meaning."""
