"""`register` and `guide` by the command line; bad input is one clear line, and nothing half-written."""

import json
import os
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import osteotwin
from render.offscreen import Offscreen
from render.scene import MeshPart, Scene, View
from spatial.frames import Camera, Patient
from spatial.pinhole import Pinhole
from spatial.rigid import Points, Rigid
from tests.data import ROOT, shared_data
from tests.guidance import theatre as room
from tests.guidance.test_loop import Shots
from tests.guidance.theatre import SCREWS, SMALL, TWIN
from tracking.calibration.camera_file import load_camera, save_camera
from tracking.sources.source import open_source
from twin.case import Case
from twin.plan.plan import Plan
from twin.scan.fitness import Fitness, Judgement

TURN = ["--sd-deg", "1"]
BODIES = ["--bodies", str(ROOT / "assets/markers/reference.json"), "--bodies", str(ROOT / "assets/markers/drill.json")]


def run(*arguments, code=0):
    """Stdout's JSON objects and stderr; checks the exit code, and that a failure says one line."""
    done = CliRunner().invoke(osteotwin.app, [str(a) for a in arguments])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    lines = [json.loads(line) for line in done.stdout.splitlines()] if "--json" in arguments else []
    if code:
        assert list(lines[-1]) == ["error"]
        assert lines[-1]["error"]["message"] in done.stderr
    return lines, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A case with a plan, a registration made by the command, the pictures as a folder, the lens."""
    folder = tmp_path_factory.mktemp("guide")
    case = Case.create(folder / "case", TWIN, None, None)
    case.save_plan("plan", Plan("plan", TWIN.twin_id, SCREWS).to_json())
    case.journal.close()
    (folder / "frames").mkdir()
    for frame in Shots().frames:
        Image.fromarray(frame.picture).save(folder / "frames" / f"{frame.index:03d}.png")
    save_camera(folder / "camera.yml", SMALL)
    pairs = [vars(pair) for pair in room.pairs(np.random.default_rng(4), 0.1)]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    reference = ROOT / "assets/markers/reference.json"
    out = folder / "reg.json"
    run("register", folder / "case", "--pairs", folder / "pairs.json", "--body", reference, "--out", out, "--json")
    return folder


def journal(folder):
    return [(entry.kind, entry.payload) for entry in Case.open(folder / "case").journal.entries()]


def guide(place, *more, code=0, **changed):
    options = {
        "--source": place / "frames",
        "--camera": place / "camera.yml",
        "--registration": place / "reg.json",
        "--reference": "reference",
        **{f"--{key}": value for key, value in changed.items()},
    }
    flat = [part for pair in options.items() for part in pair]
    return run("guide", place / "case", *flat, *BODIES, *more, "--json", code=code)


def test_registering_tells_the_error_at_every_screw_and_is_in_the_journal(place):
    value = json.loads((place / "reg.json").read_text())
    assert {f"plan {name} {end}" for name in SCREWS for end in ("entry", "tip")} <= set(value["predicted_tre95_mm"])
    assert all(0.05 < mm < 1.0 for mm in value["predicted_tre95_mm"].values())
    found = Rigid.from_json(value["reference_from_patient"])
    off = (found @ Points(room.CENTRE)).mm - (room.REFERENCE_FROM_PATIENT @ Points(room.CENTRE)).mm
    assert np.linalg.norm(off) < 0.3
    assert set(value["residuals_mm"]) == {f"p{k}" for k in range(8)}
    entries = [payload for kind, payload in journal(place) if kind == "registered"]
    assert entries[0]["body"] == "reference"
    assert entries[0]["reference_from_patient"] == value["reference_from_patient"]


def test_guiding_keeps_raw_and_filtered_poses_in_a_file_of_its_own(place, tmp_path):
    file = tmp_path / "poses.jsonl"
    lines, _ = guide(place, "--instrument", "drill", "--poses", file)
    poses = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(p["frame"], p["body"]) for p in poses] == [(k, b) for k in range(9) for b in ("reference", "drill")]
    for line, pose in zip(lines, poses[::2], strict=True):
        assert (pose["how"], pose["cause"]) == (line["how"], line["cause"])
        assert (pose["status"] == "LOST") == (pose["camera_from_body"] is None)
        assert (pose["filtered"] is None) == (line["how"] == "STALE")
    _, said = guide(place, "--poses", file, code=2)
    assert "there is a file already" in said


def test_guiding_writes_lines_pictures_and_a_few_journal_entries(place, tmp_path):
    before = len(journal(place))
    lines, said = guide(place, "--instrument", "drill", "--screw", "L3-left", "--offscreen", tmp_path / "out")
    assert [line["how"] for line in lines] == ["EXACT"] * 3 + ["PREDICTED"] * 3 + ["STALE"] * 2 + ["EXACT"]
    assert [line["trust"] for line in lines] == ["GUIDING"] * 3 + ["CAUTION"] * 3 + ["STOP"] * 2 + ["GUIDING"]
    assert len(list((tmp_path / "out").glob("overlay_*.png"))) == 9
    assert (tmp_path / "out" / "guidance.mp4").stat().st_size > 1000
    assert "9 frames in" in said
    assert "plan 'plan' is not approved: draft" in said
    new = journal(place)[before:]
    assert [kind for kind, _ in new] == ["guidance_started", "guidance_trust", "guidance_stopped"]
    assert new[0][1]["screw"] == "L3-left"
    assert (new[0][1]["plan"], new[0][1]["plan_status"]) == ("plan", "draft")
    assert new[2][1]["frames"] == {"GUIDING": 4, "CAUTION": 3, "STOP": 2}
    assert new[2][1]["changes"] == 3
    assert new[2][1]["cause"] == "source ended"
    assert Case.open(place / "case").check() == []


def test_a_source_that_never_shows_the_reference_says_so(place, tmp_path):
    blank = tmp_path / "blank"
    blank.mkdir()
    for k in range(3):
        Image.fromarray(np.full((SMALL.height_px, SMALL.width_px, 3), 120, np.uint8)).save(blank / f"{k}.png")
    lines, _ = guide(place, "--offscreen", tmp_path / "out", source=blank, code=1)
    assert lines[-1]["error"]["kind"] == "ReferenceNeverSeen"
    assert "not seen in any of 3 pictures" in lines[-1]["error"]["message"]
    assert [line["trust"] for line in lines[:-1]] == ["STOP"] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blank"]
    assert journal(place)[-1][1]["cause"] == "reference never seen"


def wrong(place, tmp_path, what):
    """Arguments that spoil one thing, the exit code, and what the line must say."""
    save_camera(tmp_path / "big.yml", room.LENS)
    value = json.loads((place / "reg.json").read_text())
    for name, text in (
        ("other.json", json.dumps({**value, "twin_id": "another"})),
        ("lacks.json", json.dumps({k: v for k, v in value.items() if k != "covariance"})),
        ("sheared.json", json.dumps({**value, "reference_from_patient": {"rotation": [[2, 0, 0]] * 3}})),
        ("list.json", "[1, 2]"),
        ("torn.json", json.dumps(value)[:300]),
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    (tmp_path / "text.avi").write_text("no video")
    return {
        "resolution": ({"camera": tmp_path / "big.yml"}, 1, "the calibration is for 1920 x 1080"),
        "reference": ({"reference": "refrence"}, 2, "no body 'refrence'"),
        "swapped": ({"reference": "drill"}, 2, "the registration is to body 'reference'"),
        "instrument": ({"instrument": "saw"}, 2, "no body 'saw'"),
        "twin": ({"registration": tmp_path / "other.json"}, 2, "another twin"),
        "lacks": ({"registration": tmp_path / "lacks.json"}, 2, "covariance"),
        "sheared": ({"registration": tmp_path / "sheared.json"}, 2, "sheared.json"),
        "list": ({"registration": tmp_path / "list.json"}, 2, "JSON object"),
        "torn": ({"registration": tmp_path / "torn.json"}, 2, "cannot be read"),
        "binary": ({"registration": tmp_path / "binary.json"}, 2, "cannot be read"),
        "absent": ({"registration": tmp_path / "none.json"}, 2, "cannot be read"),
        "screw": ({"screw": "L9"}, 2, "no screw 'L9'"),
        "plan": ({"plan": "B"}, 2, "no plan 'B'"),
        "video": ({"source": tmp_path / "text.avi"}, 1, "not a video"),
        "source": ({"source": tmp_path / "nowhere"}, 2, "no such video"),
    }[what]


@pytest.mark.parametrize(
    "what",
    ["resolution", "reference", "swapped", "instrument", "twin", "lacks", "sheared", "list", "torn", "binary", "absent",
     "screw", "plan", "video", "source"],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(place, tmp_path, what):
    changed, code, says = wrong(place, tmp_path, what)
    before, there = len(journal(place)), sorted(os.listdir(tmp_path))
    lines, said = guide(place, "--offscreen", tmp_path / "out", code=code, **changed)
    assert says in lines[0]["error"]["message"]
    assert len(said.strip().splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == there
    assert len(journal(place)) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--pairs", "few.json"], "2 pairs"),
        (["--pairs", "none.json"], "cannot be read"),
        ([], "either --pairs"),
        (["--matrix", "eye.txt"], "--direction"),
        (["--matrix", "eye.txt", "--direction", "inverse", "--sd-mm", "1", *TURN], "--direction"),
        (["--matrix", "eye.txt", "--direction", "reference-from-patient", "--sd-mm", "0", *TURN], "never exact"),
        (["--matrix", "mirror.txt", "--direction", "reference-from-patient", "--sd-mm", "1", *TURN], "mirrored"),
        (["--matrix", "few.json", "--direction", "reference-from-patient", "--sd-mm", "1", *TURN], "matrix"),
    ],
)  # fmt: skip
def test_a_bad_registration_is_one_line_and_leaves_nothing(place, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    pairs = json.loads((place / "pairs.json").read_text())
    (tmp_path / "few.json").write_text(json.dumps(pairs[:2]))
    np.savetxt("eye.txt", np.eye(4))
    np.savetxt("mirror.txt", np.diag([-1.0, 1, 1, 1]))
    before, there = len(journal(place)), sorted(os.listdir())
    body = ROOT / "assets/markers/reference.json"
    arguments = ["register", place / "case", "--body", body, "--out", "reg.json", *options, "--json"]
    done = CliRunner().invoke(osteotwin.app, [str(a) for a in arguments])
    assert done.exit_code in (1, 2)
    assert says in json.loads(done.stdout)["error"]["message"]
    assert sorted(os.listdir()) == there
    assert len(journal(place)) == before


@pytest.mark.parametrize("direction", ["reference-from-patient", "patient-from-reference"])
def test_another_programs_matrix_keeps_its_stated_spread(place, tmp_path, direction):
    true = room.REFERENCE_FROM_PATIENT
    matrix = true.matrix() if direction == "reference-from-patient" else true.inverse().matrix()
    np.savetxt(tmp_path / "matrix.txt", matrix, fmt="%.5f")
    found, _ = run(
        "register", place / "case", "--matrix", tmp_path / "matrix.txt", "--direction", direction, "--sd-mm", 0.5,
        "--sd-deg", 0.2, "--body", ROOT / "assets/markers/reference.json", "--out", tmp_path / "reg.json", "--json",
    )  # fmt: skip
    value = found[0]
    pose = Rigid.from_json(value["reference_from_patient"])
    assert np.abs(pose.matrix() - true.matrix()).max() < 0.02
    assert value["fle_mm"] is None
    assert value["residuals_mm"] == {}
    assert "stated by the user" in value["warnings"][0]
    middle = np.mean([bone.surface.centroid_mm for bone in TWIN.bones.values()], axis=0)
    spread = room.Registration.from_json(value).reference_from_patient
    assert np.allclose(spread.point_covariance(Points(middle)), 0.25 * np.eye(3), atol=1e-9)
    aside = spread.point_covariance(Points(middle + np.array([100.0, 0, 0])))
    assert np.trace(aside) == pytest.approx(0.75 + 2 * (100 * np.radians(0.2)) ** 2, rel=1e-6)


@pytest.fixture(scope="module")
def bard(tmp_path_factory):
    """The real scene: UCL's board, video and pelvis phantom, made ready by the command line alone."""
    data = shared_data("ar_bard_guidance")
    folder = tmp_path_factory.mktemp("bard")
    (folder / "meshes").mkdir()
    with zipfile.ZipFile(data / "DeciPelvis.vtk.zip") as packed:
        (folder / "meshes" / "pelvis.vtk").write_bytes(packed.read("DeciPelvis.vtk"))
    run("twin", "build", folder / "meshes", "--case", folder / "case", "--json")
    run("markers", "convert", data / "reference.txt", "--out", folder / "board.json", "--name", "board", "--json")
    K = np.loadtxt(data / "calibration_640x480/calib.intrinsics.txt")
    bend = tuple(np.loadtxt(data / "calibration_640x480/calib.distortion.txt").ravel())
    save_camera(folder / "camera.yml", Pinhole(640, 480, K[0, 0], K[1, 1], K[0, 2], K[1, 2], bend))
    np.savetxt(folder / "matrix.txt", np.eye(4))  # what BARD's own configuration of this recording names
    run(
        "register", folder / "case", "--matrix", folder / "matrix.txt", "--direction", "reference-from-patient",
        "--sd-mm", 1, "--sd-deg", 0.5, "--body", folder / "board.json", "--out", folder / "reg.json", "--json",
    )  # fmt: skip
    lines, _ = run(
        "guide", folder / "case", "--source", data / "multipattern.avi", "--camera", folder / "camera.yml", "--bodies",
        folder / "board.json", "--registration", folder / "reg.json", "--reference", "board", "--offscreen",
        folder / "out", "--json",
    )  # fmt: skip
    return data, folder, lines


