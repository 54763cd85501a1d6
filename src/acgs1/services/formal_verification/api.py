"""Routes of formal_verification."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, cast

from fastapi import Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from acgs1.contracts.auth import Identity, Role
from acgs1.contracts.common import Page
from acgs1.contracts.formal_verification import (
    AnalysisOutcome,
    Answer,
    Attestation,
    Certificate,
    CertificateInputs,
    CertificateProofs,
    Comparison,
    ConstitutionCheck,
    Findings,
    HygieneCheck,
    NewComparison,
    NewQuestion,
    NewVerification,
    VerificationProgress,
    VerificationReport,
    VerificationSummary,
    VerifierKey,
)
from acgs1.core.errors import DomainError
from acgs1.kit.access import require
from acgs1.kit.web import api_router
from acgs1.ledger.errors import LedgerError
from acgs1.optimizer.web import HotReads
from acgs1.services.formal_verification.analyses import Analyses
from acgs1.services.formal_verification.archive import pack
from acgs1.services.formal_verification.errors import (
    AnalysisNotFound,
    CertificateNotFound,
    InvalidConstitution,
    InvalidPolicies,
    ProofTextNotFound,
    ProverDefect,
    ProverUnavailable,
    TooManyObligations,
    VerificationNotFound,
)
from acgs1.services.formal_verification.service import VerificationService

STATUSES: dict[type[DomainError], int] = {
    InvalidPolicies: 422,
    InvalidConstitution: 422,
    TooManyObligations: 413,
    VerificationNotFound: 404,
    AnalysisNotFound: 404,
    CertificateNotFound: 404,
    ProofTextNotFound: 404,
    ProverUnavailable: 503,
    ProverDefect: 503,
    LedgerError: 409,
}
PUBLIC = frozenset({"/api/v1/verifier-key"})

router = api_router()


async def _service(request: Request) -> VerificationService:
    return request.app.state.service


async def _analyses(request: Request) -> Analyses:
    return request.app.state.analyses


Service = Annotated[VerificationService, Depends(_service)]
Reader = Annotated[
    Identity, require(Role.LEGISLATOR, Role.ADMIN, Role.AUDITOR, Role.MEMBER, Role.OPERATOR, Role.SERVICE)
]
Prover = Annotated[Identity, require(Role.LEGISLATOR, Role.ADMIN, Role.AUDITOR, Role.MEMBER, Role.SERVICE)]
Limit = Annotated[int, Query(ge=1, le=200)]
Wait = Annotated[float, Query(ge=0, le=60, description="seconds to wait for the report")]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]

_PROGRESS: dict[int | str, dict[str, Any]] = {
    202: {"model": VerificationProgress, "description": "Not finished: ask again at `Location`"}
}


def _answer(
    outcome: VerificationReport | VerificationProgress, response: Response
) -> VerificationReport | VerificationProgress:
    if isinstance(outcome, VerificationProgress) and outcome.status == "running":
        response.status_code = 202
        response.headers["Location"] = f"/api/v1/verifications/{outcome.id}"
    return outcome


@router.post("/verifications", status_code=201, summary="Prove policies", tags=["proofs"], responses=_PROGRESS)
async def _verify(
    body: NewVerification,
    service: Service,
    identity: Prover,
    response: Response,
    wait: Wait = 1.0,
    proofs: Annotated[bool, Query(description="prove everything anew and keep the solver's proof objects")] = False,
) -> VerificationReport | VerificationProgress:
    return _answer(await service.verify(body, identity, wait, proofs=proofs), response)


@router.get("/verifications", summary="Verifications, newest first", tags=["proofs"])
async def _verifications(
    service: Service, _: Reader, cursor: str | None = None, limit: Limit = 50
) -> Page[VerificationSummary]:
    return await service.verifications(cursor, limit)


@router.get("/verifications/{verification_id}", summary="The report", tags=["proofs"], responses=_PROGRESS)
async def _verification(
    verification_id: str, service: Service, reads: HotReads, _: Reader, response: Response, wait: Wait = 0.0
) -> VerificationReport | VerificationProgress:
    # Callers with different patience do not share a load.
    params = {"id": verification_id, "wait": wait}
    return _answer(await reads.get("report", params, lambda: service.verification(verification_id, wait)), response)


@router.get(
    "/verifications/{verification_id}/events",
    summary="Progress as server-sent events",
    tags=["proofs"],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "`progress` events, then one `outcome`"}},
)
async def _events(verification_id: str, service: Service, _: Reader) -> StreamingResponse:
    return await _streamed(service.progress(verification_id))


_Update = VerificationReport | VerificationProgress | AnalysisOutcome


async def _streamed(updates: AsyncGenerator[_Update]) -> StreamingResponse:
    # The first one before the headers leave, so that an unknown id is a problem document.
    first = await anext(updates)

    async def stream() -> AsyncGenerator[str]:
        async with aclosing(updates):
            yield _event(first)
            async for update in updates:
                yield _event(update)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _event(update: _Update) -> str:
    if isinstance(update, VerificationProgress):
        kind = "progress" if update.status == "running" else "outcome"
        return f"event: {kind}\ndata: {update.model_dump_json()}\n\n"
    # The outcome itself may be large: the event says how it ended, and it is at the place that was streamed from.
    data: dict[str, Any] = {"status": "done"}
    if isinstance(update, VerificationReport):
        data |= {"id": update.id, "verdict": update.verdict, "certificate_hash": update.certificate_hash}
    return f"event: outcome\ndata: {json.dumps(data)}\n\n"


@router.post("/verifications/{verification_id}/cancellation", summary="Stop a verification", tags=["proofs"])
async def _cancel(
    verification_id: str, service: Service, identity: Prover
) -> VerificationReport | VerificationProgress:
    return await service.cancel(verification_id, identity)


_Analysis = Annotated[Analyses, Depends(_analyses)]
_Outcome = AnalysisOutcome | VerificationProgress
Patience = Annotated[float, Query(ge=0, le=60, description="seconds to wait for the result")]


def _result(outcome: _Outcome, response: Response) -> _Outcome:
    if isinstance(outcome, VerificationProgress) and outcome.status == "running":
        response.status_code = 202
        response.headers["Location"] = f"/api/v1/analyses/{outcome.id}"
    return outcome


@router.post(
    "/comparisons", summary="What changes from one policy set to another", tags=["proofs"], responses=_PROGRESS
)
async def _compare(
    body: NewComparison, analyses: _Analysis, by: Prover, response: Response, wait: Patience = 30.0
) -> Comparison | VerificationProgress:
    return cast(
        "Comparison | VerificationProgress", _result(await analyses.analyze("compare", body, by, wait), response)
    )


@router.post("/questions", summary="Can it ever be allowed, or denied", tags=["questions"], responses=_PROGRESS)
async def _ask(
    body: NewQuestion, analyses: _Analysis, by: Prover, response: Response, wait: Patience = 30.0
) -> Answer | VerificationProgress:
    return cast("Answer | VerificationProgress", _result(await analyses.analyze("question", body, by, wait), response))


@router.post(
    "/hygiene-checks", summary="Policies that do nothing, or too much", tags=["questions"], responses=_PROGRESS
)
async def _hygiene(
    body: HygieneCheck, analyses: _Analysis, by: Prover, response: Response, wait: Patience = 30.0
) -> Findings | VerificationProgress:
    return cast("Findings | VerificationProgress", _result(await analyses.analyze("hygiene", body, by, wait), response))


@router.post(
    "/constitution-checks",
    summary="Principles that contradict or imply one another",
    tags=["questions"],
    responses=_PROGRESS,
)
async def _constitution(
    body: ConstitutionCheck, analyses: _Analysis, by: Prover, response: Response, wait: Patience = 30.0
) -> Findings | VerificationProgress:
    outcome = await analyses.analyze("constitution", body, by, wait)
    return cast("Findings | VerificationProgress", _result(outcome, response))


@router.get("/analyses/{analysis_id}", summary="The result of a long analysis", tags=["questions"], responses=_PROGRESS)
async def _get_analysis(
    analysis_id: str, analyses: _Analysis, _: Reader, response: Response, wait: Wait = 0.0
) -> _Outcome:
    return _result(await analyses.analysis(analysis_id, wait), response)


@router.get(
    "/analyses/{analysis_id}/events",
    summary="Progress of a long analysis as server-sent events",
    tags=["questions"],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "`progress` events, then one `outcome`"}},
)
async def _analysis_events(analysis_id: str, analyses: _Analysis, _: Reader) -> StreamingResponse:
    return await _streamed(analyses.progress(analysis_id))


@router.post("/analyses/{analysis_id}/cancellation", summary="Stop a long analysis", tags=["questions"])
async def _cancel_analysis(analysis_id: str, analyses: _Analysis, by: Prover) -> _Outcome:
    return await analyses.cancel(analysis_id, by)


@router.get("/certificates/{digest}", summary="One certificate", tags=["certificates"])
async def _certificate(digest: Digest, service: Service, reads: HotReads, _: Reader) -> Certificate:
    return await reads.get("certificate", {"hash": digest}, lambda: service.certificate(digest))


@router.get("/certificates/{digest}/inputs", summary="What a certificate was issued for", tags=["certificates"])
async def _certificate_inputs(digest: Digest, service: Service, _: Reader) -> CertificateInputs:
    return await service.certificate_inputs(digest)


@router.get("/certificates/{digest}/proofs", summary="The proof objects kept with a certificate", tags=["certificates"])
async def _certificate_proofs(digest: Digest, service: Service, _: Reader) -> CertificateProofs:
    return await service.certificate_proofs(digest)


@router.get(
    "/certificates/{digest}/archive",
    summary="A certificate with all that it takes to check it",
    tags=["certificates"],
    response_class=Response,
    responses={200: {"content": {"application/zip": {}}, "description": "A ZIP file"}},
)
async def _certificate_archive(digest: Digest, service: Service, _: Reader) -> Response:
    archive = await service.certificate_archive(digest)
    # Proof objects may be megabytes; packing them would hold up the event loop.
    data = await asyncio.to_thread(pack, archive)
    name = f'attachment; filename="certificate-{digest[:16]}.zip"'
    return Response(data, media_type="application/zip", headers={"Content-Disposition": name})


@router.get(
    "/proof-texts/{digest}",
    summary="A script or a proof object, by its hash",
    tags=["certificates"],
    response_class=PlainTextResponse,
)
async def _proof_text(digest: Digest, service: Service, _: Reader) -> PlainTextResponse:
    return PlainTextResponse(await service.proof_text(digest))


@router.post("/certificates/{digest}/attestation", summary="Attest a certificate on the ledger", tags=["certificates"])
async def _attest(
    digest: Digest, service: Service, request: Request, _: Annotated[Identity, require(Role.SERVICE, Role.ADMIN)]
) -> Attestation:
    return await request.app.state.attestor.attest(await service.certificate(digest))


@router.get("/verifier-key", summary="The key that certificates are signed with", tags=["certificates"])
async def _verifier_key(service: Service) -> VerifierKey:
    return service.verifier_key()
