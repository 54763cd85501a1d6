"""The monitor: health of every part, SLOs with error budgets, alerts, governance workflows, circuit breakers."""

from acgs1.monitoring.service import EnhancedMonitoringService, get_monitoring_service
from acgs1.monitoring.workflows import GovernanceWorkflowMonitor

__all__ = ["EnhancedMonitoringService", "GovernanceWorkflowMonitor", "get_monitoring_service"]
