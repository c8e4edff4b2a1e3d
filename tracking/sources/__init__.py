"""Where pictures come from: files, cameras, networks, the synthetic camera."""
