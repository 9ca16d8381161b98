"""The worked examples of CONTRIBUTING.md, in a copy of the package: one file, one line each."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"`src/deepgen/([\w/]+\.py)`:\n\n```(python|diff)\n(.*?)```", re.S)

USE = """
import sys
from pathlib import Path
from PIL import Image
from deepgen.cli.main import main

Path("lamps").mkdir()
Image.new("RGB", (8, 8), "white").save("lamps/white.png")
assert main(["rewards", "check", "lamps", "--prompt", "a", "--rewards", "brightness"]) == 0
assert main(["data", "import", "zip", "images.zip", "data", "--json"]) == 0
assert main(["train", "overfit", "--data", "data", "--edit-microbatches", "0", "--dry-run"]) == 0
run = ["eval", "run", "haiku", "--data", "prompts", "--output", "run", "--limit", "1"]
assert main([*run, "--judge-url", "scripted:judge.json", "--json"]) == 0
"""


def test_each_example_is_new_files_and_one_line_and_runs(tmp_path: Path) -> None:
    package = tmp_path / "src" / "deepgen"
    shutil.copytree(
        ROOT / "src" / "deepgen", package, ignore=shutil.ignore_patterns("assets", "__pycache__")
    )
    for assets in (ROOT / "src" / "deepgen").rglob("assets"):
        (package / assets.relative_to(ROOT / "src" / "deepgen")).symlink_to(assets)
    blocks = BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert [kind for _, kind, _ in blocks].count("diff") == 4
    for name, kind, text in blocks:
        path = package / name
        if kind == "python":
            assert not path.exists()
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            continue
        before, after = text.splitlines()
        assert (before[0], after[0]) == (" ", "+")
        registry = path.read_text(encoding="utf-8")
        assert registry.count(f"{before[1:]}\n") == 1
        changed = registry.replace(f"{before[1:]}\n", f"{before[1:]}\n{after[1:]}\n")
        path.write_text(changed, encoding="utf-8")
    use(tmp_path)
    assert json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))


def use(folder: Path) -> None:
    """Run every example, as its user would."""
    (folder / "prompts").mkdir()
    (folder / "prompts" / "haiku.txt").write_text("an old pond\na frog\n", encoding="utf-8")
    (folder / "judge.json").write_text(json.dumps({"frog": "Yes", "": "No"}), encoding="utf-8")
    with ZipFile(folder / "images.zip", "w") as archive:
        for number in range(8):
            path = folder / f"{number}.png"
            Image.new("RGB", (96, 96), (30 * number, 90, 40)).save(path)
            archive.write(path, path.name)
            archive.writestr(f"{number}.txt", f"colour {number}")
    done = subprocess.run(
        [sys.executable, "-c", USE],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"accuracy"' in done.stdout
    assert "white.png       1.000" in done.stdout
