"""The vault: sealed values open with their key and purpose only; the key file is made once, whole and private."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import Conflict, Invalid, Unavailable
from restante.vault import FILE, Vault

VAULT = Vault([b"k" * 32])


@given(st.binary(max_size=300), st.text(max_size=40))
def test_round_trip(value: bytes, purpose: str) -> None:
    purpose = purpose.encode("utf-8", "replace").decode()
    sealed = VAULT.seal(value, purpose)
    assert VAULT.open(sealed, purpose) == value
    assert sealed.isascii()
    assert VAULT.seal(value, purpose) != sealed


def test_text() -> None:
    assert VAULT.open_text(VAULT.seal("grün", "p"), "p") == "grün"


def test_another_purpose_does_not_open() -> None:
    with pytest.raises(Invalid) as caught:
        VAULT.open(VAULT.seal("x", "dkim:a.example:mail1"), "dkim:b.example:mail1")
    assert caught.value.code == "sealed_value_broken"


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_changed_value_does_not_open(place: int, letter: str) -> None:
    sealed = VAULT.seal("a secret", "p")
    place %= len(sealed)
    changed = sealed[:place] + letter + sealed[place + 1 :]
    try:
        opened = VAULT.open(changed, "p")
    except (Invalid, Unavailable):
        return
    assert opened == b"a secret"  # the same letter, or base64's unused bits


@given(st.text(max_size=100))
def test_nonsense_does_not_open(sealed: str) -> None:
    with pytest.raises((Invalid, Unavailable)):
        VAULT.open(sealed, "p")


def test_missing_key_is_named() -> None:
    sealed = VAULT.seal("x", "p")
    with pytest.raises(Unavailable) as caught:
        Vault([b"o" * 32]).open(sealed, "p")
    assert caught.value.code == "secret_key_missing"
    assert VAULT.key_id in caught.value.message


def test_first_run_makes_a_private_file(tmp_path: Path) -> None:
    vault = Vault.load(tmp_path)
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert Vault.load(tmp_path).open(vault.seal("x", "p"), "p") == b"x"


def test_two_first_runs_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        vaults = list(pool.map(Vault.load, [tmp_path] * 16))
    assert len({vault.key_id for vault in vaults}) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_environment_wins_and_makes_no_file(tmp_path: Path) -> None:
    key = "A" * 43
    vault = Vault.load(tmp_path, key)
    assert vault.key_id == Vault([bytes(32)]).key_id == Vault.load(tmp_path, key + "=").key_id
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Conflict) as caught:
        vault.rotate()
    assert caught.value.code == "secret_key_external"


@pytest.mark.parametrize("text", ["short", "A" * 42, "A" * 44, "pass phrase", "A" * 43 + ",nonsense", "é" * 43])
def test_wrong_secret_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    for given_key in (text, ""):
        with pytest.raises(Invalid) as caught:
            Vault.load(tmp_path, given_key)
        assert caught.value.code == "secret_key_invalid"
        assert text not in caught.value.message


def test_empty_and_enormous_files_are_refused(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "x" * 100_000):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(Invalid):
            Vault.load(tmp_path)


def test_rotation(tmp_path: Path) -> None:
    vault = Vault.load(tmp_path)
    first = vault.key_id
    old = vault.seal("x", "p")
    second = vault.rotate()
    assert vault.key_ids == (second, first)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    again = Vault.load(tmp_path)
    assert again.key_ids == (second, first)
    assert again.open(old, "p") == b"x"
    assert again.needs_reseal(old)
    new = again.reseal(old, "p")
    assert not again.needs_reseal(new)
    assert again.reseal(new, "p") == new
    again.forget_older()
    last = Vault.load(tmp_path)
    assert last.key_ids == (second,)
    assert last.open(new, "p") == b"x"
    with pytest.raises(Unavailable):
        last.open(old, "p")


def test_a_key_that_another_process_made_is_found(tmp_path: Path) -> None:
    ours, theirs = Vault.load(tmp_path), Vault.load(tmp_path)
    sealed = ours.seal("old", "p")
    theirs.rotate()
    assert ours.open_text(theirs.seal("new", "p"), "p") == "new"
    assert ours.open_text(sealed, "p") == "old"
    theirs.forget_older()
    assert not theirs.needs_reseal(ours.seal("newer", "p"))


def test_hmac_depends_on_key_purpose_and_data() -> None:
    found = {
        VAULT.hmac("a", b"x"),
        VAULT.hmac("b", b"x"),
        VAULT.hmac("a", b"y"),
        Vault([b"o" * 32]).hmac("a", b"x"),
    }
    assert len(found) == 4
    assert VAULT.hmac("a", b"x") in found
