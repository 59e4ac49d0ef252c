"""Bytes to text by the charset label of a mail, the way web browsers do it (WHATWG Encoding Standard §4.2).

Labels in mail lie: ``gb2312`` carries GB 18030 characters, ``iso-8859-1`` and ``us-ascii`` carry Windows-1252 or UTF-8.
Nothing here raises, and no result holds a lone surrogate: every text can be written as UTF-8.
"""

import codecs
import re
from functools import lru_cache

# Python codec -> the labels that mean it. The table is closed: codecs.lookup on a sender's label would also find
# "zip", "punycode" (quadratic) or "unicode_escape".
_CODECS: dict[str, str] = {
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8 unicode11utf8 unicode20utf8 x-unicode20utf8 utf-8-sig cp65001",
    "utf-7": "utf-7 utf7 unicode-1-1-utf-7 x-unicode-1-1-utf-7 csunicode11utf7",
    "utf-16": "utf-16 utf16 unicode csunicode iso-10646-ucs-2 ucs-2 unicodefeff",
    "utf-16-le": "utf-16le utf-16-le",
    "utf-16-be": "utf-16be utf-16-be unicodefffe",
    "utf-32": "utf-32 utf32 ucs-4",
    "utf-32-le": "utf-32le",
    "utf-32-be": "utf-32be",
    "cp1252": "windows-1252 cp1252 x-cp1252 iso-8859-1 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 "
    "latin1 latin-1 l1 ibm819 cp819 csisolatin1 iso-ir-100 ansi",
    "cp1250": "windows-1250 cp1250 x-cp1250",
    "cp1251": "windows-1251 cp1251 x-cp1251",
    "cp1253": "windows-1253 cp1253 x-cp1253",
    "cp1254": "windows-1254 cp1254 x-cp1254 iso-8859-9 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 latin5 l5 "
    "csisolatin5 iso-ir-148",
    "cp1255": "windows-1255 cp1255 x-cp1255",
    "cp1256": "windows-1256 cp1256 x-cp1256",
    "cp1257": "windows-1257 cp1257 x-cp1257",
    "cp1258": "windows-1258 cp1258 x-cp1258",
    "iso8859-2": "iso-8859-2 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 latin2 l2 csisolatin2 iso-ir-101",
    "iso8859-3": "iso-8859-3 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 latin3 l3 csisolatin3 iso-ir-109",
    "iso8859-4": "iso-8859-4 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 latin4 l4 csisolatin4 iso-ir-110",
    "iso8859-5": "iso-8859-5 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988 cyrillic csisolatincyrillic iso-ir-144",
    "iso8859-6": "iso-8859-6 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987 iso-8859-6-e iso-8859-6-i csiso88596e "
    "csiso88596i arabic asmo-708 ecma-114 csisolatinarabic iso-ir-127",
    "iso8859-7": "iso-8859-7 iso8859-7 iso88597 iso_8859-7 iso_8859-7:1987 greek greek8 sun_eu_greek ecma-118 elot_928 "
    "csisolatingreek iso-ir-126",
    "iso8859-8": "iso-8859-8 iso8859-8 iso88598 iso_8859-8 iso_8859-8:1988 iso-8859-8-e iso-8859-8-i csiso88598e "
    "csiso88598i logical visual hebrew csisolatinhebrew iso-ir-138",
    "iso8859-10": "iso-8859-10 iso8859-10 iso885910 latin6 l6 csisolatin6 iso-ir-157",
    "cp874": "windows-874 cp874 dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 tis620",
    "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859-15": "iso-8859-15 iso8859-15 iso885915 iso_8859-15 latin9 l9 latin-9 csisolatin9",
    "iso8859-16": "iso-8859-16 iso8859-16",
    "koi8-r": "koi8-r koi8 koi koi8_r koi8r cskoi8r",
    "koi8-u": "koi8-u koi8-ru koi8u",
    "cp866": "ibm866 866 cp866 csibm866",
    "cp437": "ibm437 cp437 437 cspc8codepage437",
    "cp850": "ibm850 cp850 850 cspc850multilingual",
    "cp852": "ibm852 cp852 852 cspcp852",
    "cp855": "ibm855 cp855",
    "cp857": "ibm857 cp857",
    "cp858": "ibm00858 cp858 cp00858",
    "cp860": "ibm860 cp860",
    "cp861": "ibm861 cp861",
    "cp862": "ibm862 cp862 dos-862",
    "cp863": "ibm863 cp863",
    "cp864": "ibm864 cp864",
    "cp865": "ibm865 cp865",
    "cp869": "ibm869 cp869",
    "cp775": "ibm775 cp775",
    "cp720": "cp720 dos-720",
    "cp737": "cp737 ibm737",
    "mac-roman": "macintosh mac x-mac-roman csmacintosh macroman mac-roman",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian mac-cyrillic",
    "mac-greek": "x-mac-greek mac-greek",
    "mac-turkish": "x-mac-turkish mac-turkish",
    "mac-latin2": "x-mac-ce mac-centraleurope mac-latin2",
    "gb18030": "gb18030 gbk x-gbk cp936 ms936 windows-936 gb2312 gb_2312 gb_2312-80 gb2312-80 chinese csgb2312 "
    "csiso58gb231280 iso-ir-58 euc-cn x-euc-cn",
    "hz": "hz-gb-2312 hz",
    "big5hkscs": "big5 big5-hkscs big5hkscs cn-big5 csbig5 x-x-big5 x-big5",
    "cp950": "cp950 ms950 windows-950",
    "cp949": "cp949 ms949 windows-949 euc-kr ks_c_5601 ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 korean cseuckr "
    "csksc56011987 iso-ir-149 x-windows-949 uhc",
    "iso2022_kr": "iso-2022-kr csiso2022kr",
    "johab": "johab cp1361 ms1361",
    "cp932": "shift_jis shift-jis sjis x-sjis ms_kanji ms932 windows-31j csshiftjis cp932 windows-932 ms-kanji",
    "euc_jp": "euc-jp x-euc-jp eucjp cseucpkdfmtjapanese",
    "iso2022_jp_2": "iso-2022-jp csiso2022jp iso-2022-jp-2 iso-2022-jp-1 jis",
    "iso2022_jp_3": "iso-2022-jp-3",
    "iso2022_jp_2004": "iso-2022-jp-2004",
    "iso2022_jp_ext": "iso-2022-jp-ext cp50220 cp50221 cp50222 iso-2022-jp-ms",
    "kz1048": "kz-1048 strk1048-2002 rk1048 kz1048",
    "ptcp154": "ptcp154 csptcp154 pt154 cp154 cyrillic-asian",
    "hp-roman8": "hp-roman8 roman8 r8",
    "cp037": "ibm037 cp037 ebcdic-cp-us",
    "cp500": "ibm500 cp500",
    "cp1140": "ibm01140 cp1140",
}
# Labels that say nothing about bytes above 127: those are UTF-8 if they can be, else Windows-1252.
_GUESS = frozenset(
    [
        "us-ascii",
        "ascii",
        "ansi_x3.4-1968",
        "ansi_x3.4-1986",
        "iso-ir-6",
        "iso646-us",
        "iso_646.irv:1991",
        "us",
        "csascii",
        "646",
        "cp367",
        "ibm367",
        "unknown",
        "unknown-8bit",
        "x-unknown",
        "8bit",
        "7bit",
        "binary",
        "default",
        "utf",
        "none",
    ]
)

