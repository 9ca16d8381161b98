"""What must stay cheap to import; each in a fresh interpreter, since others have torch loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = "import sys; heavy = {'torch', 'jaxtyping', 'transformers'} & set(sys.modules)"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


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


def test_the_list_of_commands_needs_hardly_more_than_python() -> None:
    ran = run(
        "import sys; before = set(sys.modules)\n"
        "from deepgen.cli.main import main; assert main(['--help']) == 0\n"
        "new = set(sys.modules) - before; print(len(new))\n"
        "assert not {'tyro', 'numpy', 'PIL', 'pydantic', 'yaml', 'rich'} & new, new"
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.split()[-1]) <= 60


def test_one_image_imports_what_it_needs_and_the_slow_part_after_the_first_line(
    tmp_path: Path,
) -> None:
    ran = run(
        "import sys\n"
        "from deepgen.cli import generating, main\n"
        "def shown(line): print(len(sys.modules), 'torch' in sys.modules)\n"
        "generating.print_line = shown\n"
        "arguments = ['generate', 'a cat', '--steps', '1', '--seed', '0', '-o', sys.argv[1]]\n"
        "assert main.main([*arguments, '--overwrite']) == 0\n"
        "unneeded = {'deepgen.train', 'deepgen.eval.registry', 'deepgen.stages', 'deepgen.data', "
        "'pyarrow', 'rich', 'pandas', 'matplotlib', 'tensorboard', 'torchvision', 'rapidfuzz'}\n"
        # httpx, which older transformers import, imports rich for its command where it can.
        "unneeded -= {'rich'} if 'httpx' in sys.modules else set()\n"
        "print(len(sys.modules), *sorted(unneeded & set(sys.modules)))",
        str(tmp_path / "a.png"),
    )
    assert ran.returncode == 0, ran.stderr
    before, path, after = ran.stdout.splitlines()
    count, has_torch = before.split()
    assert int(count) <= 700
    assert has_torch == "False"
    # Half of these are torch's own; diffusers and transformers import the rest.
    assert int(after.split()[0]) <= 4200
    assert after.split()[1:] == []
    assert Path(path).is_file()


def test_the_public_names_are_there() -> None:
    import deepgen

    assert set(deepgen.__all__) <= set(dir(deepgen))
    assert deepgen.CheckpointError.__module__ == "deepgen.errors"
    with pytest.raises(AttributeError, match="no attribute 'Pipeline'"):
        _ = deepgen.Pipeline
