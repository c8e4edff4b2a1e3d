"""A planning request: what shall be reached, where, within which limits; typed, and read without guessing.

Unknown fields are refused with what is allowed there. YAML is read as plain data: no tags, no anchors, no key twice.
The same types make the JSON schema (docs/request.schema.json).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spatial.faults import Fault, Misuse
from twin.durable import sha256_of
from twin.journal import canonical_json
from twin.plan.levels import levels_between

SCHEMA = 1
MOST_BYTES = 64 * 1024
DEEPEST = 12
Procedure = Literal[
    "fixation", "sagittal_correction", "high_tibial_osteotomy", "distal_femoral_osteotomy", "derotation"
]
OF_SPINE: tuple[Procedure, ...] = ("fixation", "sagittal_correction")
SpineCut = Literal["SPO", "PSO", "VCR"]
LegCut = Literal["open-wedge", "close-wedge", "derotation"]
LEG_CUTS: Mapping[Procedure, tuple[LegCut, ...]] = {
    "high_tibial_osteotomy": ("open-wedge", "close-wedge"),
    "distal_femoral_osteotomy": ("open-wedge", "close-wedge"),
    "derotation": ("derotation",),
}
SPINE_CUTS: tuple[SpineCut, ...] = get_args(SpineCut)


class BadRequest(Misuse):
    """A request that can't be read, or that asks for what no request can."""


class _Strict(BaseModel):
    """Frozen, nothing unknown, no text taken for a number."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Goal(_Strict):
    """Where a measured value shall be: a `target` with its `tolerance`, or `at_least` and `at_most`."""

    target: float | None = None
    """Wanted value, in the unit that ends the goal's name."""
    tolerance: Annotated[float, Field(gt=0, le=10)] = 0.5
    """How far from the target still counts as reached."""
    at_least: float | None = None
    """Lower bound."""
    at_most: float | None = None
    """Upper bound."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        bounds = self.at_least is not None or self.at_most is not None
        if (self.target is None) != bounds:
            raise ValueError("give either target, or at_least and at_most")
        low, high = self.bounds
        if low > high:
            raise ValueError(f"at_least {low:g} is above at_most {high:g}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value that counts as reached."""
        if self.target is not None:
            return self.target - self.tolerance, self.target + self.tolerance
        return (
            float("-inf") if self.at_least is None else self.at_least,
            float("inf") if self.at_most is None else self.at_most,
        )

    def short_by(self, value: float) -> float:
        """How far a value is from what counts as reached; 0 when it does."""
        low, high = self.bounds
        return max(low - value, value - high, 0.0)

    @property
    def words(self) -> str:
        """`62.5 ± 0.5`, `at most 10`, `5 to 10`."""
        if self.target is not None:
            return f"{self.target:g} ± {self.tolerance:g}"
        low, high = self.bounds
        if self.at_least is None:
            return f"at most {high:g}"
        return f"at least {low:g}" if self.at_most is None else f"{low:g} to {high:g}"


class Goals(_Strict):
    """Wanted values by what is measured; each as `osteotwin plan assess` names it."""

    pi_minus_ll_deg: Goal | None = None
    """Pelvic incidence less lumbar lordosis, lying in the scanner."""
    lumbar_lordosis_deg: Goal | None = None
    """L1 to S1."""
    l4_s1_lordosis_deg: Goal | None = None
    """L4 to S1."""
    t1_pelvic_angle_deg: Goal | None = None
    """TPA."""
    l1_pelvic_angle_deg: Goal | None = None
    """LPA."""
    sagittal_vertical_axis_mm: Goal | None = None
    """SVA, C7 in front of S1 positive."""
    weight_bearing_line_percent: Goal | None = None
    """Where the load crosses the plateau: 0 medial, 100 lateral."""
    hka_deg: Goal | None = None
    """Hip-knee-ankle angle, varus below 180."""
    mpta_deg: Goal | None = None
    """Medial proximal tibial angle."""
    mldfa_deg: Goal | None = None
    """Mechanical lateral distal femoral angle."""
    femoral_version_deg: Goal | None = None
    """Anteversion positive."""
    tibial_torsion_deg: Goal | None = None
    """External positive."""
    leg_length_difference_mm: Goal | None = None
    """This leg less the other."""

    @cached_property
    def asked(self) -> dict[str, Goal]:
        """Those that were given, by name, in this order."""
        return {name: goal for name in type(self).model_fields if (goal := getattr(self, name)) is not None}


