"""Facts about a call come from the database, the arguments and what the conversation executed."""

from typing import Any

import pytest

from acgs1.agents.calls import ArgumentsUnusable, Facts, ToolCall, UnknownRecord
from acgs1.cli.tau_airline.attributes import Conversation

ADA, BOB = "ada_1", "bob_2"


def leg(number: str, day: int) -> dict[str, str]:
    return {"flight_number": number, "date": f"2024-05-{day}"}


def database() -> dict[str, Any]:
    def flight(origin: str, destination: str, **days: dict[str, str]) -> dict[str, Any]:
        return {
            "origin": origin,
            "destination": destination,
            "scheduled_departure_time_est": "20:00:00",
            "scheduled_arrival_time_est": "01:00:00+1",
            "dates": {day.replace("d", "2024-05-"): about for day, about in days.items()},
        }

    available = {"status": "available"}
    return {
        "flights": {
            "F1": flight("AAA", "BBB", d13={"status": "landed"}, d20=available, d21={"status": "cancelled"}),
            "F2": flight("BBB", "CCC", d20=available, d15={"status": "delayed"}),
            "F3": flight("CCC", "AAA", d22=available),
            "F4": flight("AAA", "CCC", d20=available, d15={"status": "flying"}),
            "F5": flight("AAA", "DDD", d20=available),
            "F6": flight(
                "AAA",
                "CCC",
                d12={"status": "landed", "actual_arrival_time_est": "2024-05-13T01:00:01"},
                d11={"status": "landed", "actual_arrival_time_est": "2024-05-12T01:00:00"},
            ),
        },
        "users": {
            ADA: {
                "membership": "silver",
                "reservations": ["R1", "R2"],
                "payment_methods": {"card": {"source": "credit_card"}, "gift": {"source": "gift_card"}, "cert": {"source": "certificate"}},
            },
            BOB: {"membership": "regular", "reservations": ["R3"], "payment_methods": {}},
        },
        "reservations": {
            "R1": {
                "reservation_id": "R1", "user_id": ADA, "origin": "AAA", "destination": "CCC", "flight_type": "one_way",
                "cabin": "basic_economy",
                "flights": [leg("F1", 20), leg("F2", 20)],
                "passengers": [{}, {}], "created_at": "2024-05-14T14:59:30", "total_baggages": 1, "nonfree_baggages": 0, "insurance": "no",
            },
            "R2": {
                "reservation_id": "R2", "user_id": ADA, "origin": "AAA", "destination": "CCC", "flight_type": "round_trip",
                "cabin": "business",
                "flights": [leg("F6", 12), leg("F3", 22)],
                "passengers": [{}], "created_at": "2024-05-14T15:00:00", "total_baggages": 0, "nonfree_baggages": 0, "insurance": "yes",
            },
            "R3": {
                "reservation_id": "R3", "user_id": BOB, "origin": "AAA", "destination": "CCC", "flight_type": "one_way",
                "cabin": "economy",
                "flights": [leg("F1", 21), leg("F4", 15)],
                "passengers": [{}], "created_at": "2024-05-01T00:00:00", "total_baggages": 0, "nonfree_baggages": 0, "insurance": "no",
            },
        },
    }  # fmt: skip


async def facts(tool: str, conversation: Conversation | None = None, **arguments: Any) -> Facts:
    return await (conversation or Conversation(database(), ADA, {})).facts(ToolCall(tool, arguments, "robot", ADA))


async def test_the_age_of_a_booking_is_rounded_up_to_whole_minutes() -> None:
    a_day = await facts("cancel_reservation", reservation_id="R2")
    half_a_minute_more = await facts("cancel_reservation", reservation_id="R1")
    assert a_day.resource.properties["minutes_since_booking"] == 1440
    assert half_a_minute_more.resource.properties["minutes_since_booking"] == 1441


async def test_used_and_cancelled_segments_are_counted_by_the_flights_of_the_day() -> None:
    properties = (await facts("cancel_reservation", reservation_id="R3")).resource.properties
    assert (properties["used_segments"], properties["cancelled_segments"]) == (1, 1)


async def test_a_reservation_of_somebody_else_is_not_own_whatever_the_agent_says() -> None:
    assert (await facts("cancel_reservation", reservation_id="R3", user_id=ADA)).context["own"] is False
    assert (await facts("cancel_reservation", reservation_id="R1")).context["own"] is True


