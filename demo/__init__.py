"""The whole line on one patient, measured against the truth."""
