"""Settings: precedence, one clear line for whatever is wrong, and a generated file that changes nothing."""

import re
import tomllib
from pathlib import Path

import pytest

from restante import config
from restante.config import Config, ConfigError, ListenAddress, load, parse_listen, parse_size


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults(tmp_path: Path) -> None:
    found = load({}, {})
    assert found.data_dir == tmp_path / "restante-data"
    assert (found.http.listen, found.smtp.listen, found.submission.listen) == (
        "127.0.0.1:8025",
        "127.0.0.1:2525",
        "127.0.0.1:2587",
    )
    assert found.smtp.limits.max_message_bytes == 50 * 1024 * 1024
    assert (found.limits.mail_api.requests_per_minute, found.limits.mail_api.requests_per_hour) == (100, 1000)
    assert found.hostname


def test_a_flag_beats_a_variable_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mail.toml"
    file.write_text('hostname = "file.example"\n[http]\nlisten = ":1"\n[smtp]\nlisten = ":1"\n')
    variables = {"RESTANTE_HTTP_LISTEN": ":2", "RESTANTE_SMTP_LISTEN": ":2"}
    found = load({"smtp.listen": ":3", "http.listen": None}, variables, file)
    assert (found.hostname, found.http.listen, found.smtp.listen) == ("file.example", ":2", ":3")


def test_the_file_is_found_by_variable_or_in_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "restante.toml").write_text('hostname = "here.example"\n')
    (tmp_path / "other.toml").write_text('hostname = "other.example"\n')
    assert load({}, {}).hostname == "here.example"
    assert load({}, {"RESTANTE_CONFIG": str(tmp_path / "other.toml")}).hostname == "other.example"


def test_the_generated_file_is_all_comments_and_names_every_setting(tmp_path: Path) -> None:
    text = config.render()
    assert not _leaves(tomllib.loads(text))
    active = re.sub(r"(?m)^#(?=\w+ = )", "", text)
    file = tmp_path / "all.toml"
    file.write_text(active)
    assert load({}, {}, file) == load({}, {})
    written = {key for key, _ in config._flatten(tomllib.loads(active), (), {})}
    assert written == {setting.key for setting in config.settings() if setting.in_file}


def _leaves(tree: dict[str, object]) -> list[object]:
    found: list[object] = []
    for value in tree.values():
        found += _leaves(value) if isinstance(value, dict) else [value]
    return found


def test_variables_are_unique() -> None:
    names = [setting.variable for setting in config.settings()]
    assert len(set(names)) == len(names)
    assert "RESTANTE_LIMITS_MAIL_API_REQUESTS_PER_MINUTE" in names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "there is no setting colour"),
        ("[http]\nlisten = 8025", "http.listen: '8025' is not a text"),
        ('[http]\nlisten = "nowhere"', "http.listen: 'nowhere' is not an address such as 127.0.0.1:8025"),
        ('[http]\nlistn = ":1"', "did you mean http.listen?"),
        ('[log]\nlevel = "loud"', "log.level: 'loud' is not one of debug, info, warning, error"),
        ("[smtp.limits]\nmax_recipients = 5", "'5' is not a whole number, at least 100"),
        ("[smtp.limits]\nmax_recipients = true", "'True' is not a whole number, at least 100"),
        ('[smtp.limits]\nmax_message_bytes = "many"', "'many' is not a number of bytes such as"),
        ('[metrics]\nenabled = "maybe"', "'maybe' is not true or false"),
        ("http = 1", "there is no setting http"),
        ('[http]\npublic_url = "mail.example"', "is not an address such as https://"),
        ('[http]\ntrusted_proxies = ["ten"]', "is not IP addresses or networks"),
        ('hostname = "no host"', "'no host' is not a host name"),
        ('secret_key = "x"', "there is no setting secret_key"),
        ("not toml", "not a TOML file"),
        ('[tls]\ncert = "a.pem"', "tls.cert and tls.key go together"),
    ],
)
def test_one_line_for_what_is_wrong_in_the_file(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as wrong:
        load({}, {}, file)
    assert said in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RESTANTE_HTTP_LISTN", ":1", "did you mean RESTANTE_HTTP_LISTEN?"),
        ("RESTANTE_SMTP_LIMITS_MAX_HOPS", "9", "RESTANTE_SMTP_LIMITS_MAX_HOPS: '9' is not a whole number, at least 10"),
        ("RESTANTE_METRICS_TOKEN", "a\x1bb", "the value is not a text"),
    ],
)
def test_one_line_for_what_is_wrong_in_a_variable(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        load({}, {name: value})
    assert said in str(wrong.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read: No such file"):
        load({}, {}, tmp_path / "nowhere.toml")


def test_variables_are_read_as_their_type() -> None:
    found = load(
        {},
        {
            "RESTANTE_SMTP_LIMITS_MAX_MESSAGE_BYTES": "3 MiB",
            "RESTANTE_MAIL_API_SIGNUP_ENABLED": "no",
            "RESTANTE_HTTP_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "RESTANTE_SECRET_KEY": "k",
            "RESTANTE_LIMITS_MAIL_API_REQUESTS_PER_HOUR": "7",
        },
    )
    assert found.smtp.limits.max_message_bytes == 3 * 1024 * 1024
    assert found.mail_api.signup_enabled is False
    assert found.http.trusted_proxies == ("10.0.0.0/8", "::1")
    assert found.limits.mail_api.requests_per_hour == 7
    assert found.secret_key == "k"
    assert "secret_key" not in repr(found)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:25", [("127.0.0.1", 25)]),
        ("[::1]:25", [("::1", 25)]),
        (":25", [("0.0.0.0", 25)]),
        ("*:25", [("0.0.0.0", 25)]),
        ("2525", [("127.0.0.1", 2525)]),
        ("a.example:1,[::]:2", [("a.example", 1), ("::", 2)]),
        ("off", []),
        ("", []),
    ],
)
def test_listen(text: str, addresses: list[tuple[str, int]]) -> None:
    assert parse_listen(text) == tuple(ListenAddress(*one) for one in addresses)


