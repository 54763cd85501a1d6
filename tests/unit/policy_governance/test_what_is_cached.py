"""Decisions are never cached: neither allow nor deny, nor what was not found. The record of one that was made is."""

from acgs1.services.policy_governance import api


def test_only_reads_of_the_ledger_of_bundles_and_of_records_go_through_the_cache():
    cached: set[tuple[str, str]] = set()
    for route in (*api.router.routes, *api.standard.routes):
        dependant = getattr(route, "dependant", None)
        calls = [dependency.call for dependency in dependant.dependencies] if dependant else []
        if any(call is not None and call.__module__ == "acgs1.optimizer.web" for call in calls):
            cached |= {(method, route.path) for method in route.methods}
    assert cached == {
        ("GET", "/api/v1/ledger/state"),
        ("GET", "/api/v1/bundles/active"),
        ("GET", "/api/v1/bundles/{bundle_hash}"),
        ("GET", "/api/v1/decisions/{decision_id}"),
    }
