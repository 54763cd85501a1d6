"""Commands that several modules make up."""

import click

from acgs1.cli.certificates import certificate, proof
from acgs1.cli.evidence import evidence
from acgs1.cli.tau_airline.command import tau_airline
from acgs1.cli.verify import verify

for command in (certificate, proof, evidence):
    verify.add_command(command)


@click.group("benchmark")
def benchmark() -> None:
    """Measure the governor on data that others wrote."""


benchmark.add_command(tau_airline)
