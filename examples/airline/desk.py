"""The service desk's own side: its records, the tools that change them, and the facts that decisions rest on.

The tools check nothing about rules. That is the point: the rules are the governor's.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from acgs1.agents.calls import Facts, ToolCall, UnknownRecord
from acgs1.agents.enforce import Tool
from acgs1.contracts.policy_governance import Resource, Subject

Record = dict[str, Any]

_ON_DESK = {"search_flights", "hand_over"}


class Desk:
    """The records in memory. `tools` are what an agent may be given; `facts` makes this an `AttributeSource`."""

    def __init__(self, records: Record) -> None:
        self.records = records
        self.now = datetime.fromisoformat(records["as_of"])
        self.handed_over: list[str] = []

    @classmethod
    def load(cls, path: Path) -> "Desk":
        return cls(json.loads(path.read_text(encoding="utf-8")))

    # --- tools ----------------------------------------------------------------------------------------------------------

    @property
    def tools(self) -> dict[str, Tool]:
        return {
            "search_flights": self.search_flights,
            "hand_over": self.hand_over,
            "look_up_booking": self.look_up_booking,
            "change_flights": self.change_flights,
            "cancel_booking": self.cancel_booking,
            "pay_compensation": self.pay_compensation,
        }

    def search_flights(self, origin: str, destination: str) -> list[str]:
        return [
            key
            for key, flight in self.records["flights"].items()
            if (flight["from"], flight["to"]) == (origin, destination)
            and flight["status"] == "scheduled"
            and flight["seats"] > 0
        ]

    def hand_over(self, summary: str) -> str:
        self.handed_over.append(summary)
        return "A person will take over."

    def look_up_booking(self, booking: str) -> Record:
        return dict(self._booking(booking))

    def change_flights(self, booking: str, flights: list[str]) -> Record:
        self._booking(booking)["flights"] = list(flights)
        return dict(self._booking(booking))

    def cancel_booking(self, booking: str) -> Record:
        self._booking(booking)["status"] = "cancelled"
        return dict(self._booking(booking))

    def pay_compensation(self, booking: str, amount: int, reason: str = "") -> Record:
        del reason  # what the agent was told; the record has its own reasons
        self._booking(booking)["compensation"] += amount
        return dict(self._booking(booking))

    # --- facts ----------------------------------------------------------------------------------------------------------

    async def facts(self, call: ToolCall) -> Facts:
        """The facts about `call`, from the records alone. The agent's words count only for what it asks to do: which booking, which sum."""
        agent = self.records["agents"].get(call.agent)
        if agent is None:
            raise UnknownRecord(f"there is no agent `{call.agent}` in the records")
        subject = Subject(type="Agent", id=call.agent, properties={"suspended": agent["suspended"]})
        if call.tool in _ON_DESK:
            return Facts(subject, Resource(type="Desk", id="service-desk"))
        number = call.arguments.get("booking")
        booking = self._booking(number)
        context: Record = {
            "customer_identified": call.on_behalf_of in self.records["customers"],
            "owns_booking": call.on_behalf_of == booking["customer"],
        }
        if call.tool == "pay_compensation":
            context["amount"] = call.arguments.get("amount")
        return Facts(subject, Resource(type="Booking", id=str(number), properties=self._about(booking)), context)

    def _booking(self, number: Any) -> Record:
        booking = self.records["bookings"].get(number) if isinstance(number, str) else None
        if booking is None:
            raise UnknownRecord(f"there is no booking `{number}` in the records")
        return booking

    def _about(self, booking: Record) -> Record:
        customer = self.records["customers"][booking["customer"]]
        flights = [self.records["flights"][key] for key in booking["flights"]]
        born = datetime.fromisoformat(customer["born"])
        return {
            "fare": booking["fare"],
            "insured": booking["insured"],
            "trip_begun": any(flight["status"] == "flown" for flight in flights),
            # Rounded up, so that "at most 24" never takes in a booking that is a minute older.
            "age_hours": -int((datetime.fromisoformat(booking["booked_at"]) - self.now).total_seconds() // 3600),
            "airline_cancelled": any(flight["status"] == "cancelled" for flight in flights),
            "delay_minutes": max(flight["delay_minutes"] for flight in flights),
            "customer_nationality": customer["nationality"],
            "customer_age": self.now.year - born.year - ((self.now.month, self.now.day) < (born.month, born.day)),
        }
