"""Settings every process shares. Built at entry points only; frozen from then on."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from acgs1.contracts.topology import PART_BY_NAME


class PlatformSettings(BaseSettings):
    """Read from the environment with the prefix `ACGS_` (and the plan's own `ALLOWED_ORIGINS`).

    Raises pydantic.ValidationError naming the variable for a value that cannot be used.
    """

    model_config = SettingsConfigDict(env_prefix="ACGS_", frozen=True, extra="ignore", populate_by_name=True)

    profile: Literal["development", "production"] = "development"
    home: Path = Field(default_factory=lambda: Path.home() / ".local" / "share" / "acgs")
    host: str = "127.0.0.1"
    port_offset: Annotated[int, Field(ge=0, le=50_000)] = 0
    """Added to every default port, so that several systems can share a machine."""
    urls: dict[str, str] = {}
    """Where a part is reached, by name, when not on this machine: `ACGS_URLS='{"auth": "https://auth.example"}'`."""
    database_url: SecretStr | None = None
    """`postgresql+asyncpg://...`: one schema per service. Without it, one SQLite file per service under `home`."""
    redis_url: SecretStr | None = None
    """`redis://...`, `rediss://...` or `unix://...`: the shared cache's upper level. Without it the database is the only one."""
    database_pool_size: Annotated[int, Field(ge=2, le=200)] = 8
    """Connections that one service may have to its database; half of them are made at start."""
    redis_pool_size: Annotated[int, Field(ge=1, le=200)] = 8
    """Connections of one service to Redis for look-ups; one more listens for invalidations."""
    http_pool_size: Annotated[int, Field(ge=2, le=1000)] = 64
    """Connections of one service to all other parts together."""
    cache_database_pool_size: Annotated[int, Field(ge=2, le=200)] = 3
    """Connections of one service to the database level of the cache."""
    ledger_pool_size: Annotated[int, Field(ge=1, le=1000)] = 100
    """Requests of one service that may be on their way to the ledger at once, each on a connection of its own."""
    workflow_pool_size: Annotated[int, Field(ge=2, le=200)] = 4
    """Connections of one service to what keeps the results of its workflows."""
    slow_query_ms: Annotated[float, Field(gt=0)] = 100.0
    """A statement that takes this many milliseconds is captured: see `/api/v1/performance/queries`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    trace_sample_rate: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the traces beginning here that is recorded; failures always are."""
    otlp_endpoint: str | None = None
    """`http://collector:4318/v1/traces`: also send the spans there (OTLP over HTTP, protobuf)."""
    ledger_program_id: Annotated[str, Field(pattern=r"^[1-9A-HJ-NP-Za-km-z]{32,44}$")] | None = None
    """The address of the governance program. Without it, where the embedded node has it."""
    ledger_priority_percentile: Annotated[int, Field(ge=0, le=100)] | None = None
    """Offer this percentile of the priority fees lately paid for the same accounts; for public clusters. Without it none is offered."""
    ledger_priority_cap: Annotated[int, Field(ge=0)] = 200_000
    """Never offer more than this, in micro-lamports a compute unit: by default 0.000012 SOL for a transaction of 60,000 units."""
    ledger_faucet: Literal["auto", "on", "off"] = "auto"
    """Whether accounts that run low ask the ledger's faucet. `auto`: everywhere but on Solana's mainnet, which has none."""
    report_seconds: Annotated[float, Field(gt=0, le=300)] = 5.0
    """How often every process reports to the monitor."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("http://localhost:3000",),
        validation_alias=AliasChoices("allowed_origins", "ALLOWED_ORIGINS"),
    )

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _refuse_wildcard(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Credentials are on, and the Fetch standard forbids `*` with credentials for good reason.
        if "*" in value:
            raise ValueError("ALLOWED_ORIGINS must list origins; `*` is refused because requests carry credentials")
        return value

    @model_validator(mode="after")
    def _production_is_explicit(self) -> Self:
        unknown = set(self.urls) - set(PART_BY_NAME)
        if unknown:
            raise ValueError(f"ACGS_URLS names `{min(unknown)}`; the parts are {', '.join(PART_BY_NAME)}")
        if self.profile == "production" and self.database_url is None:
            raise ValueError("the production profile needs ACGS_DATABASE_URL (PostgreSQL)")
        return self

    def port(self, part: str) -> int:
        """The TCP port that `part` listens on here."""
        return PART_BY_NAME[part].port + self.port_offset

    def url(self, part: str) -> str:
        """The base URL at which `part` is reached, without a trailing slash."""
        return self.urls.get(part, f"http://127.0.0.1:{self.port(part)}").rstrip("/")
