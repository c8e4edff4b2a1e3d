"""Practising the plan in a headset, at a window or from a script."""
