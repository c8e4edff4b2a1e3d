"""Many twins at once: rows worked off on this machine or on a cluster of dask workers, in whatever order they finish.

A row that was built before from the same input with the same settings is skipped, so a batch that was stopped goes on
where it was; a row that fails is told and stops no other.
"""

from __future__ import annotations

import os
import queue
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

from spatial.faults import Fault, Misuse
from twin.batch_list import Row
from twin.batch_row import row_json, run_row

Told = Callable[[int, str, float], None]
"""(line of the list, what is being done, fraction)"""

ROW_BASE_BYTES = 1.2e9  # Python, the libraries and the compiled kernels
ROW_SHARE = 5.0  # of the input's bytes: the volume, its copies at work, surfaces
PACKED_SHARE = 4.0  # how much a packed CT grows
TOPIC = "osteotwin-row"
POLL_S = 0.5


class NoCluster(Fault):
    """The dask scheduler can't be reached, or it has no worker."""


def run_batch(
    rows: Sequence[Row], engine: str, told: Told, *, replace: bool = False, workers: int | None = None
) -> Generator[dict[str, Any]]:
    """Work the rows off; a result a row as they finish. Closing the iterator (or Ctrl-C) stops what runs, in order.

    `engine`: `local` (processes here), `dask` (a cluster of our own on this machine) or `dask://HOST:PORT`, whose
    workers must have this program and see the same files. Raises Misuse, NoCluster.
    """
    if workers is not None and workers < 1:
        raise Misuse(f"{workers} workers; one at least")
    values = [row_json(row, replace=replace) for row in rows]
    count = workers or fitting_workers(rows)
    if engine == "local":
        return _local(values, told, count)
    if engine == "dask":
        return _dask(values, told, _own_cluster(count))
    if engine.startswith("dask://") and engine.removeprefix("dask://"):
        return _dask(values, told, _client("tcp://" + engine.removeprefix("dask://")))
    raise Misuse(f"no engine {engine!r}; there are local, dask and dask://HOST:PORT")


def fitting_workers(rows: Sequence[Row]) -> int:
    """How many rows this machine works on at once: by its cores, and by the memory that is free now."""
    import psutil

    largest = max((_bytes_of(row) for row in rows), default=0.0)
    by_memory = int(psutil.virtual_memory().available // (ROW_BASE_BYTES + ROW_SHARE * largest))
    return max(1, min(os.cpu_count() or 1, by_memory, len(rows)))


def _bytes_of(row: Row) -> float:
    source = row.recipe.source
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    packed = any(path.suffix.lower() in (".gz", ".zip", ".xz", ".tgz") for path in files)
    return sum(path.stat().st_size for path in files) * (PACKED_SHARE if packed else 1.0)


def _local(values: Sequence[dict[str, Any]], told: Told, count: int) -> Generator[dict[str, Any]]:
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    done: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    stop = threading.Event()
    for value in values:
        waiting.put(value)

    def work() -> None:
        while not stop.is_set():
            try:
                value = waiting.get_nowait()
            except queue.Empty:
                return
            done.put(run_row(value, partial(told, value["line"]), stop.is_set, threads))

    threads = max(1, (os.cpu_count() or 1) // count)
    crew = [threading.Thread(target=work) for _ in range(count)]
    for one in crew:
        one.start()
    try:
        for _ in values:
            result = None
            while result is None:
                with suppress(queue.Empty):
                    result = done.get(timeout=POLL_S)  # a wait without end would not hear Ctrl-C on every system
            yield result
    finally:
        stop.set()
        for one in crew:
            one.join()


def _dask(
    values: Sequence[dict[str, Any]], told: Told, connected: AbstractContextManager[Any]
) -> Generator[dict[str, Any]]:
    from distributed import Event, as_completed

    with connected as client:
        name = f"osteotwin-cancelled-{uuid.uuid4().hex}"
        cancelled = Event(name, client=client)
        client.subscribe_topic(TOPIC, lambda event: told(*event[1]))
        futures = {client.submit(_row_on_worker, value, name, pure=False): value for value in values}
        try:
            for future in as_completed(futures, raise_errors=False):
                value = futures[future]
                if future.status == "finished":
                    yield future.result()
                else:  # its workers died again and again
                    words = str(future.exception()) if future.status == "error" else future.status
                    error = {"kind": "WorkerLost", "message": words}
                    yield {"line": value["line"], "case": value["case"], "status": "failed", "error": error}
        finally:
            with suppress(OSError, TimeoutError):  # the scheduler itself may be gone
                cancelled.set()
                client.cancel(list(futures))


def _row_on_worker(value: dict[str, Any], cancelled_name: str) -> dict[str, Any]:
    """What a dask worker does: the row in a child process, as on one machine."""
    from distributed import Event, get_worker

    worker = get_worker()
    cancelled = Event(cancelled_name)
    return run_row(
        value,
        lambda what, fraction: worker.log_event(TOPIC, (value["line"], what, fraction)),
        cancelled.is_set,
        worker.state.nthreads,
    )


@contextmanager
def _own_cluster(count: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=count, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
            memory_limit=0, silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client


@contextmanager
def _client(address: str) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(address, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise NoCluster(f"no dask scheduler answers at {address} ({error})") from None
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise NoCluster(f"the scheduler at {address} has no worker; start one: dask worker {address}")
        yield client
