"""`acgs1 up` without governance_synthesis, which the test runs itself."""

from acgs1.contracts.topology import PARTS
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.supervisor import Supervisor

if __name__ == "__main__":
    others = tuple(part for part in PARTS if part.name != "governance_synthesis")
    supervisor = Supervisor(PlatformSettings(), lambda part, what: print(part, what, flush=True), others)
    supervisor.start()
    supervisor.run()
