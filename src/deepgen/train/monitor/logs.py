"""What a run writes down in its folder as it goes on; known without torch."""

from __future__ import annotations

METRICS = "metrics.jsonl"
"""Means over some updates, a line each."""

SUBSTITUTIONS = "substitutions.jsonl"
"""Samples that others stood in for."""
