"""Settings every process shares. Built at entry points only; frozen from then on."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from acgs1.contracts.topology import PART_BY_NAME

_WELL_KNOWN = frozenset(
    {"acgs", "admin", "changeme", "change-me", "default", "example", "guest", "pass", "password", "postgres", "redis"}
    | {"root", "secret", "test", "123456", "12345678"}
)
"""Passwords that examples carry and scanners try first. The name of the account itself is another one."""


class PlatformSettings(BaseSettings):
    """Read from the environment with the prefix `ACGS_` (and the plan's own `ALLOWED_ORIGINS`).

    Raises pydantic.ValidationError naming the variable for a value that cannot be used.
    """

    model_config = SettingsConfigDict(
        env_prefix="ACGS_", frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

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

    @field_validator("allowed_origins")
    @classmethod
    def _refuse_what_is_no_origin(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _is_origin(origin):
                raise ValueError(
                    f"ALLOWED_ORIGINS holds `{origin}`, which is no origin; one is `https://console.example` or `http://localhost:3000`"
                )
        return value

    @model_validator(mode="after")
    def _production_is_explicit(self) -> Self:
        unknown = set(self.urls) - set(PART_BY_NAME)
        if unknown:
            raise ValueError(f"ACGS_URLS names `{min(unknown)}`; the parts are {', '.join(PART_BY_NAME)}")
        if self.profile == "production" and self.database_url is None:
            raise ValueError("the production profile needs ACGS_DATABASE_URL (PostgreSQL)")
        if self.profile == "production":
            _expect_own_password("ACGS_DATABASE_URL", self.database_url)
            _expect_own_password("ACGS_REDIS_URL", self.redis_url)
            if plain := [origin for origin in self.allowed_origins if not origin.startswith("https://")]:
                raise ValueError(
                    f"the production profile takes https origins only; set ALLOWED_ORIGINS to the console's, not `{plain[0]}`"
                )
        return self

    def port(self, part: str) -> int:
        """The TCP port that `part` listens on here."""
        return PART_BY_NAME[part].port + self.port_offset

    def url(self, part: str) -> str:
        """The base URL at which `part` is reached, without a trailing slash."""
        return self.urls.get(part, f"http://127.0.0.1:{self.port(part)}").rstrip("/")


def _is_origin(text: str) -> bool:
    """Whether it is an origin as browsers send it (RFC 6454, section 6.2): scheme, host, and the port where it is not the scheme's own."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    written = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    default = {"http": 80, "https": 443}
    return parts.scheme in default and bool(parts.hostname) and port != default[parts.scheme] and written == text


def _expect_own_password(setting: str, url: SecretStr | None) -> None:
    """A URL without a password is trusted to be let in by other means: a socket's peer, a certificate, a network of its own."""
    parts = urlsplit(url.get_secret_value() if url is not None else "")
    password = unquote(parts.password or "")
    if password and (password.lower() in _WELL_KNOWN or password == unquote(parts.username or "")):
        raise ValueError(
            f"the production profile refuses the well-known password in {setting}; give the server one of its own"
        )
