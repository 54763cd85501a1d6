"""The import path of the plan; the code is `acgs1.monitoring`."""

from acgs1.monitoring import EnhancedMonitoringService, GovernanceWorkflowMonitor, get_monitoring_service

__all__ = ["EnhancedMonitoringService", "GovernanceWorkflowMonitor", "get_monitoring_service"]
