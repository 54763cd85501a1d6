"""Facts about a call, from the airline's database, the call's arguments and what this conversation has executed. No rule lives here."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

from acgs1.agents.calls import ArgumentsUnusable, Facts, ToolCall, UnknownRecord
from acgs1.contracts.policy_governance import Resource, Subject

Record = dict[str, Any]

NOW = datetime.fromisoformat("2024-05-15T15:00:00")
"""The simulation's present: EST, as all times of the database, which carry no zone."""

_USED = {"flying", "landed"}
_FREE_BAGS = {  # per passenger, by membership and cabin
    "regular": {"basic_economy": 0, "economy": 1, "business": 2},
    "silver": {"basic_economy": 1, "economy": 2, "business": 3},
    "gold": {"basic_economy": 2, "economy": 3, "business": 3},
}
_UPDATES = {
    "update_reservation_flights",
    "update_reservation_baggages",
    "update_reservation_passengers",
    "cancel_reservation",
}
_LOOK_UPS = {"get_user_details": "user_id", "get_reservation_details": "reservation_id"}


class Conversation:
    """One conversation with `customer` over one copy of the database: the tools, and the facts about the next call.

    Remembers what it executed: which cabin a reservation was changed to (the tool itself does not write that down), and the flights of
    a reservation before it was changed or cancelled here.
    """

    def __init__(self, database: Record, customer: str, tools: Mapping[str, Callable[..., Any]]) -> None:
        self._data = database
        self._customer = customer
        self._cabins: dict[str, str] = {}
        self._settled: dict[str, list[Record]] = {}
        self.tools = {name: partial(self._run, name, tool) for name, tool in tools.items()}

    def _run(self, name: str, tool: Callable[..., Any], /, **arguments: Any) -> Any:
        before = self._data["reservations"].get(arguments.get("reservation_id"))
        flights = deepcopy(before["flights"]) if before is not None and name in _UPDATES else None
        try:
            result = tool(self._data, **deepcopy(arguments))
        except Exception as error:  # noqa: BLE001 (as in tau-bench itself: whatever a tool raises is what the agent gets to read)
            return f"Error: {error}"
        failed = isinstance(result, str) and result.startswith("Error")
        if flights is not None and not failed and name in {"update_reservation_flights", "cancel_reservation"}:
            number = arguments["reservation_id"]
            self._settled.setdefault(number, flights)
            if name == "update_reservation_flights":
                self._cabins[number] = arguments["cabin"]
        return result

    # --- facts ----------------------------------------------------------------------------------------------------------

    async def facts(self, call: ToolCall) -> Facts:
        """Raises UnknownRecord for a reservation or customer that is not in the database, ArgumentsUnusable for unfit arguments."""
        try:
            return self._facts(call)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ArgumentsUnusable(f"the arguments of `{call.tool}` are not what the tool takes: {error!r}") from error

    def _facts(self, call: ToolCall) -> Facts:
        subject = Subject(type="Agent", id=call.agent)
        arguments = cast("Record", call.arguments)
        if call.tool in _LOOK_UPS:
            return Facts(subject, Resource(type="Record", id=str(arguments[_LOOK_UPS[call.tool]])))
        if call.tool in _UPDATES:
            reservation = self._reservation(arguments["reservation_id"])
            context = {
                "own": reservation["user_id"] == self._customer,
                **self._change(call.tool, arguments, reservation),
            }
            return Facts(subject, self._reservation_resource(reservation), context)
        if call.tool in {"book_reservation", "send_certificate"}:
            user = self._user(arguments["user_id"])
            context = (
                self._booking(arguments, user) if call.tool == "book_reservation" else self._goodwill(arguments, user)
            )
            resource = Resource(type="Customer", id=arguments["user_id"], properties={"membership": user["membership"]})
            return Facts(subject, resource, {"own": arguments["user_id"] == self._customer, **context})
        return Facts(subject, Resource(type="Desk", id="airline"))

    def _reservation_resource(self, reservation: Record) -> Resource:
        statuses = [self._status(flight) for flight in reservation["flights"]]
        age = NOW - datetime.fromisoformat(reservation["created_at"])
        properties = {
            "membership": self._user(reservation["user_id"])["membership"],
            "cabin": self._cabin(reservation),
            "insured": reservation["insurance"] == "yes",
            "minutes_since_booking": math.ceil(age / timedelta(minutes=1)),
            "used_segments": sum(status in _USED for status in statuses),
            "cancelled_segments": statuses.count("cancelled"),
            "passengers": len(reservation["passengers"]),
            "checked_bags": reservation["total_baggages"],
        }
        return Resource(type="Reservation", id=reservation["reservation_id"], properties=properties)

    def _change(self, tool: str, arguments: Record, reservation: Record) -> Record:
        profile = self._user(reservation["user_id"])["payment_methods"]
        if tool == "update_reservation_flights":
            now, wanted = [[_key(f) for f in flights] for flights in (reservation["flights"], arguments["flights"])]
            return {
                "flights_changed": now != wanted,
                "route_kept": self._keeps_route(arguments["flights"], reservation),
                "unbookable_segments": sum(
                    self._status(f) != "available" for f in arguments["flights"] if _key(f) not in now
                ),
                "payments_outside_profile": int(arguments["payment_id"] not in profile),
                "payment_kind": profile.get(arguments["payment_id"], {"source": "unknown"})["source"],
            }
        if tool == "update_reservation_baggages":
            bags = _whole(arguments["total_baggages"])
            passengers = len(reservation["passengers"])
            return {
                "bags_after": bags,
                "extra_bags": self._extra_bags(reservation["user_id"], self._cabin(reservation), passengers, bags),
                "bags_charged": _whole(arguments["nonfree_baggages"]),
                "bags_charged_before": reservation["nonfree_baggages"],
                "payments_outside_profile": int(arguments["payment_id"] not in profile),
            }
        if tool == "update_reservation_passengers":
            return {"passengers_after": len(_list(arguments["passengers"]))}
        return {}

    def _booking(self, arguments: Record, user: Record) -> Record:
        passengers = len(_list(arguments["passengers"]))
        bags = _whole(arguments["total_baggages"])
        payments = [payment["payment_id"] for payment in _list(arguments["payment_methods"])]
        kinds = Counter(user["payment_methods"][p]["source"] for p in payments if p in user["payment_methods"])
        return {
            "passengers": passengers,
            "certificates": kinds["certificate"],
            "credit_cards": kinds["credit_card"],
            "gift_cards": kinds["gift_card"],
            "payments_outside_profile": sum(payment not in user["payment_methods"] for payment in payments),
            "unbookable_segments": sum(self._status(flight) != "available" for flight in _list(arguments["flights"])),
            "extra_bags": self._extra_bags(arguments["user_id"], arguments["cabin"], passengers, bags),
            "bags_charged": _whole(arguments["nonfree_baggages"]),
            "bags_charged_before": 0,
        }

    def _goodwill(self, arguments: Record, user: Record) -> Record:
        amount = _whole(arguments["amount"])
        parties: dict[str, set[int]] = {"cancelled": set(), "delayed": set(), "settled": set()}
        covered: dict[str, set[int]] = {"cancelled": set(), "delayed": set(), "settled": set()}
        for number in user["reservations"]:
            reservation = self._reservation(number)
            flights: list[Record] = self._settled.get(number) or reservation["flights"]
            happened: set[str] = set()
            if any(self._status(flight) == "cancelled" for flight in flights):
                happened.add("cancelled")
            if any(self._was_late(flight) for flight in flights):
                happened.add("delayed")
                if number in self._settled:
                    happened.add("settled")
            for kind in happened:
                parties[kind].add(len(reservation["passengers"]))
                if reservation["insurance"] == "yes" or self._cabin(reservation) == "business":
                    covered[kind].add(len(reservation["passengers"]))
        return {
            "passengers_at_100": amount // 100 if amount % 100 == 0 else 0,
            "passengers_at_50": amount // 50 if amount % 50 == 0 else 0,
            **{f"{kind}_parties": sorted(sizes) for kind, sizes in parties.items()},
            **{f"{kind}_parties_covered": sorted(sizes) for kind, sizes in covered.items()},
        }

    # --- the database ---------------------------------------------------------------------------------------------------

    def _reservation(self, number: Any) -> Record:
        reservation = self._data["reservations"].get(number) if isinstance(number, str) else None
        if reservation is None:
            raise UnknownRecord(f"there is no reservation `{number}`")
        return reservation

    def _user(self, name: Any) -> Record:
        user = self._data["users"].get(name) if isinstance(name, str) else None
        if user is None:
            raise UnknownRecord(f"there is no customer `{name}`")
        return user

    def _cabin(self, reservation: Record) -> str:
        return str(self._cabins.get(reservation["reservation_id"]) or reservation["cabin"])

    def _extra_bags(self, user: str, cabin: str, passengers: int, bags: int) -> int:
        return max(0, bags - passengers * _FREE_BAGS[self._user(user)["membership"]][cabin])

    def _day(self, flight: Record) -> Record:
        schedule = self._data["flights"].get(flight["flight_number"])
        return schedule["dates"].get(flight["date"], {}) if schedule is not None else {}

    def _status(self, flight: Record) -> str:
        return str(self._day(flight).get("status", "unknown"))

    def _was_late(self, flight: Record) -> bool:
        """By any time: the policy that the data comes with does not say from which on a flight is late."""
        day = self._day(flight)
        if day.get("status") == "delayed":
            return True
        schedule = self._data["flights"].get(flight["flight_number"])
        return any(
            f"{kind}_{event}_time_est" in day
            and datetime.fromisoformat(day[f"{kind}_{event}_time_est"])
            > _scheduled(flight["date"], schedule[f"scheduled_{event}_time_est"])
            for kind in ("actual", "estimated")
            for event in ("departure", "arrival")
        )

    def _keeps_route(self, flights: Sequence[Record], reservation: Record) -> bool:
        """Whether `flights` connect, start at the reservation's origin, reach its destination, and return if it is a round trip."""
        schedules: list[Record] = [self._data["flights"].get(flight["flight_number"], {}) for flight in flights]
        if not all(schedules):
            return False
        stops = [reservation["origin"]]
        for schedule in schedules:
            if schedule["origin"] != stops[-1]:
                return False
            stops.append(schedule["destination"])
        origin, destination = reservation["origin"], reservation["destination"]
        if reservation["flight_type"] == "round_trip":
            return stops[-1] == origin and destination in stops[1:-1]
        return stops[-1] == destination


def _key(flight: Record) -> tuple[str, str]:
    return flight["flight_number"], flight["date"]


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArgumentsUnusable(f"`{value}` is not a whole number")
    return value


def _list(value: Any) -> list[Record]:
    if not isinstance(value, list):
        raise ArgumentsUnusable(f"`{value}` is not a list")
    return cast("list[Record]", value)


def _scheduled(date: str, time: str) -> datetime:
    """`23:30:00+1` is half past eleven on the day after `date`."""
    clock, _, days = time.partition("+")
    return datetime.fromisoformat(f"{date}T{clock}") + timedelta(days=int(days or 0))
