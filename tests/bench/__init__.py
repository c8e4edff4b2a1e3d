"""Timings against peers, side by side in one run, and only where both gave the same result."""
