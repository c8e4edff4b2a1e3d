"""A scripted surgeon: drives head and hands through the input port of Monado's `remote` driver.

The record is `struct r_remote_data` of Monado 25 (src/xrt/drivers/remote/r_interface.h): little-endian, 376
bytes, sent whole at every change; the driver takes over each record at once and keeps it until the next.
Standard library only, and nothing of the product: what a test expects must not come out of the code it tests.
Metres, quaternions (x, y, z, w), the stage's axes, as OpenXR has them.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass, field, replace
from types import TracebackType

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]

MAGIC = b"mndrmt3\0"
UPRIGHT: Quaternion = (0.0, 0.0, 0.0, 1.0)

_VIEW = struct.Struct("<4f4f3fI")  # fov left, right, up, down (rad); orientation; position; padding
_CENTRE = struct.Struct("<4f3f?3x")  # orientation; position; whether the two views above are to be used
_HAND = struct.Struct("<4f3f3f3f5f8f13?3x")
RECORD_BYTES = len(MAGIC) + 2 * _VIEW.size + _CENTRE.size + 2 * _HAND.size


@dataclass(frozen=True)
class Pose:
    """Where something stands in the stage."""

    position_m: Vector3 = (0.0, 0.0, 0.0)
    orientation: Quaternion = UPRIGHT


@dataclass(frozen=True)
class View:
    """One eye: its pose in the head and its half angles (left and down are negative)."""

    pose: Pose = Pose()
    fov_rad: tuple[float, float, float, float] = (-0.7, 0.7, 0.7, -0.7)  # left, right, up, down


@dataclass(frozen=True)
class Hand:
    """One Valve Index controller. `active` False is a controller that tracking lost."""

    pose: Pose = Pose()
    active: bool = True
    trigger: float = 0.0
    trigger_click: bool = False
    squeeze: float = 0.0
    squeeze_force: float = 0.0
    stick: tuple[float, float] = (0.0, 0.0)
    a: bool = False
    b: bool = False

    def packed(self) -> bytes:
        """`struct r_remote_controller_data`."""
        return _HAND.pack(
            *self.pose.orientation,
            *self.pose.position_m,
            *(0.0,) * 6,  # velocities: the scripted hand stands still between records
            *(0.0,) * 5,  # finger curls
            self.trigger,
            self.squeeze,
            self.squeeze_force,
            *self.stick,
            *(0.0,) * 3,  # trackpad
            False,  # hand tracking
            self.active,
            *(False, False),  # system
            *(self.a, self.a),
            *(self.b, self.b),
            *(self.trigger_click, self.trigger > 0.0),
            *(False, False),  # thumbstick
            False,  # trackpad
        )


@dataclass(frozen=True)
class Pretence:
    """Everything that the runtime is told: head, both hands, and the views when they are not the default."""

    head: Pose = Pose((0.0, 1.6, 0.0))
    left: Hand = field(default_factory=lambda: Hand(Pose((-0.2, 1.3, -0.5))))
    right: Hand = field(default_factory=lambda: Hand(Pose((0.2, 1.3, -0.5))))
    views: tuple[View, View] | None = None

    def packed(self) -> bytes:
        """`struct r_remote_data`."""
        views = self.views or (View(), View())
        return b"".join(
            (
                MAGIC,
                *(_VIEW.pack(*v.fov_rad, *v.pose.orientation, *v.pose.position_m, 0) for v in views),
                _CENTRE.pack(*self.head.orientation, *self.head.position_m, self.views is not None),
                self.left.packed(),
                self.right.packed(),
            )
        )


class Remote:
    """The connection to a running runtime; `become` changes what it feels."""

    def __init__(self, port: int, timeout_s: float = 20.0) -> None:
        """Connect to loopback, trying until the runtime listens; raises TimeoutError when it never does."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no runtime listens on port {port} after {timeout_s} s") from None
                time.sleep(0.05)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        unread = 2 * RECORD_BYTES  # the driver greets with the reset state and the latest
        while unread:
            chunk = self._socket.recv(unread)
            if not chunk:
                self.close()
                raise ConnectionError(f"the runtime closed its input port, {unread} bytes short of a greeting")
            unread -= len(chunk)
        self.pretence = Pretence()

    def become(self, **changes: object) -> Pretence:
        """Send a record with `changes` (head, left, right, views) over what was sent last."""
        self.pretence = replace(self.pretence, **changes)  # type: ignore[arg-type]  # the fields' own types
        self._socket.sendall(self.pretence.packed())
        return self.pretence

    def close(self) -> None:
        """Let go; the runtime keeps the last record."""
        self._socket.close()

    def __enter__(self) -> Remote:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
