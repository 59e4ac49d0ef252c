"""HTML to text for previews, search and text-only readers.

A scanner over the source, not a tree: building one costs as much for ordinary mail and is quadratic in nesting depth for
hostile mail (20,000 open ``<div>`` took lexbor half a second). Linear in its input, which is bounded.
"""

import html as entities
import re

MAX_CHARACTERS = 1 << 20
MAX_TAGS = 100_000

_NAME = re.compile(r"/?([A-Za-z][A-Za-z0-9]{0,30})")
_SPACE = " \t\r\n\f"
_MANY_LINES = re.compile(r"\n{3,}")
_INVISIBLE = re.compile("[\u00ad\u034f\u200b\u2060\ufeff]+")  # what newsletters pad their preview line with

_PARAGRAPH = frozenset(["p", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "blockquote", "ul", "ol", "dl", "hr", "table"])
_LINE = frozenset(
    ["br", "div", "tr", "li", "dt", "dd", "section", "article", "header", "footer", "main", "nav", "aside", "form", "fieldset", "center", "address", "figure", "figcaption", "option", "caption", "thead", "tbody", "tfoot", "body", "html", "head", "title"]
)
_CELL = frozenset(("td", "th"))
_RAW = frozenset(("script", "style", "title", "template"))
_BREAKS = {
    **dict.fromkeys(_PARAGRAPH, "\n\n"),
    **dict.fromkeys(_LINE, "\n"),
    **dict.fromkeys(_CELL, " "),
}


def to_text(source: str) -> str:
    """The readable text of an HTML document or fragment: blocks on lines of their own, white space collapsed.

    Scripts, styles, titles and comments are left out. At most ``MAX_CHARACTERS`` and ``MAX_TAGS`` are read. Never raises.
    """
    pieces = source[:MAX_CHARACTERS].split("<", MAX_TAGS + 1)[: MAX_TAGS + 1]
    out: list[str] = [_collapse(pieces[0])]
    raw = ""  # the element whose content is no text
    comment = False
    pre = 0
    for piece in pieces[1:]:
        if comment:
            end = piece.find("-->")
            if end < 0:
                continue
            comment = False
            content = piece[end + 3 :]
        elif raw and piece[: len(raw) + 1].lower() != f"/{raw}":
            continue
        elif piece[:3] == "!--":
            end = piece.find("-->", 1)  # "<!-->" is a whole comment
            comment = end < 0
            if comment:
                continue
            content = piece[end + 3 :]
        elif piece[:1] in ("!", "?"):
            content = piece.partition(">")[2]
        else:
            name = _NAME.match(piece)
            if name is None:
                content = "<" + piece
            else:
                tag = name[1].lower()
                closing = piece[0] == "/"
                content = _behind(piece)
                if closing:
                    raw = ""
                elif tag in _RAW:
                    raw = tag
                    continue
                if tag == "pre":
                    pre = max(0, pre - 1) if closing else pre + 1
                elif tag == "li" and not closing:
                    out.append("\n- ")
                    tag = ""
                if tag in _BREAKS:
                    out.append(_BREAKS[tag])
        if content:
            out.append(content if pre else _collapse(content))
    joined = "".join(out)
    if "&" in joined:
        joined = entities.unescape(joined)
    joined = _INVISIBLE.sub("", joined)
    joined = "\n".join([" ".join(line.split()) for line in joined.split("\n")])
    return _MANY_LINES.sub("\n\n", joined).strip()


def _behind(piece: str) -> str:
    """What follows the tag that ``piece`` begins with; a ">" inside a quoted attribute does not end it."""
    end = piece.find(">")
    if end < 0:
        return ""
    quote = piece.find('"', 0, end)
    if quote >= 0 and piece.count('"', 0, end) & 1:
        close = piece.find('"', end)
        further = piece.find(">", close) if close >= 0 else -1
        if further >= 0:
            end = further
    return piece[end + 1 :]


def _collapse(content: str) -> str:
    if "\n" not in content and "\t" not in content and "  " not in content:
        return content
    collapsed = " ".join(content.split(None))
    if not collapsed:
        return " "
    if content[0] in _SPACE:
        collapsed = " " + collapsed
    return collapsed + " " if content[-1] in _SPACE else collapsed
