"""Everything that only a GPU can show, on a machine that has one for half an hour.

``python perf/gpu_kit.py run PLAN --out FOLDER`` runs a plan from this checkout.
"""

from __future__ import annotations

import sys

from gpu.kit import main

if __name__ == "__main__":
    sys.exit(main())
