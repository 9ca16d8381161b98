"""Names of the files that a run appends to in its folder; importable without torch."""

from __future__ import annotations

METRICS = "metrics.jsonl"
"""Means over some steps, a line each."""

REPLACEMENTS = "replacements.jsonl"
"""Samples that were replaced by others."""