@pytest.mark.parametrize(
    ("reservation", "flights", "kept"),
    [
        ("R1", [("F4", "2024-05-20")], True),
        ("R1", [("F1", "2024-05-20"), ("F2", "2024-05-20")], True),
        ("R1", [("F5", "2024-05-20")], False),
        ("R1", [("F2", "2024-05-20")], False),
        ("R1", [("F1", "2024-05-20"), ("F3", "2024-05-22")], False),
        ("R1", [("F99", "2024-05-20")], False),
        ("R1", [], False),
        ("R2", [("F4", "2024-05-20"), ("F3", "2024-05-22")], True),
        ("R2", [("F4", "2024-05-20")], False),
    ],
)
async def test_a_route_is_kept_when_the_flights_connect_origin_and_destination_and_return_if_need_be(
    reservation: str, flights: list[tuple[str, str]], kept: bool
) -> None:
    wanted = [{"flight_number": number, "date": date} for number, date in flights]
    context = (
        await facts(
            "update_reservation_flights", reservation_id=reservation, cabin="economy", flights=wanted, payment_id="card"
        )
    ).context
    assert context["route_kept"] is kept


async def test_only_new_segments_have_to_be_on_sale() -> None:
    kept_and_delayed = [{"flight_number": "F1", "date": "2024-05-20"}, {"flight_number": "F2", "date": "2024-05-15"}]
    context = (
        await facts(
            "update_reservation_flights",
            reservation_id="R1",
            cabin="economy",
            flights=kept_and_delayed,
            payment_id="cert",
        )
    ).context
    assert (context["unbookable_segments"], context["flights_changed"], context["payment_kind"]) == (
        1,
        True,
        "certificate",
    )


@pytest.mark.parametrize(("cabin", "extra"), [("basic_economy", 4), ("economy", 2), ("business", 0)])
async def test_extra_bags_follow_from_membership_cabin_and_passengers(cabin: str, extra: int) -> None:
    context = (
        await facts(
            "book_reservation",
            user_id=ADA,
            cabin=cabin,
            flights=[{"flight_number": "F4", "date": "2024-05-20"}, {"flight_number": "F4", "date": "2024-05-15"}],
            passengers=[{}, {}],
            payment_methods=[{"payment_id": "card"}, {"payment_id": "gift"}, {"payment_id": "somebody's"}],
            total_baggages=6,
            nonfree_baggages=0,
        )
    ).context
    assert context["extra_bags"] == extra
    assert (
        context["credit_cards"],
        context["gift_cards"],
        context["certificates"],
        context["payments_outside_profile"],
    ) == (1, 1, 0, 1)
    assert context["unbookable_segments"] == 1


async def test_a_cabin_that_was_changed_in_this_conversation_counts_although_the_tool_does_not_write_it_down() -> None:
    conversation = Conversation(database(), ADA, {"update_reservation_flights": lambda data, **_: "{}"})
    conversation.tools["update_reservation_flights"](
        reservation_id="R1", cabin="economy", flights=[], payment_id="card"
    )
    assert (await facts("cancel_reservation", conversation, reservation_id="R1")).resource.properties[
        "cabin"
    ] == "economy"


async def test_a_change_that_the_tool_refused_changes_no_fact() -> None:
    conversation = Conversation(database(), ADA, {"update_reservation_flights": lambda data, **_: "Error: no seats"})
    conversation.tools["update_reservation_flights"](
        reservation_id="R1", cabin="economy", flights=[], payment_id="card"
    )
    assert (await facts("cancel_reservation", conversation, reservation_id="R1")).resource.properties[
        "cabin"
    ] == "basic_economy"


async def test_a_late_flight_is_one_that_was_late_by_any_time_and_settled_once_the_reservation_was_cancelled_here() -> (
    None
):
    conversation = Conversation(database(), ADA, {"cancel_reservation": lambda data, **_: "{}"})
    before = (await facts("send_certificate", conversation, user_id=ADA, amount=50)).context
    conversation.tools["cancel_reservation"](reservation_id="R2")
    after = (await facts("send_certificate", conversation, user_id=ADA, amount=50)).context
    assert (before["delayed_parties"], before["delayed_parties_covered"], before["settled_parties"]) == ([1], [1], [])
    assert (after["settled_parties"], after["settled_parties_covered"], after["passengers_at_50"]) == ([1], [1], 1)


async def test_a_flight_that_was_on_time_to_the_second_is_not_late() -> None:
    data = database()
    data["reservations"]["R2"]["flights"][0]["date"] = "2024-05-11"
    context = (await facts("send_certificate", Conversation(data, ADA, {}), user_id=ADA, amount=75)).context
    assert (context["delayed_parties"], context["passengers_at_50"], context["passengers_at_100"]) == ([], 0, 0)


async def test_a_record_that_does_not_exist_has_no_facts() -> None:
    with pytest.raises(UnknownRecord, match="R9"):
        await facts("cancel_reservation", reservation_id="R9")


@pytest.mark.parametrize("amount", ["100", 99.5, True, None])
async def test_an_amount_that_is_no_whole_number_is_refused(amount: object) -> None:
    with pytest.raises(ArgumentsUnusable):
        await facts("send_certificate", user_id=ADA, amount=amount)


async def test_a_call_without_its_arguments_is_refused() -> None:
    with pytest.raises(ArgumentsUnusable):
        await facts("update_reservation_flights", reservation_id="R1")
