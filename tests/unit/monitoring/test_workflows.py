import math

import pytest

from acgs1.core.clock import ManualClock
from acgs1.monitoring.workflows import GovernanceWorkflowMonitor, InvalidExecution, UnknownWorkflow, percentile


def test_a_report_counts_what_was_recorded_and_nothing_else():
    monitor = GovernanceWorkflowMonitor(ManualClock())
    assert monitor.report("policy_enforcement").compliant is None, "no run is no compliance"
    for number in range(100):
        monitor.record_workflow_execution(
            "policy_enforcement", 0.001 * (number + 1), success=number != 50, compliance_score=1.0
        )
    report = monitor.report("policy_enforcement")
    assert (report.executions, report.success_rate, report.within_target) == (100, 0.99, 1.0)
    assert (report.p50_seconds, report.p95_seconds, report.p99_seconds) == (0.05, 0.095, 0.099)
    assert (report.compliant, report.timely) == (True, True)
    monitor.record_workflow_execution("policy_enforcement", 0.2001, compliance_score=0.0)
    monitor.record_workflow_execution("policy_enforcement", 0.3)
    late = monitor.report("policy_enforcement")
    assert (late.compliant, late.timely) == (True, False), "late is not wrong"
    monitor.record_workflow_execution("policy_enforcement", 0.1, compliance_score=0.0)
    assert monitor.report("policy_enforcement").compliant is False
    assert monitor.report("wina_oversight").executions == 0


def test_a_run_that_goes_on_too_long_is_stuck_until_it_is_recorded():
    clock = ManualClock()
    monitor = GovernanceWorkflowMonitor(clock)
    monitor.workflow_started("audit_transparency", "wf_1")
    clock.advance(3600)
    assert monitor.report("audit_transparency").stuck == ()
    clock.advance(1)
    assert monitor.report("audit_transparency").stuck == ("wf_1",)
    monitor.record_workflow_execution("audit_transparency", 3601, workflow_id="wf_1")
    assert (monitor.report("audit_transparency").stuck, monitor.report("audit_transparency").running) == ((), 0)


@pytest.mark.parametrize("wrong", [-1.0, math.nan])
def test_impossible_times_and_scores_are_refused(wrong):
    monitor = GovernanceWorkflowMonitor(ManualClock())
    with pytest.raises(InvalidExecution):
        monitor.record_workflow_execution("wina_oversight", wrong)
    with pytest.raises(InvalidExecution):
        monitor.record_workflow_execution("wina_oversight", 0.1, compliance_score=wrong)
    with pytest.raises(UnknownWorkflow, match="`lunch` is none of policy_creation"):
        monitor.record_workflow_execution("lunch", 1)


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [([], 0.5, None), ([1.0], 0.99, 1.0), ([1.0, 2.0], 0.5, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.75, 3.0)],
)
def test_percentiles_are_by_nearest_rank(values, fraction, expected):
    assert percentile(values, fraction) == expected
