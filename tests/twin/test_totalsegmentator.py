"""The adapter to TotalSegmentator, against a stand-in that is called, speaks, writes and fails as the program does."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from spatial.faults import Misuse
from tests.twin.test_labels import GRID, stack
from twin.anatomy import totalsegmentator
from twin.anatomy.segmentation import segment
from twin.anatomy.totalsegmentator import NoTotalSegmentator, NoWeights, SegmenterFailed
from twin.scan.volume import Volume

STAND_IN = '''#!{python}
"""Behaves like TotalSegmentator 2: its options, its words, its files; what goes wrong is told by STAND_IN."""
import argparse, gzip, json, os, struct, subprocess, sys, time
from pathlib import Path

mode = os.environ.get("STAND_IN", "sound")
parser = argparse.ArgumentParser()
parser.add_argument("-i", dest="input", type=lambda p: Path(p).absolute(), required=True)
parser.add_argument("-o", dest="output", type=lambda p: Path(p).absolute(), required=True)
parser.add_argument("-ml", "--ml", action="store_true")
parser.add_argument("-ta", "--task", choices=["total", "body"], default="total")
parser.add_argument("--version", action="version", version=os.environ.get("STAND_IN_VERSION", "2.4.0"))
args = parser.parse_args()
print("No GPU detected. Running on CPU. This can be very slow. The '--fast' or the `--roi_subset` option can help.")
print("\\nIf you use this tool please cite: https://pubs.rsna.org/doi/10.1148/ryai.230024\\n", flush=True)
config = json.loads((Path(os.environ["TOTALSEG_HOME_DIR"]) / "config.json").read_text())
Path(os.environ["STAND_IN_NOTES"]).write_text(json.dumps([config, sys.argv[1:], os.getpid()]))
if mode == "downloads":
    print("Downloading pretrained weights for Task 291 (~230MB) ...", flush=True)
    time.sleep(60)
raw = args.input.read_bytes()
print("Resampling...\\n  Resampled in 0.10s", flush=True)
for n in range(1, 6):
    print(f"Predicting part {{n}} of 5 ...", flush=True)
    sys.stderr.write("\\r100%|####| 8/8 [00:00<00:00, 16.18it/s]")
    if mode == "hangs" and n == 2:
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
        Path(os.environ["STAND_IN_NOTES"]).write_text(json.dumps([config, sys.argv[1:], os.getpid(), helper.pid]))
        time.sleep(120)
    if mode == "memory" and n == 3:
        sys.stderr.write("Traceback (most recent call last):\\n  File \\"x.py\\", line 1\\n"
                         "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 7.38 GiB.\\n")
        sys.exit(1)
    if mode == "killed" and n == 3:
        os.kill(os.getpid(), 9)
    if mode == "crash" and n == 2:
        raise RuntimeError("Some background workers are no longer alive")
if mode == "weights":
    raise RuntimeError("Could not find model checkpoint_final.pth in Dataset292")
if mode == "licence":
    print("It requires a license. For non-commercial usage a free license can be acquired")
    sys.exit(1)
print("Saving segmentations...", flush=True)
if mode != "silent":
    head = bytearray(raw[:348])
    values = Path(os.environ["STAND_IN_LABELS"]).read_bytes()
    if mode == "grid":
        head[280:296] = struct.pack("<4f", -2.0, 0.0, 0.0, 500.0)
    if mode == "smaller":
        head[42:44] = struct.pack("<h", 10)
        values = values[: len(values) // 2]
    struct.pack_into("<2h", head, 70, 2, 8)
    if mode == "noise":
        values = bytes(len(values))
    xml = b'<?xml version="1.0"?><CaretExtension><VolumeInformation Index="0"><LabelTable>'
    names = json.loads(os.environ["STAND_IN_NAMES"])
    for number, name in names.items():
        xml += f'<Label Key="{{number}}" Red="0" Green="0" Blue="1" Alpha="1"><![CDATA[{{name}}]]></Label>'.encode()
    xml += b"</LabelTable></VolumeInformation></CaretExtension>"
    size = -(-(len(xml) + 8) // 16) * 16
    struct.pack_into("<f", head, 108, 352 + size)
    extension = struct.pack("<ii", size, 0) + xml.ljust(size - 8)
    args.output.write_bytes(gzip.compress(bytes(head) + b"\\1\\0\\0\\0" + extension + values))
print("  Saved in 0.10s", flush=True)
'''

BONES = {
    30: "vertebrae_L2", 29: "vertebrae_L3", 28: "vertebrae_L4", 27: "vertebrae_L5", 26: "vertebrae_S1", 25: "sacrum",
    52: "aorta",
}  # fmt: skip


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The stand-in, installed with its weights; returns its folder."""
    executable = tmp_path / "bin" / "TotalSegmentator"
    executable.parent.mkdir()
    executable.write_text(STAND_IN.format(python=sys.executable))
    executable.chmod(0o755)
    weights = tmp_path / "home" / "nnunet" / "results"
    for number in range(291, 296):
        (weights / f"Dataset{number}_TotalSegmentator_part_1559subj").mkdir(parents=True)
    labels = stack([30, 29, 28, 27, 26, 25])
    labels[:, 18:20, 9:11] = 52
    (tmp_path / "labels.raw").write_bytes(labels.tobytes())
    monkeypatch.setenv("STAND_IN_LABELS", str(tmp_path / "labels.raw"))
    monkeypatch.setenv("STAND_IN_NAMES", json.dumps(BONES))
    monkeypatch.setenv("STAND_IN_NOTES", str(tmp_path / "notes.json"))
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    monkeypatch.delenv(totalsegmentator.OWN_EXECUTABLE, raising=False)
    monkeypatch.setenv("PATH", f"{executable.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def ct():
    """A CT of the labels' size, of nothing."""
    return Volume(GRID, np.zeros(GRID.shape, np.int16))


def notes(folder):
    return json.loads((folder / "notes.json").read_text())


def test_bones_come_back_with_their_evidence(stand_in):
    told = []
    found = segment(ct(), "totalsegmentator", lambda what, at: told.append((what, at)))
    assert set(found.labels.names.values()) == {
        "vertebrae_L2", "vertebrae_L3", "vertebrae_L4", "vertebrae_L5", "sacrum",
    }  # fmt: skip
    numbers = {name: n for n, name in found.labels.names.items()}
    wanted = stack([30, 29, 28, 27, 25, 25])
    wanted[:, 18:20, 9:11] = 0
    for name in ("vertebrae_L2", "vertebrae_L5", "sacrum"):
        assert np.array_equal(found.labels.labels == numbers[name], wanted == numbers[name])
    assert found.confidence == totalsegmentator.SURE
    assert found.evidence == ("named by TotalSegmentator 2.4.0; not confirmed", "4 vertebrae in a row above the sacrum")
    assert found.settings["version"] == "2.4.0"
    assert "Apache-2.0" in found.settings["licence"]
    assert any("aorta" in warning for warning in found.warnings)
    fractions = [at for _, at in told]
    assert fractions == sorted(fractions)
    assert any("part 4 of 5" in what for what, _ in told)


def test_it_is_called_as_its_manual_says_and_tells_nobody(stand_in):
    segment(ct(), "totalsegmentator")
    config, arguments, _ = notes(stand_in)
    assert arguments == ["-i", "ct.nii", "-o", "labels.nii.gz", "--ml", "--task", "total"]
    assert config["send_usage_stats"] is False


def test_a_missing_level_and_a_missing_sacrum_lower_the_confidence(stand_in, monkeypatch):
    (stand_in / "labels.raw").write_bytes(stack([31, 29, 28, 27, 25]).tobytes())
    monkeypatch.setenv("STAND_IN_NAMES", json.dumps(BONES | {31: "vertebrae_L1"}))
    found = segment(ct(), "totalsegmentator")
    assert (found.confidence, found.evidence[1]) == (totalsegmentator.GAPS, "vertebrae_L2 missing within the row")
    (stand_in / "labels.raw").write_bytes(stack([30, 29, 28]).tobytes())
    found = segment(ct(), "totalsegmentator")
    assert found.confidence == totalsegmentator.LONE
    assert "no sacrum" in found.evidence[1]


def test_without_the_program_it_says_how_to_get_it(stand_in, monkeypatch):
    monkeypatch.setenv("PATH", str(stand_in))
    with pytest.raises(NoTotalSegmentator, match=r"pip install 'osteotwin\[totalsegmentator\]'") as caught:
        segment(ct(), "totalsegmentator")
    assert caught.value.exit_code == 2
    monkeypatch.setenv(totalsegmentator.OWN_EXECUTABLE, str(stand_in / "bin" / "TotalSegmentator"))
    assert segment(ct(), "totalsegmentator").labels.names
    monkeypatch.setenv(totalsegmentator.OWN_EXECUTABLE, str(stand_in / "labels.raw"))
    with pytest.raises(NoTotalSegmentator, match="names no executable"):
        segment(ct(), "totalsegmentator")


@pytest.mark.parametrize("version", ["1.5.7", "3.0.1"])
def test_a_version_with_other_numbers_is_refused(stand_in, monkeypatch, version):
    monkeypatch.setenv("STAND_IN_VERSION", version)
    with pytest.raises(NoTotalSegmentator, match=f"TotalSegmentator {version} found"):
        segment(ct(), "totalsegmentator")


def test_missing_weights_are_said_and_not_fetched(stand_in, monkeypatch):
    for folder in (stand_in / "home" / "nnunet" / "results").glob("Dataset292*"):
        folder.rmdir()
    with pytest.raises(NoWeights, match=r"parts 292 of 291 to 295\).*totalseg_download_weights -t total"):
        segment(ct(), "totalsegmentator")
    assert not (stand_in / "notes.json").exists()  # it was not even started
    (stand_in / "home" / "nnunet" / "results" / "Dataset292_part2").mkdir()
    monkeypatch.setenv("STAND_IN", "downloads")
    started = time.monotonic()
    with pytest.raises(NoWeights, match="began to fetch"):
        segment(ct(), "totalsegmentator")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("mode", "fault", "words"),
    [
        ("memory", SegmenterFailed, "ran out of memory"),
        ("killed", SegmenterFailed, "was killed"),
        ("crash", SegmenterFailed, "RuntimeError: Some background workers are no longer alive"),
        ("licence", SegmenterFailed, "asks for a licence"),
        ("weights", NoWeights, "did not find its weights"),
        ("silent", SegmenterFailed, "wrote no labels"),
        ("grid", SegmenterFailed, "not on the CT's grid"),
        ("smaller", SegmenterFailed, "not on the CT's grid"),
        ("noise", SegmenterFailed, "found no bone"),
    ],
)
def test_each_way_to_fail_is_one_fault(stand_in, monkeypatch, mode, fault, words):
    monkeypatch.setenv("STAND_IN", mode)
    with pytest.raises(fault, match=words) as caught:
        segment(ct(), "totalsegmentator")
    assert "\n" not in str(caught.value)
    assert str(stand_in) not in caught.value.message


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see whether a process lives")
@pytest.mark.parametrize("how", ["cancelled", "too slow"])
def test_it_ends_with_all_its_helpers(stand_in, monkeypatch, how):
    monkeypatch.setenv("STAND_IN", "hangs")
    if how == "cancelled":

        def stop(what, _at):
            if "part 2" in what:
                deadline = time.monotonic() + 10
                while time.monotonic() < deadline and len(notes(stand_in)) < 4:
                    time.sleep(0.05)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            segment(ct(), "totalsegmentator", stop)
    else:
        with pytest.raises(SegmenterFailed, match="not done after 2 s"):
            totalsegmentator.segment(ct(), lambda what, at: None, limit_s=2.0)
    _, _, pid, helper = notes(stand_in)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and (alive(pid) or alive(helper)):
        time.sleep(0.05)
    assert not alive(pid)
    assert not alive(helper)
    assert threading.active_count() < 20


def test_an_unknown_method_lists_both():
    with pytest.raises(Misuse, match="default, totalsegmentator"):
        segment(ct(), "nnunet")
