"""Settings: what they refuse, and that they say which."""

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
    settings = PlatformSettings()
    assert "geheim" not in repr(settings)


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
