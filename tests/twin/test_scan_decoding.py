"""Compressed pixels: every syntax gives the voxels that were put in; a decoder that dies or runs on is a fault."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.bench.fuzz_forms import enhanced
from tests.data import ROOT
from tests.twin.written_series import write_series
from twin.scan.decoding import Decoders, DecodingLimits, Worker
from twin.scan.headers import read_headers
from twin.scan.load import load_volume
from twin.scan.refusals import BrokenFile, DecoderFailed, SeriesChoice
from twin.scan.series import list_series

SMALL = {"slices": 5, "shape": (40, 48)}


def stored_of(data):
    return np.frombuffer(data.PixelData, "<u2").reshape(data.Rows, data.Columns)


def jpeg_lossless(values, folder):
    """A JPEG lossless stream by GDCM, another code than the decoder under test."""
    folder.mkdir(exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.SetFileName(str(folder / "packed.dcm"))
    writer.Execute(SimpleITK.GetImageFromArray(values[None].astype(np.uint16)))
    packed = pydicom.dcmread(folder / "packed.dcm")
    assert packed.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    return packed.PixelData


@pytest.mark.parametrize(
    "syntax",
    [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1, JPEGLossless],
    ids=lambda uid: uid.name[:24],
)
def test_lossless_syntaxes_give_back_what_was_put_in(tmp_path, syntax):
    def pack(data, _k):
        if syntax in (JPEGLosslessSV1, JPEGLossless):  # process 14 may use any predictor, so the first one too
            data.PixelData = jpeg_lossless(stored_of(data), tmp_path / "jpeg")
            data.file_meta.TransferSyntaxUID = syntax
            data["PixelData"].is_undefined_length = True
        else:
            data.compress(syntax, generate_instance_uid=False)

    write_series(tmp_path / "plain", **SMALL)
    write_series(tmp_path / "packed", mutate=pack, **SMALL)
    plain, packed = load_volume(tmp_path / "plain"), load_volume(tmp_path / "packed")
    assert np.array_equal(plain.hu, packed.hu)
    assert packed.about["transfer_syntax"] == syntax
    assert plain.about["content_sha256"] == packed.about["content_sha256"]


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2K])
def test_high_throughput_jpeg_2000(tmp_path, syntax):
    """A stream by OpenJPH (imagecodecs 2026.3) of a formula."""
    y, x = np.mgrid[0:40, 0:48]
    values = 1024 + np.round(900 * np.exp(-((x - 20) ** 2 + (y - 18) ** 2) / 90.0)) + 3 * x + 2 * y
    stream = (ROOT / "tests/golden/htj2k_40x48.j2c").read_bytes()

    def pack(data, _k):
        data.BitsStored, data.HighBit = 16, 15
        data.PixelData = encapsulate([stream])
        data.file_meta.TransferSyntaxUID = syntax
        data["PixelData"].is_undefined_length = True

    write_series(tmp_path, mutate=pack, **SMALL)
    assert np.array_equal(load_volume(tmp_path).hu[2], values - 1024)


def test_loss_is_said_and_stands_against_guidance(tmp_path):
    def pack(data, _k):
        data.compress(JPEG2000, j2k_cr=[4], generate_instance_uid=False)
        data.LossyImageCompression, data.LossyImageCompressionRatio = "01", "4.0"

    write_series(tmp_path, mutate=pack, **SMALL)
    volume = load_volume(tmp_path)
    assert any("compressed with loss (ratio 4.0)" in note for note in volume.warnings)
    assert volume.fitness is not None
    assert any("with loss (ratio 4.0)" in reason for reason in volume.fitness.guide.reasons)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_stream_cut_within_its_fragment_is_refused(tmp_path, syntax):
    """The fragment's length is right, so only the decoder can find that half of the picture is missing."""

    def pack(data, k):
        data.compress(syntax, generate_instance_uid=False)
        if k == 2:
            (stream,) = pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1)
            data.PixelData = encapsulate([stream[: len(stream) // 4 * 2]])
            data["PixelData"].is_undefined_length = True

    files = write_series(tmp_path, mutate=pack, **SMALL)
    with pytest.raises(BrokenFile, match=r"cut|cannot be decoded") as caught:
        load_volume(tmp_path)
    assert caught.value.path == files[2]


def packed_headers(folder):
    files = write_series(folder, mutate=lambda d, _: d.compress(RLELossless, generate_instance_uid=False), **SMALL)
    return [read_headers(file)[0] for file in files]


def test_a_decoder_that_crashes_is_a_fault_of_its_file(tmp_path):
    headers = packed_headers(tmp_path)
    worker = Worker(DecodingLimits())
    try:
        worker.ask(headers[0])
        os.kill(worker.process.pid, signal.SIGSEGV)
        with pytest.raises(DecoderFailed, match=r"crashed \(signal 11\)") as caught:
            worker.ask(headers[1])
        assert caught.value.path == headers[1].path
    finally:
        worker.end()


def test_a_decoder_that_takes_too_long_is_ended(tmp_path):
    headers = packed_headers(tmp_path)
    with Decoders(1, DecodingLimits(start_s=0.0, clock_s=0.0)) as decoders:
        process = decoders.workers[0].process
        os.kill(process.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(DecoderFailed, match="took longer than 0 s") as caught:
            decoders.decode([(0, headers[0])], lambda *_: None)
        assert time.monotonic() - began < 10
    assert caught.value.path == headers[0].path
    assert process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_a_decoder_cannot_take_all_memory(tmp_path):
    """A header of a huge picture over a tiny stream: the decoder allocates before it looks."""

    def pack(data, _k):
        data.compress(RLELossless, generate_instance_uid=False)
        data.Rows, data.Columns = 40_000, 40_000

    files = write_series(tmp_path, mutate=pack, slices=1, shape=(40, 48))
    header = read_headers(files[0])[0]
    with Decoders(1, DecodingLimits(memory_mb=1500)) as decoders, pytest.raises((BrokenFile, DecoderFailed)) as caught:
        decoders.decode([(0, header)], lambda *_: None)
    assert caught.value.path == files[0]


def test_a_worker_may_not_lie_about_sizes(tmp_path):
    header = packed_headers(tmp_path)[0]
    assert header.pixels is not None
    with (
        Decoders(1) as decoders,
        pytest.raises((BrokenFile, DecoderFailed), match=r"decoded|cannot be decoded"),
    ):
        decoders.decode([(0, replace(header, pixels=replace(header.pixels, rows=41)))], lambda *_: None)


def test_no_worker_is_left_when_the_reader_is_cancelled(tmp_path):
    headers = packed_headers(tmp_path)

    def cancel(_what, _share):
        raise KeyboardInterrupt

    decoders = Decoders(9)
    workers = decoders.workers
    with pytest.raises(KeyboardInterrupt), decoders:
        decoders.decode(list(enumerate(headers)), lambda *_: None, cancel)
    assert len(workers) == 2
    assert all(worker.process.poll() is not None for worker in workers)


def test_more_bits_than_announced_are_refused(tmp_path):
    def pack(data, _k):
        data.compress(JPEG2000Lossless, generate_instance_uid=False)
        data.BitsStored, data.HighBit = 10, 9

    write_series(tmp_path, mutate=pack, **SMALL)
    with pytest.raises(BrokenFile, match=r"do not fit 10 bits|cannot be decoded"):
        load_volume(tmp_path)


def test_enhanced_ct_equals_its_slices(tmp_path):
    file = enhanced(tmp_path / "one")
    write_series(tmp_path / "classic", slices=6, shape=(20, 24), spacing_mm=(4.0, 4.0))
    volume, classic = load_volume(file), load_volume(tmp_path / "classic")
    assert np.array_equal(volume.hu, classic.hu)
    assert volume.grid.same_as(classic.grid)
    assert volume.about["kernel"] == "BONE"


def test_stacks_of_one_enhanced_ct_are_a_choice_each(tmp_path):
    """Two phases at the same places: neither may be mixed into the other."""
    file = enhanced(tmp_path, stacks=2)
    series = list_series(file)
    assert [len(one.headers) for one in series] == [6, 6]
    assert all(one.verdict.faults == () for one in series)
    with pytest.raises(SeriesChoice, match="2 CT series"):
        load_volume(file)
    first, second = (load_volume(file, series_uid=one.uid) for one in series)
    assert series[1].uid.endswith("#2")
    differs = np.argwhere(first.hu != second.hu)
    assert len(differs) == 1  # the last voxel of the second stack was changed
    assert first.grid.same_as(second.grid)


def test_the_worker_stands_by_itself():
    """It must start from anywhere, with nothing in its environment."""
    worker = Worker(DecodingLimits())
    try:
        assert worker.process.stdout is not None
        head = worker.process.stdout.read(9)
        assert struct.unpack("<cII", head) == (b"R", 0, 0)
    finally:
        worker.end()
    assert Path(worker.process.args[0]).exists()
