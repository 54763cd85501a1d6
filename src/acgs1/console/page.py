"""The page that says what runs where. Static: it shows nothing that needs a token."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from acgs1.contracts.topology import PARTS
from acgs1.kit.settings import PlatformSettings

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>ACGS-1</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; color: #1b1f24; }}
table {{ border-collapse: collapse; width: 100%; }} td, th {{ text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #d8dee4; }}
code {{ background: #f3f5f7; padding: .1rem .3rem; border-radius: 3px; }}
</style></head>
<body>
<h1>ACGS-1</h1>
<p>Constitution &rarr; policies &rarr; proof &rarr; vote &rarr; decisions &rarr; evidence.</p>
<table><thead><tr><th>Part</th><th>Health</th><th>API</th></tr></thead><tbody>{rows}</tbody></table>
<p><code>acgs1 status</code> shows the same in a terminal; <code>acgs1 --help</code> lists the commands.</p>
</body></html>
"""


def page_router(settings: PlatformSettings) -> APIRouter:
    """`GET /`: the parts, with links to their health and their OpenAPI documents."""
    rows = "".join(
        f'<tr><td>{part.name}</td><td><a href="{settings.url(part.name)}/health">health</a></td>'
        f'<td><a href="{settings.url(part.name)}/openapi.json">openapi.json</a></td></tr>'
        for part in PARTS
        if part.name != "ledger"
    )
    html = _PAGE.format(rows=rows)
    router = APIRouter()

    @router.get("/", summary="What runs where", response_class=HTMLResponse)
    async def _index() -> HTMLResponse:
        # The page carries its own style and nothing else.
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        return HTMLResponse(html, headers={"content-security-policy": policy})

    return router
