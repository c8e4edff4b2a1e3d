"""The search for screws: corridors, the choice for several levels together, rods."""
