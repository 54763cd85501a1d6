"""A file that is no evidence bundle is called that, with the place."""

import pytest

from acgs1.services.integrity.domain import parse_evidence
from acgs1.services.integrity.errors import MalformedEvidence


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"a":1,"a":1}', b"\xff", b"\x00"])
def test_what_is_no_bundle_is_refused(text: bytes):
    with pytest.raises(MalformedEvidence):
        parse_evidence(text)
