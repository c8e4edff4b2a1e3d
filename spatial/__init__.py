"""The language that every room speaks: frames, rigid motions, shapes, meshes, lenses."""
