"""Rigid bodies of markers: geometry files and printed sheets."""
