"""Settings: what they refuse, and that they say which."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from acgs1.kit.settings import PlatformSettings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch):
    import os

    for name in [n for n in os.environ if n.startswith("ACGS_") or n == "ALLOWED_ORIGINS"]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("origins", ["*", "http://a.example,*", " * "])
def test_a_wildcard_origin_is_refused_because_requests_carry_credentials(monkeypatch: pytest.MonkeyPatch, origins: str):
    monkeypatch.setenv("ALLOWED_ORIGINS", origins)
    with pytest.raises(ValidationError, match="credentials"):
        PlatformSettings()


def test_origins_come_as_a_comma_list_and_default_to_the_console(monkeypatch: pytest.MonkeyPatch):
    assert PlatformSettings().allowed_origins == ("http://localhost:3000",)
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://a.example/, https://b.example,")
    assert PlatformSettings().allowed_origins == ("https://a.example", "https://b.example")


def test_production_needs_a_database_server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACGS_PROFILE", "production")
    with pytest.raises(ValidationError, match="ACGS_DATABASE_URL"):
        PlatformSettings()
    monkeypatch.setenv("ACGS_DATABASE_URL", "postgresql+asyncpg://u:geheim@db/acgs")
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://console.example")
    settings = PlatformSettings()
    assert "geheim" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("ACGS_DATABASE_URL", "postgresql+asyncpg://acgs:acgs@db/acgs"),
        ("ACGS_DATABASE_URL", "postgresql+asyncpg://ada:ada@db/acgs"),
        ("ACGS_DATABASE_URL", "postgresql+asyncpg://acgs:Postgres@db/acgs"),
        ("ACGS_DATABASE_URL", "postgresql+asyncpg://acgs:chang%65me@db/acgs"),
        ("ACGS_REDIS_URL", "redis://:redis@cache:6379/0"),
    ],
)
def test_production_refuses_well_known_passwords_and_names_none(monkeypatch: pytest.MonkeyPatch, name: str, url: str):
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://console.example")
    monkeypatch.setenv("ACGS_DATABASE_URL", "postgresql+asyncpg:///acgs?host=/run/postgresql")
    monkeypatch.setenv(name, url)
    assert PlatformSettings().profile == "development"
    monkeypatch.setenv("ACGS_PROFILE", "production")
    with pytest.raises(ValidationError, match=f"well-known password in {name}") as refusal:
        PlatformSettings()
    assert url not in str(refusal.value)


@pytest.mark.parametrize("origins", [None, "http://console.example", "https://console.example,http://localhost:3000"])
def test_production_refuses_origins_without_tls(monkeypatch: pytest.MonkeyPatch, origins: str | None):
    monkeypatch.setenv("ACGS_PROFILE", "production")
    monkeypatch.setenv("ACGS_DATABASE_URL", "postgresql+asyncpg://u:geheim@db/acgs")
    if origins is not None:
        monkeypatch.setenv("ALLOWED_ORIGINS", origins)
    with pytest.raises(ValidationError, match="https origins only"):
        PlatformSettings()


@pytest.mark.parametrize(
    "origin",
    [
        "notaurl",
        "console.example",
        "ftp://console.example",
        "https:",
        "https://console.example/path",
        "https://console.example?x",
        "https://ada@console.example",
        "https://console.example:0x1",
        "https://console.example:443",
        "HTTPS://console.example",
        "https://Console.example",
        "null",
    ],
)
def test_an_origin_that_no_browser_would_send_is_refused(monkeypatch: pytest.MonkeyPatch, origin: str):
    monkeypatch.setenv("ALLOWED_ORIGINS", f"https://a.example,{origin}")
    with pytest.raises(ValidationError, match=f"`{re.escape(origin)}`, which is no origin"):
        PlatformSettings()


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://[::1]:3000", "https://console.example:8443"])
def test_what_a_browser_sends_is_an_origin(monkeypatch: pytest.MonkeyPatch, origin: str):
    monkeypatch.setenv("ALLOWED_ORIGINS", origin)
    assert PlatformSettings().allowed_origins == (origin,)


def test_an_address_for_an_unknown_part_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACGS_URLS", '{"atuh": "https://auth.example"}')
    with pytest.raises(ValidationError, match="`atuh`"):
        PlatformSettings()
    monkeypatch.setenv("ACGS_URLS", '{"auth": "https://auth.example/"}')
    assert PlatformSettings().url("auth") == "https://auth.example"


@pytest.mark.parametrize(
    ("name", "value"), [("ACGS_PORT_OFFSET", "-1"), ("ACGS_PORT_OFFSET", "x"), ("ACGS_MAX_BODY_BYTES", "10")]
)
def test_a_value_out_of_range_names_its_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("ACGS_").lower()):
        PlatformSettings()


def test_settings_do_not_change(tmp_path: Path):
    settings = PlatformSettings(home=tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        settings.home = Path("/")  # type: ignore[misc]
    assert settings.port("auth") == 8000