OF_TURNS = frozenset({"femoral_version_deg", "tibial_torsion_deg"})
OF_LEGS = OF_TURNS | {"weight_bearing_line_percent", "hka_deg", "mpta_deg", "mldfa_deg", "leg_length_difference_mm"}


class Constraints(_Strict):
    """What a proposal must keep to."""

    screw_family: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """A family of the implant library."""
    no_go: Annotated[tuple[str, ...], Field(max_length=32, strict=False)] = ()
    """Structures of the twin by name that nothing may come near, whatever their role."""
    max_diameter_mm: Annotated[float, Field(gt=0, le=12)] | None = None
    """Thickest screw."""
    min_margin_mm: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Least bone from a screw's thread to each wall."""
    cuts: Annotated[tuple[SpineCut | LegCut, ...], Field(min_length=1, max_length=5, strict=False)] | None = None
    """Kinds of osteotomy that may be proposed."""
    cut_levels: Annotated[str, Field(max_length=40)] | None = None
    """Where the spine may be cut: L3, or L2-L4."""
    max_angle_deg: Annotated[float, Field(gt=0, le=60)] | None = None
    """Largest angle of one osteotomy."""
    max_opening_mm: Annotated[float, Field(gt=0, le=40)] | None = None
    """Largest gap of an opening wedge, largest base of a closing one."""


class Request(_Strict):
    """One procedure, as a typed question to the planner. No name and no number of a patient belongs here."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    """Version of this form."""
    procedure: Procedure
    """What is to be done."""
    side: Literal["left", "right", "both"] = "both"
    """The patient's side; legs need left or right."""
    levels: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """Levels of the spine to fix with screws: L1-S1, or L2,L3,L5."""
    goals: Goals = Goals()
    """What shall be reached."""
    constraints: Constraints = Constraints()
    """What must be kept to."""
    priorities: Annotated[tuple[str, ...], Field(max_length=12, strict=False)] = ()
    """Goals in order of weight, the first one first; those left out follow in the form's order."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        spine = self.procedure in OF_SPINE
        if spine and self.levels is None:
            raise ValueError(f"{self.procedure} needs levels, such as L1-S1")
        if not spine and (self.levels is not None or self.constraints.cut_levels is not None):
            raise ValueError(f"{self.procedure} has no levels of the spine")
        if not spine and self.side == "both":
            raise ValueError(f"{self.procedure} needs side: left or right")
        for text in (self.levels, self.constraints.cut_levels):
            if text is not None:
                _readable(text)
        strange = [name for name in self.goals.asked if (name in OF_LEGS) == spine]
        if strange:
            raise ValueError(f"{', '.join(strange)} is no goal of a {self.procedure}")
        if self.procedure == "fixation" and self.goals.asked:
            raise ValueError("a fixation moves nothing; ask for a sagittal_correction to reach goals")
        if self.procedure != "fixation" and not self.goals.asked:
            raise ValueError(f"{self.procedure} needs a goal")
        known = SPINE_CUTS if self.procedure == "sagittal_correction" else LEG_CUTS.get(self.procedure, ())
        for kind in self.constraints.cuts or ():
            if kind not in known:
                raise ValueError(f"{kind} is no cut of a {self.procedure}; {', '.join(known) or 'it has none'}")
        if self.procedure == "derotation" and len(OF_TURNS & set(self.goals.asked)) != 1:
            raise ValueError("a derotation needs one goal of femoral_version_deg and tibial_torsion_deg")
        for name in self.priorities:
            if name not in self.goals.asked:
                raise ValueError(f"priority {name!r} is none of the goals ({', '.join(self.goals.asked) or 'none'})")
        return self

    @property
    def ordered(self) -> dict[str, Goal]:
        """The goals, those with priority first."""
        asked = self.goals.asked
        return {name: asked[name] for name in dict.fromkeys((*self.priorities, *asked))}

    def to_json(self) -> dict[str, Any]:
        """The form as it was filled in, without what was left out."""
        value: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"schema": SCHEMA, **value}

    @property
    def sha256(self) -> str:
        """The hash that the journal keeps of it."""
        return sha256_of(canonical_json(self.to_json()))

    def to_yaml(self) -> str:
        """The form as a file for people."""
        return str(yaml.safe_dump(self.to_json(), sort_keys=False, allow_unicode=True))


def json_schema() -> dict[str, Any]:
    """The JSON schema of a request."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Request.model_json_schema(by_alias=True)}


