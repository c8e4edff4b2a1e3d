"""Guidance to a folder: every overlay as a picture, all of them as an MP4, every read-out and every pose as a line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guidance.loop import Guided
from guidance.poses import pose_lines
from spatial.faults import Misuse
from tracking.video import write_mp4

READOUTS, POSES = "readouts.jsonl", "poses.jsonl"


class NotEmpty(Misuse):
    """A folder for the recording that holds something else."""


class Recorder:
    """Writes `overlay_NNNN.png`, `readouts.jsonl` and `poses.jsonl` as frames come, and `guidance.mp4` at the end.

    All of it is made beside `folder` and moved there by `finish`: a folder that exists is a whole recording. An earlier
    recording is replaced; anything else there is refused (NotEmpty).
    """

    def __init__(self, folder: Path, fps: float = 30.0) -> None:
        """Make the working folder."""
        self.folder, self.fps = folder.absolute(), fps
        if folder.exists() and not (folder.is_dir() and ((folder / READOUTS).is_file() or not any(folder.iterdir()))):
            raise NotEmpty("there is something here that is no recording; choose another folder", path=folder)
        self._making = self.folder.with_name(f".{self.folder.name}.recording-{os.getpid()}")
        shutil.rmtree(self._making, ignore_errors=True)
        self._making.mkdir(parents=True)
        self._lines = (self._making / READOUTS).open("w", encoding="utf-8")
        self._poses = (self._making / POSES).open("w", encoding="utf-8")
        self._files: list[Path] = []

    def add(self, guided: Guided) -> Path:
        """Keep one drawn frame; returns where its picture will be. A picture that is judged again adds its line."""
        assert guided.picture is not None
        path = self._making / f"overlay_{guided.frame.index:04d}.png"
        if guided.is_new or not self._files:
            Image.fromarray(guided.picture).save(path, compress_level=1)
            self._files.append(path)
        self._lines.write(json.dumps(guided.to_json(), allow_nan=False) + "\n")
        self._poses.writelines(json.dumps(line, allow_nan=False) + "\n" for line in pose_lines(guided))
        return self.folder / path.name

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(self._files)

    def finish(self) -> int:
        """Write the MP4 and move everything to its place; returns how many pictures there were."""
        self._lines.close()
        self._poses.close()
        if self._files:
            write_mp4(self._making / "guidance.mp4", (_read(path) for path in self._files), self.fps)
        old = self.folder.with_name(f".{self.folder.name}.replaced-{os.getpid()}")
        if self.folder.exists():
            self.folder.rename(old)
        try:
            self._making.rename(self.folder)
        except OSError:
            if old.exists():
                old.rename(self.folder)  # an earlier recording stays
            raise
        shutil.rmtree(old, ignore_errors=True)
        return len(self._files)

    def abort(self) -> None:
        """Leave nothing behind; an earlier recording stays."""
        self._lines.close()
        self._poses.close()
        shutil.rmtree(self._making, ignore_errors=True)


def _read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))