def test_real_video_gives_the_boards_pose_in_every_frame(bard):
    data, folder, lines = bard
    assert [line["how"] for line in lines] == ["EXACT"] * 10
    tracked, _ = run(
        "track", data / "multipattern.avi", "--camera", folder / "camera.yml", "--bodies", folder / "board.json",
        "--json",
    )  # fmt: skip
    assert [line["status"] for line in tracked] == ["TRACKED"] * 10
    z = [line["camera_from_body"]["translation_mm"][2] for line in tracked]
    assert 245 <= min(z) <= max(z) <= 251
    for ours, theirs in zip(lines, tracked, strict=True):  # the identity registers model and board
        a, b = ours["camera_from_patient"], theirs["camera_from_body"]
        # the overlay's pose is filtered, `track` says what each picture says; they differ by the pictures' noise
        sd_mm = np.sqrt(np.diag(theirs["covariance"])[3:])
        assert (np.abs(np.subtract(a["translation_mm"], b["translation_mm"])) <= 3 * sd_mm).all()
        assert theirs["filtered"] is not None
        assert np.allclose(a["translation_mm"], theirs["filtered"]["camera_from_body"]["translation_mm"], atol=1e-9)


def test_real_model_is_drawn_where_opencv_projects_it(bard):
    data, folder, lines = bard
    ideal = load_camera(folder / "camera.yml").undistorted()
    bone = Case.open(folder / "case").twin.bones["pelvis"]
    with open_source(str(data / "multipattern.avi")) as source:
        frames = list(source)
    with Offscreen(samples=0, occlusion=False) as target:
        for index in (0, 9):
            pose: Rigid[Camera, Patient] = Rigid.from_json(lines[index]["camera_from_patient"])
            turn, _ = cv2.Rodrigues(pose.rotation)
            px, _ = cv2.projectPoints(bone.surface.vertices_mm, turn, pose.translation_mm, ideal.matrix, None)
            px = px.reshape(-1, 2)
            view = View[Patient].from_pinhole(ideal, pose)
            assert np.abs(view.pixels(Points(bone.surface.vertices_mm)) - px).max() < 0.1

            part = MeshPart[Patient]("pelvis", bone.surface)
            fine = target.mask(Scene(meshes=(part,)), View[Patient].from_pinhole(ideal.scaled(8), pose))
            for axis, end in ((0, px[:, 0].argmin()), (0, px[:, 0].argmax()), (1, px[:, 1].argmin())):
                shift = px[end].round() - 60  # a small picture round the model's end, wherever that is
                crop = Pinhole(121, 121, ideal.fx_px, ideal.fy_px, *(ideal.matrix[:2, 2] - shift)).scaled(8)
                place = np.nonzero(target.mask(Scene(meshes=(part,)), View[Patient].from_pinhole(crop, pose)))[1 - axis]
                is_low = px[end, axis] == px[:, axis].min()
                drawn_px = (place.min() if is_low else place.max() + 1) / 8 - 0.5 + shift[axis]
                # eight samples a pixel: the tip of a triangle lies up to an eighth beyond the last one that it lights
                assert drawn_px == pytest.approx(px[end, axis], abs=0.13)

            drawn = np.asarray(Image.open(folder / "out" / f"overlay_{index:04d}.png")).astype(int)
            plain = cv2.undistort(
                frames[index].picture, ideal.matrix, np.array(load_camera(folder / "camera.yml").distortion)
            ).astype(int)
            changed = np.abs(drawn - plain).max(axis=2) > 24
            mask = fine[4::8, 4::8]
            assert changed[mask].mean() > 0.5
            board = np.array([line for line in np.loadtxt(data / "reference.txt")])[:, 1:4]
            centre = (pose @ Points(board.mean(axis=0))).mm
            u, v = (ideal.matrix @ centre / centre[2])[:2].astype(int)
            assert mask[v - 20 : v + 20, u - 20 : u + 20].any()  # the model lies over the board, as BARD draws it


def test_an_override_is_said_and_kept_in_the_journal(place, tmp_path):
    old = Fitness(Judgement(True), Judgement(True), Judgement(False, ("slices are 3.00 mm apart",)))
    case = Case.create(tmp_path / "case", replace(TWIN, fitness=old), None, None)
    case.journal.close()
    for name in ("frames", "camera.yml", "reg.json"):
        (tmp_path / name).symlink_to(place / name)
    lines, _ = guide(tmp_path, code=1)
    assert lines[0]["error"]["kind"] == "ScanUnfit"
    assert not [kind for kind, _ in journal(tmp_path) if kind.startswith("guidance")]
    lines, said = guide(tmp_path, "--override", "rehearsal on a phantom", "--by", "Dr A")
    assert len(lines) == 9
    assert "overruled by Dr A: rehearsal on a phantom" in said
    kept = [payload for kind, payload in journal(tmp_path) if kind == "guidance_override"]
    assert kept == [{"against": ["slices are 3.00 mm apart"], "reason": "rehearsal on a phantom", "by": "Dr A"}]
