"""A certificate and all that it takes to check it, as one ZIP file for a machine without the service."""

import json
import zipfile
from dataclasses import dataclass
from io import BytesIO

from pydantic import ValidationError

from acgs1.contracts.constitution import Constitution
from acgs1.contracts.formal_verification import Certificate, CertificateInputs, CertificateProofs, VerifierKey

CERTIFICATE, KEY, POLICIES, CONSTITUTION, PROOFS = (
    "certificate.json",
    "verifier-key.json",
    "policies.cedar",
    "constitution.json",
    "proofs/index.json",
)
MAX_BYTES = 1024 * 1024 * 1024
"""Unpacked; a larger archive is refused."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


class InvalidArchive(ValueError):
    """The file is no certificate archive; the message says why."""


@dataclass(frozen=True, slots=True)
class CertificateArchive:
    """`texts` holds scripts and proof objects by their SHA-256. The key is the sender's word; trust one from elsewhere."""

    certificate: Certificate
    key: VerifierKey
    inputs: CertificateInputs
    proofs: CertificateProofs
    texts: dict[str, str]


def pack(archive: CertificateArchive) -> bytes:
    """The ZIP file; equal archives give equal bytes."""
    files = {
        CERTIFICATE: archive.certificate.model_dump_json(indent=1),
        KEY: archive.key.model_dump_json(indent=1),
        POLICIES: archive.inputs.policies,
        CONSTITUTION: archive.inputs.constitution.model_dump_json(indent=1),
        PROOFS: archive.proofs.model_dump_json(indent=1),
        **proof_files(archive.proofs, archive.texts),
    }
    data = BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive_file:
        for name, text in files.items():
            archive_file.writestr(zipfile.ZipInfo(name, _EPOCH), text, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def unpack(data: bytes) -> CertificateArchive:
    """Raises InvalidArchive. Nothing is believed here: hashes and signature are the reader's to check."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive_file:
            if sum(info.file_size for info in archive_file.infolist()) > MAX_BYTES:
                raise InvalidArchive(f"it unpacks to more than {MAX_BYTES} bytes")
            files = {name: archive_file.read(name).decode() for name in archive_file.namelist()}
        return CertificateArchive(
            certificate=Certificate.model_validate_json(files[CERTIFICATE]),
            key=VerifierKey.model_validate_json(files[KEY]),
            inputs=CertificateInputs(
                policies=files[POLICIES], constitution=Constitution.model_validate_json(files[CONSTITUTION])
            ),
            proofs=CertificateProofs.model_validate_json(files[PROOFS]),
            texts=texts_of(files),
        )
    except KeyError as error:
        raise InvalidArchive(f"it has no {error}") from None
    except ValidationError as error:
        raise InvalidArchive(str(error)) from None
    except (zipfile.BadZipFile, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidArchive(f"it cannot be read: {error}") from None


def proof_files(proofs: CertificateProofs, texts: dict[str, str]) -> dict[str, str]:
    """Scripts and proof objects by file name."""
    files: dict[str, str] = {}
    for proof in (proof for obligation in proofs.obligations for proof in obligation.proofs):
        files[f"proofs/{proof.smtlib_sha256}.smt2"] = texts[proof.smtlib_sha256]
        if proof.proof_sha256 is not None:
            files[f"proofs/{proof.proof_sha256}.{proofs.format}"] = texts[proof.proof_sha256]
    return files


def texts_of(files: dict[str, str]) -> dict[str, str]:
    """Scripts and proof objects by the hash in the file's name."""
    return {
        name.removeprefix("proofs/").partition(".")[0]: text
        for name, text in files.items()
        if name.startswith("proofs/") and name.endswith((".smt2", ".cpc"))
    }
