"""Who has a port, found out before anything is started."""

import os
import socket
from pathlib import Path

import pytest

from acgs1.contracts.topology import LEDGER, PARTS
from acgs1.kit.settings import PlatformSettings
from acgs1.runtime.ports import taken
from acgs1.runtime.supervisor import CannotStart, expect_ports
from polling import free_offset, free_port

PORTS = [*(part.port for part in PARTS), 8900]


def settings(home: Path, **fields: object) -> PlatformSettings:
    return PlatformSettings.model_validate({"home": home, "port_offset": free_offset(PORTS), **fields})


def test_a_free_port_is_nobodys():
    assert taken("127.0.0.1", free_port()) is None


def test_whoever_listens_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        who = taken("127.0.0.1", listener.getsockname()[1])
    assert who is not None
    assert f"pid {os.getpid()}" in who


@pytest.mark.parametrize("reuse", [0, 1], ids=["for itself", "as a supervisor binds it"])
def test_a_port_that_is_bound_without_listening_is_taken(reuse: int):
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        bound.bind(("127.0.0.1", 0))
        assert taken("127.0.0.1", bound.getsockname()[1]) == "a process that does not listen on it"


def test_connections_that_a_stopped_server_has_left_do_not_keep_a_port_taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listener.accept()
    # The side that closes first remembers the connection for a minute.
    served.close()
    client.close()
    assert taken("127.0.0.1", port) is None


def test_a_host_that_is_not_of_this_machine_is_said_to_be_so(tmp_path: Path):
    # Of a network that is set aside for documentation (RFC 5737).
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(CannotStart) as refused:
            expect_ports(settings(tmp_path, host=host))
        for expected in ("port ", f"`{host}`", "ACGS_HOST"):
            assert expected in str(refused.value)


def test_the_ledgers_second_port_is_looked_at_too(tmp_path: Path):
    own = settings(tmp_path)
    port = own.port(LEDGER.name) + 1
    with socket.create_server(("127.0.0.1", port)), pytest.raises(CannotStart, match=rf"port {port} \(ledger\)"):
        expect_ports(own)
