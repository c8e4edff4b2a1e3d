"""The patient: the scan, the bones, the plan, the case folder."""
