"""The way to the headset: which runtime answers, what it offers, and the faults that say why none does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import xr

from render.headset_probe import HOW_TO_GET_ONE
from spatial.faults import Fault, MissingPackage


class NoOpenXRRuntime(MissingPackage):
    """No OpenXR runtime answers; the message says what to install or set."""


class HeadsetMissing(Fault):
    """The runtime is there, the headset is not."""


class HeadsetLost(Fault):
    """The runtime took the session away: unplugged, crashed, or restarted."""


class Runtime:
    """An OpenXR instance with those of the wanted extensions that the runtime offers."""

    def __init__(self, application_name: str, extensions: Sequence[str]) -> None:
        """Load the active runtime. Raises NoOpenXRRuntime."""
        # The loader's own complaints go to stderr in many lines; ours says the same in one.
        os.environ.setdefault("XR_LOADER_DEBUG", "none")
        try:
            self.offered = frozenset(p.extension_name.decode() for p in xr.enumerate_instance_extension_properties())
            self.enabled = tuple(name for name in extensions if name in self.offered)
            self.instance: Any = xr.create_instance(
                xr.InstanceCreateInfo(
                    application_info=xr.ApplicationInfo(
                        # the field holds 128 bytes
                        application_name=application_name.encode()[:120].decode(errors="ignore"),
                        engine_name="osteotwin",
                        api_version=xr.Version(1, 0, 34),
                    ),
                    enabled_extension_names=self.enabled,
                )
            )
        except xr.XrException as error:
            manifest = os.environ.get("XR_RUNTIME_JSON")
            where = f"XR_RUNTIME_JSON is {manifest}" if manifest else "XR_RUNTIME_JSON is not set"
            raise NoOpenXRRuntime(
                f"no OpenXR runtime answers ({type(error).__name__}; {where}); {HOW_TO_GET_ONE}"
            ) from error
        properties = xr.get_instance_properties(self.instance)
        self.name = properties.runtime_name.decode()
        self.version = str(xr.Version(properties.runtime_version))

    def headset(self) -> tuple[Any, str]:
        """The headset's system and its name. Raises HeadsetMissing."""
        wanted = xr.SystemGetInfo(form_factor=xr.FormFactor.HEAD_MOUNTED_DISPLAY)
        try:
            system = xr.get_system(self.instance, wanted)
        except (xr.FormFactorUnavailableError, xr.FormFactorUnsupportedError) as error:
            raise HeadsetMissing(
                f"{self.name} finds no headset ({type(error).__name__}); is it on and connected?"
            ) from error
        return system, xr.get_system_properties(self.instance, system).system_name.decode()

    def release(self) -> None:
        """Let the runtime go."""
        xr.destroy_instance(self.instance)
