"""May this twin be guided by? Its scan's fitness says; a person may overrule that in writing, kept in the journal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from spatial.faults import Fault, Misuse
from twin.anatomy.twin import Twin
from twin.scan.fitness import FitnessLimits


class ScanUnfit(Fault):
    """The scan behind the twin is not fit for guidance, and nobody has overruled that."""


@dataclass(frozen=True)
class Permission:
    """Words that must be shown, and what the journal must keep (None when nothing was overruled)."""

    words: tuple[str, ...]
    override: dict[str, Any] | None = None
    by: str = "guide"


def permission(twin: Twin, override: str | None, by: str | None, today: date) -> Permission:
    """Whether guidance may begin. Raises ScanUnfit without an override, Misuse when the override is not whole.

    A case that says nothing of its scan's fitness (an older one, or one from meshes) is let through with a warning:
    nothing stands against it but that nobody judged it.
    """
    reason, name = (override or "").strip(), (by or "").strip()
    if override is not None and (not reason or not name):
        raise Misuse('an override needs its reason and a name: --override "REASON" --by NAME')
    if by is not None and override is None:
        raise Misuse("--by belongs to --override")
    against = list(twin.fitness.guide.reasons) if twin.fitness is not None and not twin.fitness.guide.fit else []
    aged = _aged(twin, today)
    if aged and not any(" days old" in text for text in against):
        against.append(aged)
    if not against:
        if twin.fitness is None:
            return Permission(("WARNING: nobody has judged whether the scan of this case is fit for guidance",))
        return Permission(("no override was needed: the scan is fit for guidance",) if reason else ())
    listed = "; ".join(against)
    if not reason:
        raise ScanUnfit(
            f'the scan is not fit for guidance: {listed}. A surgeon may overrule this: --override "REASON" --by NAME'
        )
    return Permission(
        (f"WARNING: the scan is not fit for guidance ({listed}); overruled by {name}: {reason}",),
        {"against": against, "reason": reason, "by": name},
        name,
    )


def _aged(twin: Twin, today: date) -> str | None:
    """What stands against a scan that grew too old since the twin was built (the case keeps its month alone)."""
    scan = next((step for step in twin.provenance if step.get("step") == "scan"), {})
    month = scan.get("scan_month")
    if not isinstance(month, str) or scan.get("phantom"):
        return None
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        return None
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    limit = FitnessLimits().guide_age_days
    age = (today - last).days
    return f"the scan of {month} is over {age} days old, the limit is {limit}" if age > limit else None
