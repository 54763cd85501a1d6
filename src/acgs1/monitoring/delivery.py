"""Hands alerts on to the sinks: a task and a bounded queue for each, so that one that hangs holds up neither the others nor the judging."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from acgs1.contracts.topology import CONSOLE
from acgs1.kit.breaker import DELIVERY_CONFIG, CircuitOpenError, breakers
from acgs1.monitoring.alerts import Alert
from acgs1.monitoring.sinks import Sink

_log = structlog.get_logger()

MOST_WAITING: Final = 1000
"""Alerts that one sink may still have to be told of; the oldest beyond it are given up, with a line in the log."""
SEND_SECONDS: Final = 20.0
"""How long one message may take, however its sink measures its own patience."""


class Delivery:
    """What one sink is still to be told: of each alert the newest state, in messages by alert name.

    At least once: a message counts as delivered when `Sink.send` returned. What was not taken is tried again with every `retry`.
    """

    def __init__(self, name: str, sink: Sink, changed: Callable[[], None]) -> None:
        self.name = name
        self._sink = sink
        self._changed = changed
        self._breaker = breakers().get(f"{CONSOLE.name}->{name}", DELIVERY_CONFIG)
        self._waiting: dict[str, Alert] = {}
        self._due = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def waiting(self) -> list[str]:
        """Ids of the alerts that it has not taken, oldest first."""
        return list(self._waiting)

    def offer(self, alerts: Iterable[Alert]) -> None:
        """Tell these; a state of an alert that was still waiting is replaced by the newer one."""
        for alert in alerts:
            self._waiting[alert.id] = alert
        while len(self._waiting) > MOST_WAITING:
            oldest = next(iter(self._waiting))
            lost = self._waiting.pop(oldest)
            _log.error("alert_given_up", sink=self.name, alert=lost.name, target=lost.target, waiting=MOST_WAITING)
        self.retry()

    def retry(self) -> None:
        """Try what waits."""
        if self._waiting:
            self._settled.clear()
            self._due.set()

    async def settled(self) -> None:
        """Returns when everything that waits has been tried."""
        await self._settled.wait()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            # Each message once a round: one that the sink will not take keeps no other back.
            for name in dict.fromkeys(alert.name for alert in self._waiting.values()):
                await self._deliver([alert for alert in self._waiting.values() if alert.name == name])
            if not self._due.is_set():
                self._settled.set()

    async def _deliver(self, group: Sequence[Alert]) -> None:
        if not group:
            return
        try:
            async with self._breaker, asyncio.timeout(SEND_SECONDS):
                await self._sink.send(group)
        except CircuitOpenError:
            return  # it is known to fail; every call that did has its line
        except Exception as error:  # noqa: BLE001 - a sink may fail in any way
            _log.error("alert_not_delivered", sink=self.name, alert=group[0].name, error=repr(error))
            return
        for alert in group:
            if self._waiting.get(alert.id) is alert:
                del self._waiting[alert.id]
        self._changed()


class Deliveries:
    """One Delivery for each of `sinks`, named after its kind. `changed` is called when what waits has become less."""

    def __init__(self, sinks: Sequence[Sink], changed: Callable[[], None]) -> None:
        self.each: list[Delivery] = []
        for sink in sinks:
            kind = type(sink).__name__
            earlier = sum(known.name.partition("#")[0] == kind for known in self.each)
            self.each.append(Delivery(f"{kind}#{earlier + 1}" if earlier else kind, sink, changed))

    def offer(self, alerts: Iterable[Alert]) -> None:
        """Tell every sink."""
        told = list(alerts)
        for delivery in self.each:
            delivery.offer(told)

    def restore(self, waiting: Iterable[tuple[str, Alert]]) -> None:
        """Go on from what was stored; what a sink waits for that is there no more is forgotten."""
        by_name = {delivery.name: delivery for delivery in self.each}
        for name, alert in waiting:
            if name in by_name:
                by_name[name].offer([alert])

    def retry(self) -> None:
        for delivery in self.each:
            delivery.retry()

    def waiting(self) -> set[tuple[str, str]]:
        """(sink, alert id) of what is still to be told."""
        return {(delivery.name, alert_id) for delivery in self.each for alert_id in delivery.waiting}

    async def settled(self) -> None:
        """Returns when everything that waits has been tried."""
        await asyncio.gather(*(delivery.settled() for delivery in self.each))
