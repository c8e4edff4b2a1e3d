"""Density of vertebral bodies: what is read, what is only measured, and what a site's file may say."""

import numpy as np
import pytest

from spatial.faults import Misuse
from spatial.frames import Patient
from spatial.rigid import Directions, Points
from twin.anatomy import density, site
from twin.anatomy.bone import Landmark
from twin.scan.volume import Grid, Volume

CALIBRATED = """
name = "Ward 4"
[density]
osteoporosis_specific_hu = 90
[density.calibration]
equivalent = "K2HPO4"
slope_mg_cc_per_hu = 0.8
intercept_mg_cc = -2.0
sd_mg_cc = 3.0
kvp = 120
source = "rods"
"""


def marks(bone: str, z_mm: float = 0.0, height_mm: float = 28.0, wedge_deg: float = 0.0) -> tuple[Landmark, ...]:
    """Endplates and centre of a body at (0, 0, z); a positive wedge is lower in front."""
    a = np.radians(wedge_deg / 2)
    return (
        Landmark("body_centre", bone, None, Points[Patient]([0, 0, z_mm]), None, None),
        *(
            Landmark(
                f"endplate_{name}", bone, None, Points[Patient]([0, 0, z_mm + up * height_mm / 2]),
                Directions[Patient]([0, -up * np.sin(a), np.cos(a)]), None,
            )
            for name, up in (("superior", 1.0), ("inferior", -1.0))
        ),
    )  # fmt: skip


def volume(marrow_hu: float, noise_hu: float = 20.0, seed: int = 1, **about: str) -> Volume:
    """A block of marrow 80 x 80 x 160 mm about the origin."""
    hu = np.random.default_rng(seed).normal(marrow_hu, noise_hu, (160, 80, 80)).round().astype(np.int16)
    return Volume(Grid((80, 80, 160), np.ones(3), np.array([-40.0, -40.0, -80.0]), np.eye(3)), hu, about)


@pytest.mark.parametrize(
    ("hu", "words"),
    [
        (90, "osteoporosis likely"),
        (140, "osteoporosis possible"),
        (185, "osteoporosis unlikely"),
        (230, "osteoporosis excluded"),
    ],
)
def test_density_is_read_by_the_published_thresholds(hu: float, words: str) -> None:
    found = density.measure(volume(hu, kvp="120", contrast=""), marks("vertebrae_L1"))
    assert found["reading"] == words
    assert found["bodies"]["vertebrae_L1"]["mean_hu"] == pytest.approx(hu, abs=1.5)
    assert found["t_hu"] == pytest.approx((hu - 236) / 42, abs=0.05)
    assert found["flags"] == []
    assert found["calibrated"] is False
    assert "no phantom" in found["calibration"]


def test_the_standard_error_is_that_of_the_mean() -> None:
    off = []
    for seed in range(30):
        body = density.measure(volume(150.0, 60.0, seed), marks("vertebrae_L1"))["bodies"]["vertebrae_L1"]
        off.append((body["mean_hu"] - 150.0) / body["sem_hu"])
    assert 0.3 < np.std(off) < 1.3  # never stated smaller than it is; white noise is its easiest case


def test_another_voltage_has_no_reading_and_an_unknown_one_a_flag() -> None:
    found = density.measure(volume(100.0, kvp="100"), marks("vertebrae_L1"))
    assert found["reading"] is None
    assert "120 kVp" in found["no_reading"]
    assert "made at 100" in found["no_reading"]
    assert "t_hu" not in found
    found = density.measure(volume(100.0), marks("vertebrae_L1"))
    assert found["reading"] == "osteoporosis likely"
    assert any("voltage is not known" in flag for flag in found["flags"])


def test_contrast_another_level_and_a_near_threshold_are_flagged() -> None:
    found = density.measure(volume(110.2, kvp="120", contrast="Iomeprol"), marks("vertebrae_L2"))
    assert found["read_at"] == "vertebrae_L2"
    assert {flag.split(",")[0].split(" ")[0] for flag in found["flags"]} == {"made", "read", "the"}


def test_a_sharp_kernel_has_no_reading() -> None:
    assert "B80" in density.measure(volume(100.0, kvp="120", kernel="B80f"), marks("vertebrae_L1"))["no_reading"]


