"""How the report pages look, and the words that explain their columns."""

import html

STYLE = """
:root{--ink:#1b1f24;--faint:#59636e;--line:#d8dee4;--soft:#f6f8fa;--llm:#0969da;--conventional:#8c959f;--online:#8250df;
--champion:#bf8700;--better:#1a7f37;--worse:#cf222e}
*{box-sizing:border-box}
body{margin:0 auto;padding:32px 24px 64px;max-width:960px;color:var(--ink);background:#fff;
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:26px;line-height:1.25;margin:0 0 4px}h2{font-size:18px;margin:40px 0 8px}
p{margin:8px 0}.lead{font-size:17px;margin:12px 0 20px}.faint{color:var(--faint)}small{color:var(--faint)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:20px 0}
.card{border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums}
.card span{color:var(--faint);font-size:13px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:6px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--faint);border-bottom-color:#afb8c1}
th:first-child,td:first-child,.text td,.text th{text-align:left}
.text td{white-space:normal;vertical-align:top}
.text td:first-child{white-space:nowrap}td.best{font-weight:700}
.dot{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:8px}
.dot.llm{background:var(--llm)}.dot.conventional{background:var(--conventional)}.dot.online{background:var(--online)}
.dot.champion{background:var(--champion)}
svg{display:block;width:100%;min-width:640px;height:auto;margin:8px 0}svg text{font-size:13px;fill:var(--ink)}
svg text.faint,svg .faint{fill:var(--faint);font-size:12px}svg .figure{font-weight:600}
svg .llm{fill:var(--llm)}svg .conventional{fill:var(--conventional)}
svg .online{fill:var(--online)}svg .champion{fill:var(--champion)}
svg .better{fill:var(--better)}svg .worse{fill:var(--worse)}svg .undecided{fill:var(--faint)}
.grid{stroke:var(--line);fill:none}.zero{stroke:var(--ink);stroke-width:1.5;fill:none}
.whisker{stroke:var(--ink);stroke-width:1.25;fill:none}
.alarm{border-left:4px solid var(--worse);background:#fff5f5;padding:8px 14px;margin:8px 0}
.fine{border-left:4px solid var(--better);background:#f2fbf5;padding:8px 14px;margin:8px 0}
.better{color:var(--better)}.worse{color:var(--worse)}.undecided{color:var(--faint)}
details{border:1px solid var(--line);border-radius:8px;padding:10px 14px;margin:10px 0}
summary{cursor:pointer;font-weight:600}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--soft);border-radius:6px;padding:10px 12px;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:8px 0}
"""


def document(title: str, body: str) -> str:
    """Return a whole page with `body` (HTML) under STYLE; `title` is text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


GLOSSARY = """<p><small><b>Recall@k</b>: how often the item that the user engaged with next is among the first
k. <b>NDCG@k</b>: the same, counting more the higher it stands. <b>ILAD</b>: how different the ten items of a
list are from each other, 0 to 1. <b>Novelty</b>: how unusual the items are, in bits; higher means less
popular. <b>Coverage</b>: the share of the catalogue that is shown to anybody. A bold figure is the highest of
its column.</small></p>"""
