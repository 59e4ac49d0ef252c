"""HTML to text for previews, search and text-only readers.

A scanner over the source, not a tree: building one costs as much for ordinary mail and is quadratic in nesting depth
for hostile mail (20,000 open ``<div>`` took lexbor half a second). Linear in its input, which is bounded.
"""

import html as entities
import re
from itertools import repeat

MAX_CHARACTERS = 1 << 20

# A tag with its attributes: first with ">" inside quotes, as it should be read, then as if quotes were nothing special.
_TAG = re.compile(r"""<(/?[A-Za-z!?][^<>\s]*+)(?:[^<>"]*+(?:"[^"<]*+"[^<>"]*+)*+>|[^<>]*+>)""")
_HIDDEN = re.compile(r"<((?i:script|style|title|template)|!--)")
_PRE = re.compile(r"<(?i:pre)\b")
_MANY_LINES = re.compile(r"\n{3,}")
_INVISIBLE = "\u00ad\u034f\u200b\u2060\ufeff"  # what newsletters pad their preview line with

_PARAGRAPHS = "p h1 h2 h3 h4 h5 h6 pre blockquote ul ol dl hr table"
_LINES = """br div tr dt dd section article header footer main nav aside form fieldset center address figure figcaption
option caption thead tbody tfoot body html head"""
_CELLS = "td th"


def _table() -> dict[str, str]:
    """What stands in the text for a tag: its name as sources write it, in lower case -> white space."""
    table: dict[str, str] = {}
    for names, gap in ((_PARAGRAPHS, "\n\n"), (_LINES, "\n"), (_CELLS, " ")):
        for name in names.split():
            table |= dict.fromkeys((name, f"/{name}", f"{name}/"), gap)
    return table | {"li": "\n- "}


_BREAKS = _table()


def to_text(source: str) -> str:
    """The readable text of an HTML document or fragment: blocks on lines of their own, white space collapsed.

    Scripts, styles, titles and comments are left out. At most ``MAX_CHARACTERS`` are read.
    """
    source = _visible(source[:MAX_CHARACTERS])
    if _PRE.search(source):
        source = _keep_lines(source)
    pieces = _TAG.split(source.replace("\n", " "))  # text, name, text, name, ... text
    pieces[1::2] = map(_BREAKS.get, map(str.lower, pieces[1::2]), repeat(""))
    joined = "".join(pieces)
    if "&" in joined:
        joined = entities.unescape(joined)
    if not joined.isascii():
        for one in _INVISIBLE:
            joined = joined.replace(one, "")
    joined = "\n".join([" ".join(line.split()) for line in joined.split("\n")])
    return _MANY_LINES.sub("\n\n", joined).strip()


def _visible(source: str) -> str:
    """``source`` without comments and without elements whose content is no text.

    One that never ends goes to the end, as in browsers.
    """
    found = _HIDDEN.search(source)
    if found is None:
        return source
    lowered = source.lower()
    if len(lowered) != len(source):  # a few letters change their length; offsets must not
        lowered = source
    out: list[str] = []
    at = 0
    while found is not None:
        out.append(source[at : found.start()])
        name = found[1].lower()
        if name == "!--":
            end = source.find("-->", found.start() + 2)  # "<!-->" is a whole comment
            at = end + 3 if end >= 0 else len(source)
        else:
            end = lowered.find(f"</{name}", found.end())
            close = source.find(">", end) if end >= 0 else -1
            at = close + 1 if close >= 0 else len(source)
        found = _HIDDEN.search(source, at)
    out.append(source[at:])
    return " ".join(out)


def _keep_lines(source: str) -> str:
    """``source`` with the line ends of preformatted text as <br>."""
    out: list[str] = []
    at = 0
    lowered = source.lower()
    if len(lowered) != len(source):
        lowered = source
    found = _PRE.search(source)
    while found is not None:
        end = lowered.find("</pre", found.end())
        end = len(source) if end < 0 else end
        out += (source[at : found.start()], source[found.start() : end].replace("\n", "<br>"))
        at = end
        found = _PRE.search(source, at)
    out.append(source[at:])
    return "".join(out)