def test_wedged_crushed_patchy_and_metal_bodies_are_measured_but_not_read() -> None:
    three = (*marks("vertebrae_L1", 36.0), *marks("vertebrae_L2", 0.0), *marks("vertebrae_L3", -36.0))
    plain = volume(150.0, kvp="120")
    assert density.measure(plain, three)["read_at"] == "vertebrae_L1"
    wedged = (*marks("vertebrae_L1", 36.0, wedge_deg=24.0), *three[3:])
    found = density.measure(plain, wedged)
    assert "wedged" in found["bodies"]["vertebrae_L1"]["excluded"]
    assert found["read_at"] == "vertebrae_L2"
    lordotic = (*marks("vertebrae_L1", 36.0, wedge_deg=-24.0), *three[3:])  # L5 is taller in front, and sound
    assert density.measure(plain, lordotic)["read_at"] == "vertebrae_L1"
    crushed = (*marks("vertebrae_L1", 36.0, 18.0), *three[3:])
    assert "neighbours" in density.measure(plain, crushed)["bodies"]["vertebrae_L1"]["excluded"]
    hu = np.array(plain.hu)
    hu[116:, :, 40:] += 250  # half of L1 is dense
    found = density.measure(Volume(plain.grid, hu, plain.about), three)
    assert "patchy" in found["bodies"]["vertebrae_L1"]["excluded"]
    hu = np.array(plain.hu)
    hu[114:120, 25:30, 20:60] = 3000  # a screw's tip behind L1's volume
    found = density.measure(Volume(plain.grid, hu, plain.about), three)
    assert "metal" in found["bodies"]["vertebrae_L1"]["excluded"]
    assert found["read_at"] == "vertebrae_L2"
    assert "excluded" not in found["bodies"]["vertebrae_L3"]


def test_no_body_no_reading() -> None:
    found = density.measure(volume(100.0), ())
    assert found["reading"] is None
    assert found["no_reading"] == "no lumbar body was measured"


def test_a_site_sets_thresholds_and_calibration(tmp_path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(CALIBRATED)
    here = site.load_site(file)
    found = density.measure(volume(100.0, kvp="120"), marks("vertebrae_L1"), here)
    body = found["bodies"]["vertebrae_L1"]
    assert found["calibrated"] is True
    assert body["qct_mg_cc"] == pytest.approx(78.0, abs=1.5)
    assert body["qct_sd_mg_cc"] >= 3.0
    assert found["equivalent"] == "K2HPO4"
    assert found["qct_reading"] == "osteoporosis"
    assert found["reading"] == "osteoporosis possible"
    assert found["site"] == {"name": "Ward 4", "sha256": here.sha256}
    other = density.measure(volume(100.0, kvp="80"), marks("vertebrae_L1"), here)
    assert other["calibrated"] is False
    assert "holds at 120 kVp" in other["calibration"]
    assert "qct_mg_cc" not in other["bodies"]["vertebrae_L1"]
    assert site.site_of({site.ENVIRONMENT: str(file)}).name == "Ward 4"
    assert site.site_of({}) is site.DEFAULT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nme = 'x'", "'nme'"),
        ("[density]\nthreshold = 3", "'threshold'"),
        ("[density]\nosteoporosis_specific_hu = 170", "rise"),
        ("[density]\nkvp = 12", "60 to 160"),
        ("[density]\nkvp = true", "number"),
        ("[density]\nyoung_hu = {L1 = [200]}", "mean, sd"),
        ("[density.calibration]\nequivalent = 'HA'", "lacks"),
        (CALIBRATED.replace("0.8", "800"), "0.3 to 2"),
        (CALIBRATED.replace("K2HPO4", "water"), "K2HPO4"),
        ("[density", "TOML"),
    ],
)
def test_a_wrong_site_file_is_refused_by_name(tmp_path, text: str, words: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(site.BadSite, match=words):
        site.load_site(file)


def test_a_site_file_that_is_not_there_is_wrong_use(tmp_path) -> None:
    with pytest.raises(Misuse):
        site.load_site(tmp_path / "none.toml")
