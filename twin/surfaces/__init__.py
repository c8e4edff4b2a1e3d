"""Surface files, a module a format: meshes in, meshes out, millimetres in Patient coordinates (LPS) as they stand."""
