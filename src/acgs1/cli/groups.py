"""Commands that several modules make up."""

import click

from acgs1.cli.evidence import evidence
from acgs1.cli.tau_airline.command import tau_airline
from acgs1.cli.verify import verify

verify.add_command(evidence)


@click.group("benchmark")
def benchmark() -> None:
    """Measure the governor on data that others wrote."""


benchmark.add_command(tau_airline)
