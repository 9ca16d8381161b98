"""``python -m deepgen`` is ``deepgen``."""

import sys

from deepgen.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
