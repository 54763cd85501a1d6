"""Settings of the monitor."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class MonitoringSettings(BaseSettings):
    """Read from the environment with the prefix `ACGS_MONITORING_`."""

    model_config = SettingsConfigDict(env_prefix="ACGS_MONITORING_", frozen=True, extra="ignore")

    interval: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds between two checks of a target."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 5.0
    """Seconds after which a check has failed."""
    failures_to_unhealthy: Annotated[int, Field(ge=1)] = 3
    successes_to_healthy: Annotated[int, Field(ge=1)] = 2
    escalate_after: Annotated[float, Field(gt=0)] = 900.0
    """Seconds after which a critical alert that nobody silenced or that did not resolve becomes an emergency."""
    forecast_step: Annotated[int, Field(ge=1, le=3600)] = 300
    """Seconds of load that one value of a forecast stands for."""
    forecast_season: Annotated[int, Field(ge=2, le=2016)] = 288
    """Steps after which the load is expected to repeat itself; the default is a day. A forecast needs two seasons and a horizon."""
    forecast_horizon: Annotated[int, Field(ge=1, le=288)] = 36
    """Steps that are forecast."""
    webhook_url: str | None = None
    webhook_secret: SecretStr | None = None
    """Key of the HMAC-SHA256 over each webhook's body; needed with `webhook_url`."""
    slack_url: SecretStr | None = None
    alertmanager_url: str | None = None
    smtp_url: SecretStr | None = None
    """`smtp://user:password@host:587?from=acgs@example.org&to=ops@example.org`; STARTTLS is required with a password."""
