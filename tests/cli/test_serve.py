"""``deepgen serve``, as a process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from deepgen.cli.main import main
from deepgen.cli.serve import read_keys
from deepgen.errors import UsageError


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["serve", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_other_machines_are_not_let_in_without_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--api-key-file" in failure(["--host", "0.0.0.0"], capsys)
    assert "--api-key-file" in failure(["--allow-host", "images.example.org"], capsys)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "70000"], "from 0 to 65535"),
        (["--max-n", "0"], "at least 1"),
        (["--deadline", "0"], "positive"),
        (["--allow-origin", "*"], "expected an address"),
        (["--allow-host", "a.example:80"], "expected a name"),
        (["--max-batch-rows", "1"], "at least 2"),
        (["--max-pixels", "4000"], "at least 4096"),
        (["--model", "absent"], "absent"),
    ],
)
def test_settings_are_checked(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["serve", *arguments])
    assert code in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_keys_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text("# keys\nann:a-key-of-some-length\n\nanother-key-of-length\n")
    monkeypatch.setenv("DEEPGEN_API_KEY", "the-key-of-the-variable")
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="chmod 600"):
        found = read_keys(path)
    assert found == (
        ("ann", "a-key-of-some-length"),
        ("key 4", "another-key-of-length"),
        ("environment", "the-key-of-the-variable"),
    )
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(UsageError, match="less than 16 characters"):
        read_keys(path)


def test_a_port_in_use_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"cannot listen at 127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["name.invalid", "a" * 70, "203.0.113.7"])
def test_a_host_that_is_no_address_of_this_machine_is_said_so(
    host: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_API_KEY", "the-key-of-the-variable")
    line = failure(["--host", host], capsys)
    assert host in line
    assert "use 127.0.0.1 for this machine alone" in line


def test_it_says_where_it_is_draws_and_ends_what_runs_when_told_to_stop() -> None:
    command = [sys.executable, "-m", "deepgen", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            assert run.stdout is not None
            url = run.stdout.readline().strip()
            deadline = time.monotonic() + 120
            while httpx2.get(f"{url}/readyz").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            values = {"prompt": "an apple", "steps": 50, "stream": True}
            url = f"{url}/v1/images/generations"
            with httpx2.stream("POST", url, json={**values, "progress": True}, timeout=60) as found:
                lines = found.iter_lines()
                while '"running"' not in next(lines):
                    pass
                run.send_signal(signal.SIGTERM)
                assert any("image_generation.completed" in line for line in lines)
            assert run.wait(30) == 0
        finally:
            run.kill()
