"""`osteotwin calibrate`: measure a camera, a rig, an instrument, a body, a delay; accepted only when it will do."""

from __future__ import annotations

import typer

from commands.calibrate_board import board
from commands.calibrate_body import body
from commands.calibrate_camera import camera
from commands.calibrate_check import check
from commands.calibrate_convert import convert
from commands.calibrate_hand_eye import hand_eye
from commands.calibrate_instrument import instrument
from commands.calibrate_latency import latency
from commands.calibrate_readout import readout
from commands.calibrate_stereo import stereo

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def calibrate() -> None:
    """Measure what tracking stands on; every result is accepted by the error that it predicts, or refused."""


app.command()(board)
app.command()(camera)
app.command()(check)
app.command()(convert)
app.command()(stereo)
app.command()(readout)
app.command()(body)
app.command()(instrument)
app.command("hand-eye")(hand_eye)
app.command()(latency)
