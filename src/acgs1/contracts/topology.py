"""The parts of the system and where they listen."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the system: its name, default port, and the module whose `create_app` builds it."""

    name: str
    port: int
    module: str


SERVICES: tuple[Part, ...] = (
    Part("auth", 8000, "acgs1.services.auth.app"),
    Part("constitutional_ai", 8001, "acgs1.services.constitutional_ai.app"),
    Part("integrity", 8002, "acgs1.services.integrity.app"),
    Part("formal_verification", 8003, "acgs1.services.formal_verification.app"),
    Part("governance_synthesis", 8004, "acgs1.services.governance_synthesis.app"),
    Part("policy_governance", 8005, "acgs1.services.policy_governance.app"),
    Part("evolutionary_computation", 8006, "acgs1.services.evolutionary_computation.app"),
)
LEDGER = Part("ledger", 8899, "acgs1.ledger.node.app")
CONSOLE = Part("console", 3000, "acgs1.console.app")
PARTS: tuple[Part, ...] = (LEDGER, *SERVICES, CONSOLE)
PART_BY_NAME: dict[str, Part] = {part.name: part for part in PARTS}
