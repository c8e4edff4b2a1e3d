"""Screws: library, placement, grade, hold, and what to do where none fits."""