def read_request(path: Path) -> Request:
    """A request from a YAML or JSON file. Raises BadRequest."""
    try:
        size = path.stat().st_size
        data = path.read_bytes()[: MOST_BYTES + 1]
    except OSError as error:
        raise BadRequest(f"the request cannot be read ({error.strerror})", path=path) from None
    if size > MOST_BYTES:
        raise BadRequest(f"the request has {size} bytes, at most {MOST_BYTES} are read; is it another file?", path=path)
    try:
        return request_from(plain_yaml(data.decode()))
    except UnicodeDecodeError:
        raise BadRequest("the request is no text (UTF-8)", path=path) from None
    except BadRequest as fault:
        raise BadRequest(fault.message, path=path) from None


def request_from(value: Any) -> Request:
    """A request from plain data; raises BadRequest that names each wrong field, and what is allowed there."""
    if not isinstance(value, Mapping):
        raise BadRequest(f"a request is a form with fields ({', '.join(_fields(Request))}), not {type(value).__name__}")
    try:
        return Request.model_validate(value)
    except ValidationError as error:
        raise BadRequest("; ".join(dict.fromkeys(map(_told, error.errors())))) from None


def plain_yaml(text: str) -> Any:
    """YAML (or JSON) as plain data. Raises BadRequest."""
    try:
        return _depth(yaml.load(text, _Plain))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f"line {mark.line + 1}: "
        raise BadRequest(f"{where}{getattr(error, 'problem', None) or 'this is no YAML'}") from None
    except RecursionError:
        raise BadRequest("the request is nested too deeply") from None


class _Plain(yaml.SafeLoader):
    """YAML without aliases (a few lines of them unfold to gigabytes) and without a key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.get_event()  # type: ignore[no-untyped-call]  # yaml leaves it untyped
            raise yaml.MarkedYAMLError(problem="aliases (*) are not allowed", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _depth(value: Any, deep: int = 0) -> Any:
    if deep > DEEPEST:
        raise BadRequest(f"the request is nested more than {DEEPEST} deep")
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _depth(one, deep + 1)
    return value


def _readable(levels: str) -> None:
    try:
        levels_between(levels)
    except Fault as fault:
        raise ValueError(fault.message) from None


def _told(error: Any) -> str:
    """One of pydantic's findings as the field, what is wrong, and what is allowed."""
    place = [str(part) for part in error["loc"]]
    name = ".".join(place) or "request"
    if error["type"] == "extra_forbidden":
        allowed = _fields(_model_at(place[:-1]))
        near = difflib.get_close_matches(place[-1], allowed, 1, 0.4)
        meant = f"; did you mean {near[0]}?" if near else ""
        return f"unknown field {name}: allowed are {', '.join(allowed)}{meant}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] == "value_error":
        return message if name == "request" else f"{name}: {message}"
    given = error.get("input")
    return f"{name} is {_shown(given)}: {message[:1].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _fields(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(place: Sequence[str]) -> type[BaseModel]:
    model: type[BaseModel] = Request
    for part in place:
        field = model.model_fields.get(part)
        inner = next(iter(_models(field.annotation)), None) if field is not None else None
        model = inner or model
    return model


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
