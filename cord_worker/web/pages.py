"""The HTML pages of the web view. The page of a server or bundle loads the script, the style and the documents as
files; a report contains them.

No text of a model is written into a page as HTML, only as JSON in elements that no browser runs.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from cord_worker.errors import CordError
from cord_worker.web.documents import Site
from cord_worker.web.paths import encoded

APP_SCRIPT = "app.js"
APP_STYLE = "app.css"
_COMMON = "default-src 'none'; base-uri 'none'; form-action 'none'"
SERVER_POLICY = (
    f"{_COMMON}; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'none'"
)
_BUNDLE_POLICY = f"{_COMMON}; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
"""A page's own policy has no `frame-ancestors`: browsers ignore it there."""
_LEAST_COMPRESSED_BYTES = 1_000
"""Documents of at least this size are compressed in a report."""


class AppMissing(CordError):
    """The package lacks the built front end."""


@dataclass(frozen=True, slots=True)
class App:
    """The built front end."""

    script: bytes
    style: bytes

    @classmethod
    def read(cls) -> App:
        """Reads the built files from the package. Raises AppMissing."""
        folder = files("cord_worker.web") / "static"
        try:
            return cls((folder / APP_SCRIPT).read_bytes(), (folder / APP_STYLE).read_bytes())
        except OSError as error:
            raise AppMissing(
                f"the web view is not complete: {error}. Install cord-worker again, or build it in "
                "cord_worker/web/front (docs/web-view.md)"
            ) from None


def in_script(data: bytes) -> str:
    """JSON as the content of a script element. It is escaped so that no text in it can end the element or open a
    comment."""
    text = data.decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def page(site: Site) -> str:
    """The page of a server or bundle."""
    policy = _policy_tag(_BUNDLE_POLICY) if site.size == "bundle" else ""
    return f"""{_head(site, policy)}<link rel="stylesheet" href="{APP_STYLE}">
</head>
<body>
{_BODY}{_site_tag(site)}<script src="{APP_SCRIPT}"></script>
</body>
</html>
"""


def report_start(site: Site, app: App) -> str:
    """The beginning of a report, up to its documents.

    Raises AppMissing if the script or the style cannot be embedded in a page.
    """
    embedded = ((APP_SCRIPT, app.script, b"</script"), (APP_STYLE, app.style, b"</style"))
    for name, content, closing_tag in embedded:
        if closing_tag in content.lower() or b"<!--" in content or b"\r" in content:
            raise AppMissing(f"the built {name} cannot be embedded in a page; build it again")
    policy = (
        f"{_COMMON}; script-src '{_content_hash(app.script)}'; style-src '{_content_hash(app.style)}'; "
        "connect-src 'none'; img-src data:"
    )
    return f"""{_head(site, _policy_tag(policy))}<style>{app.style.decode()}</style>
</head>
<body>
{_BODY}"""


def report_document(path: str, document: Any) -> str:
    """One document of a report."""
    data = encoded(document)
    if len(data) < _LEAST_COMPRESSED_BYTES:
        return f'<script type="application/json" data-path="{html.escape(path)}">{in_script(data)}</script>\n'
    packed = base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
    return f'<script type="application/json" data-encoding="gzip" data-path="{html.escape(path)}">{packed}</script>\n'


def report_end(site: Site, app: App) -> str:
    """The end of a report, after its documents."""
    return f"""{_site_tag(site)}<script>{app.script.decode()}</script>
</body>
</html>
"""


_BODY = """<div id="app"></div>
<noscript>This page shows its figures with JavaScript, which is switched off.</noscript>
"""


def _head(site: Site, policy: str) -> str:
    title = "cordctl" if site.run is None else f"{html.escape(site.run)} - cordctl"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{policy}<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{title}</title>
"""


def _policy_tag(policy: str) -> str:
    return f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'


def _site_tag(site: Site) -> str:
    return f'<script type="application/json" id="site">{in_script(encoded(site))}</script>\n'


def _content_hash(content: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}"
