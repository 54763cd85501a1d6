"""The tutorial as a reader would run it: every shell block, in order, against a fresh system."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PORTS = (*range(8000, 8007), 8899, 8900, 3000)


def _free_offset() -> int:
    for offset in range(30_000, 50_000, 250):
        if all(_is_free(port + offset) for port in PORTS):
            return offset
    raise AssertionError("no block of free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def environment(tmp_path: Path) -> Generator[dict[str, str]]:
    """A running system on a fresh data directory; its settings as environment variables."""
    offset = _free_offset()
    own = {"ACGS_HOME": str(tmp_path / "home"), "ACGS_PORT_OFFSET": str(offset), "HOME": str(tmp_path)}
    environment = {**os.environ, **own, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    system = subprocess.Popen([sys.executable, "-m", "acgs1", "up", "--quiet"], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while subprocess.run(["acgs1", "status"], env=environment, capture_output=True, check=False).returncode != 0:
            assert system.poll() is None, "the system ended"
            assert time.monotonic() < deadline, "the system did not become healthy"
        yield environment
    finally:
        os.kill(system.pid, signal.SIGTERM)
        assert system.wait(15) == 0


def _code(document: str, language: str, offset: int) -> list[str]:
    """The blocks of one language, with the ports of this system."""
    text = (ROOT / "docs" / document).read_text()
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [re.sub(r"localhost:(\d{4})", lambda port: f"localhost:{int(port[1]) + offset}", block) for block in blocks]


def _script(offset: int) -> str:
    """The blocks marked `bash` and nothing more; the one marked `bash start` is what the fixture does."""
    code = "\n".join(_code("tutorial.md", "bash", offset))
    code = code.replace(". .venv/bin/activate", "").replace('export ACGS_HOME="$HOME/acgs-tutorial"', "")
    after = 'call "$clara" "localhost:8005/api/v1/decisions/$decision" > decision.json'
    return f"set -euo pipefail\n{code}\n{after.replace('8005', str(8005 + offset))}"


def _python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    folder = Path(environment["ACGS_HOME"]) / "refund-desk"
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial uses curl")
def test_the_tutorial_leads_from_a_constitution_to_verified_evidence(environment: dict[str, str]) -> None:
    run = subprocess.run(
        ["bash", "-c", _script(int(environment["ACGS_PORT_OFFSET"]))],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    for expected in ("exit status 1", "in_force", "proved", "enacted", "active", "granted", "true", "verified"):
        assert expected in lines, f"`{expected}` is missing in:\n{run.stdout}"
    said = "\n".join(lines)
    assert said.index('"reason":"allowed"') < said.index('"reason":"constitution_forbids"')
    assert '"reason":"approval_required"' in said
    assert "it is used" in said

    # What the how-to guides show in Python, on the same system.
    offset = int(environment["ACGS_PORT_OFFSET"])
    (commitment,) = _code("how-to/verify-evidence-offline.md", "python", offset)
    opened = _python(commitment, environment)
    assert opened.returncode == 0, opened.stderr
    (enforcement,) = _code("how-to/put-the-decision-point-in-front-of-an-agent.md", "python", offset)
    start = 'import json\nagent = json.load(open("agent.json"))\nasyncio.run(main(agent["client_id"], agent["client_secret"]))'
    enforced = _python(f"{enforcement}\n{start}", environment)
    assert enforced.returncode == 0, enforced.stderr
    assert enforced.stdout == "60 euros for o-17 are on their way\n"
