"""Cameras, instruments and bodies measured from pictures."""