_LABELS: dict[str, str] = {label: codec for codec, labels in _CODECS.items() for label in labels.split()}
_SURROGATE = re.compile("[\ud800-\udfff]")


_WIDE = re.compile(r"utf-|gb18030|hz|big5|cp9|euc_|iso2022|johab")  # codecs of more than one byte a character
MAX_RARE_BYTES = 2 << 20  # of UTF-7, 16 and 32, whose decoders spend 0.2 us on each error


@lru_cache(maxsize=128)
def _table(codec: str) -> str:
    """The characters of the 256 bytes of a one-byte codec: with it no byte is an error, which takes a codec 0.2 us."""
    characters = bytes(range(256)).decode(codec, "replace")
    if codec == "cp1252":  # the five bytes it leaves open are C1 controls (WHATWG index windows-1252)
        characters = "".join([chr(at) if one == "\ufffd" else one for at, one in enumerate(characters)])
    return characters


_WINDOWS_1252 = _table("cp1252")


@lru_cache(maxsize=1024)
def codec_name(label: str) -> str | None:
    """The Python codec of a charset label, None when it is unknown or says nothing (``us-ascii``, ``unknown-8bit``)."""
    label = label[:64].strip().strip("\"'").lower()
    if label in _GUESS:
        return None
    found = _LABELS.get(label)
    if found is None:
        # "windows1252", "iso 8859 15", "utf_8", "cp-1251": the same letters and digits, other separators
        found = _SQUEEZED.get(_squeeze(label))
    return found


def _squeeze(label: str) -> str:
    return re.sub(r"[^a-z0-9]", "", label)


_SQUEEZED = {_squeeze(label): codec for label, codec in _LABELS.items()}


def decode(data: bytes, label: str | None = None) -> str:
    """Text of ``data`` by its charset label; undecodable bytes become U+FFFD. Never raises.

    Without a usable label: UTF-8 when it is valid, else Windows-1252.
    """
    codec = codec_name(label) if label else None
    if codec is None:
        return guess(data)
    if codec != "utf-8" and not _WIDE.match(codec):
        return codecs.charmap_decode(data, "strict", _table(codec))[0]
    if codec[:4] == "utf-" and codec != "utf-8":
        data = data[:MAX_RARE_BYTES]
    try:
        text = data.decode(codec, "replace")
    except (UnicodeError, LookupError, ValueError, OverflowError):
        return guess(data)
    if codec[:4] == "utf-":
        if text[:1] == "\ufeff":
            text = text[1:]
        if codec == "utf-7":  # the only one of these that lets half a pair through
            text = _SURROGATE.sub("\ufffd", text)
    return text


def guess(data: bytes) -> str:
    """Text of bytes without a label: UTF-8 when it is valid, else Windows-1252. Never raises."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return codecs.charmap_decode(data, "strict", _WINDOWS_1252)[0]
