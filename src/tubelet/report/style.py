"""The style sheet, and the one small script: it sorts and filters a table."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

LIGHT = """
--paper:#fcfcfb;--card:#ffffff;--ink:#1c2024;--faint:#60666d;--line:#e2e4e8;--lane:#f2f3f5;
--accent:#2458d3;--warn:#9a5b00;--warnbg:#fff5e0;--bad:#b3261e;--badbg:#fdecea;--good:#1a7f37;
--h0:#2458d3;--h1:#d9480f;--h2:#2b8a3e;--h3:#9c36b5;--h4:#0b7285;--h5:#c2255c;--h6:#a07800;
--h7:#5f3dc4;--h8:#66a80f;--h9:#8a5a44;--other:#a6abb2;"""
DARK = """
--paper:#0f1216;--card:#161a20;--ink:#e8eaed;--faint:#9aa2ab;--line:#2b3038;--lane:#1e232a;
--accent:#8ab0ff;--warn:#f0b35a;--warnbg:#33270f;--bad:#ff8a80;--badbg:#3a1a18;--good:#57c46f;
--h0:#7aa2ff;--h1:#ff8f5a;--h2:#63c777;--h3:#d58bea;--h4:#4cc3d6;--h5:#ff7fab;--h6:#e0b93c;
--h7:#a99bff;--h8:#a8d94e;--h9:#c79a84;--other:#6b727b;"""


def _text(name: str) -> str:
    return (resources.files("tubelet.report") / name).read_text(encoding="utf-8")


def style(viridis: str) -> str:
    """The style sheet. viridis: the colours of the matrices, for their scale."""
    rules: list[str] = []
    for k in range(10):
        rules.append(f"svg .h{k}{{fill:var(--h{k})}}")
        for way in ("v", "c"):  # the map by video, by class
            rules.append(f"input.by{way}:checked~figure svg .{way}{k}{{fill:var(--h{k})}}")
            rules.append(f".legend.of{way} b.{way}{k}{{background:var(--h{k})}}")
    rules += [".legend b.vx,.legend b.cx{background:var(--other)}"]
    rules += ["input.byv:checked~.ofc,input.byc:checked~.ofv{display:none}"]
    sheet = _text("page.css").replace("LIGHT", LIGHT).replace("DARK", DARK)
    return sheet.replace("VIRIDIS", viridis) + "\n".join(rules)


def script() -> tuple[str, str]:
    """The script, and what the page's policy allows to run: its hash."""
    text = _text("page.js")
    digest = hashlib.sha256(text.encode()).digest()
    return text, "sha256-" + base64.b64encode(digest).decode()