@pytest.mark.parametrize("text", ["x", "1.2.3.4:", "1.2.3.4:65536", "[1.2.3]:1", "::1:25", "a b:1", ":1,", "[::1]:²"])
def test_listen_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="an "):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1024", 1024), ("1k", 1024), ("1 KiB", 1024), ("2MB", 2 << 20), ("3G", 3 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5M", "1 XB", "1e9"])
def test_sizes_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="a number of bytes"):
        parse_size(text)


def test_config_holds_the_defaults() -> None:
    assert Config().limits.login.failures_per_peer_per_minute == 20


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"storage.blobs": "s3"}, "storage.s3.bucket is needed when storage.blobs is s3"),
        ({"storage.blobs": "tape"}, "one of files, s3"),
        ({"storage.s3.bucket": "a/b"}, "a bucket's name"),
        ({"storage.s3.bucket": "x"}, "a bucket's name"),
        ({"storage.s3.prefix": "/mail"}, "a prefix"),
        ({"storage.s3.prefix": "mail/../other"}, "a prefix"),
        ({"storage.s3.endpoint": "s3.example.com"}, "an address such as https://s3.example.com"),
        ({"storage.s3.endpoint": "https://s3.example.com/bucket"}, "(no path)"),
        ({"storage.s3.access_key": "AK"}, "go together"),
        ({"storage.s3.secret_key": "hush-hush"}, "go together"),
        ({"storage.s3.server_side_encryption": "rot13"}, "one of none, AES256, aws:kms"),
    ],
)
def test_what_is_wrong_with_s3_is_said_in_one_line(given: dict[str, str], said: str) -> None:
    with pytest.raises(config.ConfigError) as error:
        config.load(given, {})
    assert said in str(error.value)
    assert "hush" not in str(error.value)


def test_s3_settings() -> None:
    environ = {
        "RESTANTE_STORAGE_BLOBS": "s3",
        "RESTANTE_STORAGE_S3_BUCKET": "mail",
        "RESTANTE_STORAGE_S3_PREFIX": "a/b",
    }
    keys = {"RESTANTE_STORAGE_S3_ACCESS_KEY": "AK", "RESTANTE_STORAGE_S3_SECRET_KEY": "hush-hush"}
    found = config.load({}, environ | keys)
    assert (found.storage.blobs, found.storage.s3.prefix, found.storage.s3.path_style) == ("s3", "a/b", True)
    assert "hush" not in repr(found)
