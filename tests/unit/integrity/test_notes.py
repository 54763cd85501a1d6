"""Signed notes and checkpoints against the examples in the C2SP texts, and every way of breaking them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acgs1.kit.notes import (
    Checkpoint,
    NoteError,
    NoteSigner,
    NoteVerifier,
    open_checkpoint,
    parse_note,
    sign_checkpoint,
)
from acgs1.kit.signing import SigningKey

# The example of c2sp.org/signed-note.
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# The example of c2sp.org/tlog-checkpoint.
CHECKPOINT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
KEY = SigningKey.from_seed(bytes(range(32)))
SIGNER = NoteSigner("example.org/log", KEY)
ROOT = bytes(range(100, 132))


def test_the_example_note_verifies_under_the_example_key() -> None:
    note = parse_note(NOTE)
    NoteVerifier.from_vkey(VKEY).verify(note)
    assert note.text == "This is an example message.\n"
    assert str(note) == NOTE


def test_a_verifier_key_round_trips() -> None:
    assert NoteVerifier.from_vkey(VKEY).vkey == VKEY
    assert NoteVerifier.from_vkey(SIGNER.verifier.vkey) == SIGNER.verifier


def test_the_example_note_with_text_before_an_empty_line_keeps_it_in_the_text() -> None:
    text = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n"
    note = parse_note(str(SIGNER.sign(text)))
    SIGNER.verifier.verify(note)
    assert note.text == text


def test_the_example_checkpoint_parses() -> None:
    checkpoint = Checkpoint.from_text(parse_note(CHECKPOINT).text)
    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.size == 20852163
    assert base64.b64encode(checkpoint.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert checkpoint.text() == parse_note(CHECKPOINT).text


@given(st.integers(0, len(NOTE) - 1), st.characters(exclude_categories=["Cs"]))
def test_a_note_with_any_character_changed_no_longer_verifies(at: int, character: str) -> None:
    changed = NOTE[:at] + character + NOTE[at + 1 :]
    if changed == NOTE:
        return
    with pytest.raises(NoteError):
        NoteVerifier.from_vkey(VKEY).verify(parse_note(changed))


def test_signatures_of_unknown_keys_are_ignored_and_kept() -> None:
    stranger = NoteSigner("witness.example/w", SigningKey.generate()).sign("This is an example message.\n")
    note = parse_note(NOTE + stranger.signatures[0].line())
    NoteVerifier.from_vkey(VKEY).verify(note)
    assert [signature.name for signature in note.signatures] == ["example.com/foo", "witness.example/w"]


def test_a_failing_signature_under_a_known_key_rejects_the_note_even_beside_a_good_one() -> None:
    good = parse_note(NOTE).signatures[0]
    bad = f"— {good.name} {base64.b64encode(good.key_hash + bytes(64)).decode()}\n"
    with pytest.raises(NoteError, match="does not match"):
        NoteVerifier.from_vkey(VKEY).verify(parse_note(NOTE + bad))


def test_a_note_without_a_signature_of_the_trusted_key_is_rejected() -> None:
    with pytest.raises(NoteError, match="no signature of"):
        SIGNER.verifier.verify(parse_note(NOTE))


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name\n",
        "text\n\n— name AAAA\n",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n— na+me AAAAAAAA\n",
        "text\n\n— na\u00a0me AAAAAAAA\n",
        "text\n\n— name AAAAAAAA",
        "text\n\n— name AAAAAAAB=\n",
        "te\txt\n\n— name AAAAAAAA\n",
        "te\udcffxt\n\n— name AAAAAAAA\n",
        "\n\n— name AAAAAAAA\nrest",
        "text\n\n" + "— name AAAAAAAA\n" * 101,
        "x" * (1 << 20) + NOTE,
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(NoteError):
        parse_note(note)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fop+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+Aeky",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
)
def test_a_malformed_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(NoteError):
        NoteVerifier.from_vkey(vkey)


def test_a_checkpoint_is_signed_and_opened() -> None:
    checkpoint = Checkpoint(SIGNER.name, 7, ROOT)
    assert open_checkpoint(sign_checkpoint(checkpoint, SIGNER), SIGNER.verifier) == checkpoint


def test_a_key_signs_checkpoints_of_its_own_log_only() -> None:
    foreign = Checkpoint("example.org/other", 7, ROOT)
    with pytest.raises(NoteError, match="does not sign for"):
        sign_checkpoint(foreign, SIGNER)
    with pytest.raises(NoteError, match="is of the log"):
        open_checkpoint(str(SIGNER.sign(foreign.text())), SIGNER.verifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n7\n",
        "origin\n7\nAAAA\n",
        "origin\n07\n" + base64.b64encode(ROOT).decode() + "\n",
        "origin\n-7\n" + base64.b64encode(ROOT).decode() + "\n",
        "origin\n\u0667\n" + base64.b64encode(ROOT).decode() + "\n",
        "\n7\n" + base64.b64encode(ROOT).decode() + "\n",
        "origin\n7\n" + base64.b64encode(ROOT).decode(),
        "origin\n7\n" + base64.b64encode(ROOT).decode() + "\n\nextension\n",
        "origin\n7\n" + base64.b64encode(ROOT).decode().replace("=", "") + "\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.from_text(text)


@pytest.mark.parametrize(
    "checkpoint",
    [Checkpoint("", 1, ROOT), Checkpoint("a\nb", 1, ROOT), Checkpoint("a", 1, b""), Checkpoint("a", 1, ROOT, ("",))],
)
def test_what_is_no_checkpoint_is_not_written_as_one(checkpoint: Checkpoint) -> None:
    with pytest.raises(NoteError):
        checkpoint.text()


def test_extension_lines_survive() -> None:
    checkpoint = Checkpoint("a", 1, ROOT, ("one", "two"))
    assert Checkpoint.from_text(checkpoint.text()) == checkpoint
