"""HTML to text."""

import pytest

from restante.mail import html


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>One</p><p>Two</p>", "One\n\nTwo"),
        ("a<br>b<BR/>c<br />d", "a\nb\nc\nd"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\n\nc"),
        ("a <b>bold</b>\n and <i>it</i>", "a bold and it"),
        ("<style>p { x: 'y' }</style><script>if (a<b) {}</script><title>t</title>x", "x"),
        ("a<!-- <p>no</p> -->b<!-->c", "a b c"),
        ("a<!-- never closed", "a"),
        ("<script>never closed", ""),
        ("&lt;b&gt; &amp;nbsp; a&nbsp;b &eacute; &#x2713; &bogus;", "<b> &nbsp; a b é ✓ &bogus;"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ('<img alt="a > b">text', "text"),
        ('<a title="a > b" href="c">text</a> "quoted"', 'text "quoted"'),
        ('<a title="never closed>text</a> is "kept"<Br>x', 'text is "kept"\nx'),
        ("<Div>a</dIV>b\u00a0\u2003c", "a\nb c"),
        ("<pre>line 1\nline 2</pre>", "line 1\nline 2"),
        ("<!DOCTYPE html><?xml x?><html><body>x</body></html>", "x"),
        ("ne\u00adws\u200b\ufeff", "news"),
        ("<p>unclosed <b>tags <i>everywhere", "unclosed tags everywhere"),
        ("", ""),
        ("plain", "plain"),
        ("<", "<"),
        ("İ<script>x</script>y", "İ y"),
    ],
)
def test_to_text(source: str, text: str) -> None:
    result = html.to_text(source)
    assert [line for line in result.split("\n") if line] == [line for line in text.split("\n") if line]
    assert "\n\n\n" not in result
