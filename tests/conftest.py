"""Shared settings: reproducible hypothesis runs, and no writing outside temporary folders."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "osteotwin", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("osteotwin")
