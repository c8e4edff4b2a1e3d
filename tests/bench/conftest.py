"""Comparisons with peers take minutes, so what is marked `bench` is left out unless asked for by `-m bench`."""

import pytest

_left_out = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "bench" in config.option.markexpr:
        return
    timings = [item for item in items if item.get_closest_marker("bench")]
    if timings:
        config.hook.pytest_deselected(items=timings)
        items[:] = [item for item in items if item not in timings]
    config.stash[_left_out] = len(timings)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(_left_out, 0):
        terminalreporter.write_line("bench: comparisons with peers left out, they take minutes; run them with -m bench")
