"""What a scan is fit for: to look at, to plan on, to guide by; each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Judgement:
    """Fit or not, and why: the reasons against, or what fitness rests on."""

    fit: bool
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As case.json holds it."""
        return {"fit": self.fit, "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Judgement:
        """Inverse of `to_json`; raises KeyError or TypeError on a value of another shape."""
        return cls(bool(value["fit"]), tuple(str(reason) for reason in value["reasons"]))


@dataclass(frozen=True)
class Fitness:
    """Three judgements of one scan. Guidance on a scan unfit for it needs a written override."""

    view: Judgement
    plan: Judgement
    guide: Judgement

    def to_json(self) -> dict[str, Any]:
        """As case.json holds it."""
        return {"view": self.view.to_json(), "plan": self.plan.to_json(), "guide": self.guide.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fitness:
        """Inverse of `to_json`; raises KeyError or TypeError on a value of another shape."""
        return cls(*(Judgement.from_json(value[use]) for use in ("view", "plan", "guide")))
