"""`osteotwin plan screw --along …`: a screw by a rule instead of by two points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from commands.plan_desk import point_of
from spatial.faults import Misuse

if TYPE_CHECKING:
    from spatial.shapes import Plane
    from twin.anatomy.bone import Side
    from twin.anatomy.twin import Twin
    from twin.plan.screws.screw import Screw

RULES = ("axis", "cbt", "s2ai", "lag")


@dataclass(frozen=True)
class Asked:
    """The options of `plan screw` that a rule may take; None: not given."""

    rule: str
    bone: str
    side: Side
    entry: str | None
    target: str | None
    diameter_mm: float | None
    length_mm: float | None
    family: str | None
    fracture: str | None

    def __post_init__(self) -> None:
        """Check what belongs to the rule; raises Misuse."""
        if self.rule not in RULES:
            raise Misuse(f"--along {self.rule!r}; one of {', '.join(RULES)}")
        points = {"--entry": self.entry, "--target": self.target}
        if self.rule == "lag":
            missing = [name for name, value in {**points, "--diameter": self.diameter_mm}.items() if value is None]
            if missing:
                raise Misuse(f"--along lag needs {', '.join(missing)}")
        elif any(value is not None for value in (*points.values(), self.fracture)):
            raise Misuse(f"--along {self.rule} finds its own way; leave out --entry, --target and --fracture")
        if self.rule == "s2ai" and self.bone != "sacrum":
            raise Misuse(f"--along s2ai goes through the sacrum; --bone {self.bone} is another")


def placed(twin: Twin, asked: Asked) -> Screw:
    """The screw of the rule. Raises NoBone, NoLandmark, OffBone, NoRoom, BadImplant."""
    from twin.plan.screws.placements import along_axis, cortical, lag
    from twin.plan.screws.sacroiliac import s2ai

    sizes: dict[str, Any] = {"diameter_mm": asked.diameter_mm, "length_mm": asked.length_mm}
    sizes["family"] = asked.family or ""
    twin.bone(asked.bone)
    if asked.rule == "axis":
        return along_axis(twin, asked.bone, asked.side, **sizes)
    if asked.rule == "cbt":
        return cortical(twin, asked.bone, asked.side, **sizes)
    if asked.rule == "s2ai":
        return s2ai(twin, asked.side, **sizes)
    entry, target = point_of(asked.entry or "", "--entry"), point_of(asked.target or "", "--target")
    return lag(twin, asked.bone, asked.side, entry, target, **sizes, fracture=_fracture(asked.fracture))


def aim_of(twin: Twin, screw: Screw) -> dict[str, Any]:
    """The screw's direction in its bone's frame, and in the scan's for screws into the ilium."""
    from twin.anatomy.local_frame import bone_frame
    from twin.plan.screws.placements import Aim
    from twin.plan.screws.sacroiliac import PelvicAim

    way = screw.axis.direction
    found: dict[str, Any] = {"aim_deg": Aim.of(way, bone_frame(twin, screw.bone), screw.side).to_json()}
    if screw.kind == "s2ai":
        found["pelvic_aim_deg"] = PelvicAim.of(way, screw.side).to_json()
    return found


def _fracture(text: str | None) -> Plane[Any] | None:
    """`x,y,z,nx,ny,nz` as a plane; raises Misuse."""
    from spatial.shapes import Plane

    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 6:
        raise Misuse(f"--fracture {text!r}; write a point and a normal: x,y,z,nx,ny,nz")
    normal = point_of(",".join(parts[3:]), "--fracture")
    if not float(abs(normal).max()) > 0.0:
        raise Misuse(f"--fracture {text!r}; the normal has no length")
    return Plane[Any](point_of(",".join(parts[:3]), "--fracture"), normal)
