from __future__ import annotations

import sys
from pathlib import Path

# Scripts in perf/ import each other by their plain names.
sys.path.append(str(Path(__file__).resolve().parents[2] / "perf"))
