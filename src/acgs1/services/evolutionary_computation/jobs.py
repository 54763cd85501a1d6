"""Background work of evolutionary_computation."""

from acgs1.services.evolutionary_computation.service import EvolutionService


async def carry_runs_out(service: EvolutionService) -> None:
    """Carry out one run after the other: at start those that a restart cut off, later each new one."""
    while True:
        service.wake.clear()
        while await service.carry_out_next():
            pass
        await service.wake.wait()
