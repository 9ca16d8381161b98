"""What must stay cheap to import; each in a fresh interpreter, since others have torch loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHECK = "import sys; heavy = {'torch', 'jaxtyping', 'transformers'} & set(sys.modules)"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "code",
    [
        "import deepgen; deepgen.__version__; deepgen.CheckpointError; deepgen.ImageError",
        "import deepgen.config.model, deepgen.config.sizes, deepgen.errors, deepgen.images.io",
        "import deepgen.scoring.judge, deepgen.scoring.remote, deepgen.scoring.scripted",
        "import deepgen.scoring.ocr, deepgen.scoring.templates",
        "from deepgen.cli.main import main; assert main(['--help']) == 0",
        "from deepgen.cli.main import main; assert main(['edit', '--help']) == 0",
        "from deepgen.cli.main import main; assert main(['data', 'import', '--help']) == 0",
        "import deepgen.data.importing, deepgen.data.checking, deepgen.data.preview",
        "from deepgen.cli.main import main; assert main(['eval', 'list']) == 0",
        "import deepgen.eval.aggregation, deepgen.eval.report.statistics, deepgen.eval.registry",
    ],
)
def test_no_torch_is_imported_for(code: str) -> None:
    ran = run(f"{code}\n{CHECK}\nassert not heavy, heavy")
    assert ran.returncode == 0, ran.stderr


def test_the_public_names_are_there() -> None:
    import deepgen

    assert set(deepgen.__all__) <= set(dir(deepgen))
    assert deepgen.CheckpointError.__module__ == "deepgen.errors"
    with pytest.raises(AttributeError, match="no attribute 'Pipeline'"):
        _ = deepgen.Pipeline
