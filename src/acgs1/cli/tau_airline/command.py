"""`acgs1 benchmark tau-airline`."""

import asyncio
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.progress import track

from acgs1.agents.calls import DecisionPoint
from acgs1.agents.client import connect
from acgs1.cli.tau_airline import law, report
from acgs1.cli.tau_airline.dataset import Dataset, RecordedRun
from acgs1.cli.tau_airline.replay import AGENT, Replay, ReplayedCall
from acgs1.contracts.formal_verification import Certificate
from acgs1.core.clock import SystemClock, format_instant
from acgs1.core.errors import DomainError
from acgs1.kit.settings import PlatformSettings

# Away from a system on the default ports.
_OWN_PORTS = 13_000


@click.command("tau-airline")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of tau-bench's data.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for report.json and report.md.")
@click.option("--decider", type=click.Choice(["kernel", "system", "http"]), default="kernel", show_default=True)
@click.option(
    "--url", default="http://127.0.0.1:8005", show_default=True, help="Policy governance, for `--decider http`."
)
@click.option("--auth-url", default="http://127.0.0.1:8000", show_default=True, help="Auth, for `--decider http`.")
@click.option("--client-id", envvar="ACGS_CLIENT_ID", default="", help="The agent's client id, for `--decider http`.")
@click.option(
    "--client-secret",
    envvar="ACGS_CLIENT_SECRET",
    default="",
    help="Better in the environment than on the command line.",
)
@click.option(
    "--agent", default=AGENT, show_default=True, help="Who acts: a decision point lets an agent ask about itself only."
)
def tau_airline(
    data: Path, out: Path | None, decider: str, url: str, auth_url: str, client_id: str, client_secret: str, agent: str
) -> None:
    """Replay tau-bench's airline calls behind the governor.

    `kernel` decides in this process under this benchmark's own constitution and policies. `system` starts a system of its own, adopts that
    constitution, has the policies proved, voted and activated there, and asks its decision point. `http` asks a system that runs already,
    whose active bundle must be of the same policies.

    Exit status: 0 without false denials, 1 with one, 2 when the replay could not be done.
    """
    console = Console(stderr=True)
    try:
        with _governed(decider) as own:
            if own is not None:
                url, auth_url, client_id, client_secret = own
                agent = client_id
            document = asyncio.run(_measure(data, decider, url, auth_url, client_id, client_secret, agent, console))
    except DomainError as error:
        click.echo(f"Error: {error.detail}", err=True)
        raise SystemExit(2) from error
    text = report.markdown(document)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (out / "report.md").write_text(text, encoding="utf-8")
        console.print(f"wrote {out / 'report.json'} and {out / 'report.md'}")
    else:
        click.echo(text)
    correct, recorded = document["correct_calls"], document["recorded_runs"]
    console.print(
        f"correct calls: {correct['calls']}, false denials {len(correct['false_denials'])}, "
        f"calls that break a rule themselves {len(correct['recorded_calls_that_break_a_rule'])}\n"
        f"recorded runs: {recorded['calls']} calls, {recorded['denied']} break a rule, in {recorded['runs_that_break_a_rule']} of "
        f"{document['runs']} runs"
    )
    if correct["false_denials"] or correct["listed_but_not_denied"]:
        raise SystemExit(1)


async def _measure(
    data: Path, decider: str, url: str, auth_url: str, client_id: str, client_secret: str, agent: str, console: Console
) -> report.Document:
    constitution, policies = law.constitution(), law.policies()
    dataset = Dataset(data)
    async with _deciding(decider, url, auth_url, client_id, client_secret) as point:
        replay = Replay(dataset, point, agent=agent)
        tasks, runs = dataset.correct_calls(), dataset.agent_runs()
        correct = await _all(replay, tasks, "correct calls", console)
        recorded = await _all(replay, runs, "recorded runs", console)
    if not dataset.is_pristine():
        raise DomainError(
            "INVARIANT: a replay wrote to the records that all replays are copied from; the results are void"
        )
    circumstances = {
        "decider": f"http {url}" if decider == "http" else decider,
        "time": format_instant(SystemClock().now()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}",
        "commit": _commit(),
        "tasks": len(tasks),
        "runs": len(runs),
    }
    return report.build(constitution, policies, correct, recorded, law.reviewed(), replay.seconds, circumstances)


@contextmanager
def _governed(decider: str) -> Generator[tuple[str, str, str, str] | None]:
    """For `system`: a system of its own, governed by this benchmark's constitution and policies; its decision point, its auth, and the
    credentials of an agent."""
    if decider != "system":
        yield None
        return
    from acgs1.cli.system import start, stop

    with tempfile.TemporaryDirectory() as home:
        settings = PlatformSettings(home=Path(home), port_offset=_OWN_PORTS)
        system = start(settings)
        try:
            credentials = asyncio.run(_found(settings))
            yield settings.url("policy_governance"), settings.url("auth"), *credentials
        finally:
            stop(system)


async def _found(settings: PlatformSettings) -> tuple[str, str]:
    """Bring the policies into force there; the credentials of the agent."""
    from acgs1.runtime.founding import Founding, FoundingFailed, Narrator

    err = Console(stderr=True, highlight=False)
    async with httpx.AsyncClient(timeout=120.0, trust_env=False) as web:
        founding = Founding(settings, web, law.constitution(), Narrator(err.print, lambda line: err.print("  ", line)))
        await founding.people()
        await founding.adopt()
        proof = await founding.prove(law.policies())
        if proof.certificate_hash is None:
            raise FoundingFailed(f"the policies are `{proof.verdict}`")
        path = f"/api/v1/certificates/{proof.certificate_hash}"
        certificate = await founding.operator.get("formal_verification", path, Certificate)
        await founding.activate(await founding.vote("tau-bench airline", law.policies(), certificate))
        return founding.agent.client_id, founding.agent.client_secret


@asynccontextmanager
async def _deciding(
    decider: str, url: str, auth_url: str, client_id: str, client_secret: str
) -> AsyncGenerator[DecisionPoint]:
    if decider != "kernel":
        async with connect(url, auth_url=auth_url, client_id=client_id, client_secret=client_secret) as client:
            yield client
        return
    # The kernel is loaded only where it decides.
    from acgs1.agents.local import LocalDecisionPoint

    yield LocalDecisionPoint(law.constitution(), law.policies())


async def _all(replay: Replay, runs: list[RecordedRun], what: str, console: Console) -> list[ReplayedCall]:
    calls: list[ReplayedCall] = []
    replayed = replay.run(runs)
    for _ in track(runs, what, console=console, transient=True):
        calls += await anext(replayed)
    return calls


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=5).stdout.strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return "unknown"
