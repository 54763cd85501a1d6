"""Each sink against a server of its kind that listens on a socket of this machine."""

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from socket import AF_INET
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from acgs1.monitoring.alerts import Alert
from acgs1.monitoring.settings import MonitoringSettings
from acgs1.monitoring.sinks import AlertmanagerSink, LogSink, SlackSink, SmtpSink, WebhookSink, sinks_of
from acgs1.monitoring.slo import Severity

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
FIRING = Alert(
    "alr_1", "part-not-serving", "auth", Severity.CRITICAL, "auth is down", "docs/how-to/runbooks.md#a-part-does-not-serve",
    {"failed_checks": 3}, AT, AT,
)  # fmt: skip
ENDED = Alert(
    "alr_2", "part-not-serving", "ledger", Severity.CRITICAL, "ledger is down", "docs/how-to/runbooks.md#x", {}, AT, AT,
    resolved_at=AT + timedelta(minutes=5),
)  # fmt: skip


class Receiver:
    """An HTTP server that keeps what it was sent and answers `status`."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.seen.append((first, headers, body))
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiver(status: int = 200) -> AsyncGenerator[Receiver]:
    made = Receiver(status)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made


@pytest.fixture
async def http() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def test_a_webhook_is_signed_over_the_bytes_that_arrive(http):
    async with receiver() as there:
        await WebhookSink(http, f"{there.url}/hook", "the key").send([FIRING, ENDED])
    ((first, headers, body),) = there.seen
    assert first == "POST /hook HTTP/1.1"
    assert headers["x-acgs-signature"] == "sha256=" + hmac.new(b"the key", body, hashlib.sha256).hexdigest()
    told = json.loads(body)["alerts"]
    assert [(a["target"], a["severity"], a["evidence"], a["resolved_at"]) for a in told] == [
        ("auth", "critical", {"failed_checks": 3}, None),
        ("ledger", "critical", {}, "2026-11-24T12:05:00.000000Z"),
    ]
    assert told[0]["runbook"].endswith("#a-part-does-not-serve")


async def test_slack_gets_one_message_that_names_state_target_and_runbook(http):
    async with receiver() as there:
        await SlackSink(http, f"{there.url}/services/x").send([FIRING, ENDED])
    ((_, headers, body),) = there.seen
    assert headers["content-type"] == "application/json"
    lines = json.loads(body)["text"].split("\n")
    assert lines[0].startswith("[CRITICAL] auth: auth is down")
    assert "runbooks.md#a-part-does-not-serve" in lines[0]
    assert lines[1].startswith("[RESOLVED] ledger")


async def test_alertmanager_gets_labels_annotations_and_both_ends(http):
    async with receiver() as there:
        await AlertmanagerSink(http, there.url + "/").send([FIRING, ENDED])
    ((first, _, body),) = there.seen
    assert first == "POST /api/v2/alerts HTTP/1.1"
    fires, ended = json.loads(body)
    assert fires["labels"] == {"alertname": "part-not-serving", "target": "auth", "severity": "critical"}
    assert fires["annotations"]["summary"] == "auth is down"
    assert (fires["startsAt"], "endsAt" in fires) == ("2026-11-24T12:00:00.000000Z", False)
    assert ended["endsAt"] == "2026-11-24T12:05:00.000000Z"


@pytest.mark.parametrize("kind", [lambda h, u: WebhookSink(h, u, "k"), SlackSink, AlertmanagerSink])
async def test_a_refusal_is_an_error_and_no_delivery(http, kind):
    async with receiver(500) as there:
        with pytest.raises(httpx.HTTPStatusError):
            await kind(http, there.url).send([FIRING])
    assert len(there.seen) == 1


class Mailbox:
    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 OK"

    def login(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"pass:word")


@asynccontextmanager
async def mail_server(host: str, box: Mailbox, **options: Any) -> AsyncGenerator[int]:
    """A server that puts mail into `box`; its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname=host, loop=loop, **options), host, 0, family=AF_INET)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_mail_arrives_at_every_receiver():
    box = Mailbox()
    async with mail_server("127.0.0.1", box) as port:
        url = f"smtp://127.0.0.1:{port}?from=acgs@example.org&to=a@example.org&to=b@example.org"
        await SmtpSink(url).send([FIRING, ENDED])
    ((sender, receivers, mail),) = box.mails
    assert (sender, receivers) == ("acgs@example.org", ["a@example.org", "b@example.org"])
    assert mail["subject"] == "[critical] part-not-serving: auth, ledger"
    assert "auth is down" in mail.get_content()
    assert "[RESOLVED] ledger" in mail.get_content()


def certificate(folder: Any) -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *private) + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


async def test_a_password_goes_over_tls_to_a_server_whose_certificate_is_trusted(tmp_path, monkeypatch):
    file = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    box = Mailbox()
    options = {"tls_context": context, "require_starttls": True, "authenticator": box.login, "auth_required": True}
    async with mail_server("localhost", box, **options) as port:
        url = f"smtp://ops:pass%3Aword@localhost:{port}?from=acgs@example.org&to=a@example.org"
        with pytest.raises(ssl.SSLCertVerificationError):
            await SmtpSink(url).send([FIRING])
        assert box.logins == []
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        await SmtpSink(url).send([FIRING])
    assert box.logins == [(b"ops", b"pass:word")]
    assert len(box.mails) == 1


async def test_the_log_gets_a_line_per_alert(monkeypatch):
    lines: list[dict[str, Any]] = []

    class Log:
        def warning(self, event: str, **values: Any) -> None:
            lines.append({"event": event, **values})

    monkeypatch.setattr("acgs1.monitoring.sinks._log", Log())
    await LogSink().send([FIRING, ENDED])
    assert [(line["event"], line["state"], line["target"]) for line in lines] == [
        ("alert", "firing", "auth"),
        ("alert", "resolved", "ledger"),
    ]


def test_the_settings_name_the_sinks(http):
    everything = MonitoringSettings.model_validate(
        {
            "webhook_url": "http://x", "webhook_secret": "s", "slack_url": "http://y", "alertmanager_url": "http://z",
            "smtp_url": "smtp://h?from=a@b&to=c@d",
        }
    )  # fmt: skip
    kinds = [type(sink).__name__ for sink in sinks_of(everything, http)]
    assert kinds == ["LogSink", "WebhookSink", "SlackSink", "AlertmanagerSink", "SmtpSink"]
    with pytest.raises(ValueError, match="WEBHOOK_SECRET"):
        sinks_of(MonitoringSettings(webhook_url="http://x"), http)
    with pytest.raises(ValueError, match="smtp_url is"):
        sinks_of(MonitoringSettings.model_validate({"smtp_url": "http://h"}), http)
