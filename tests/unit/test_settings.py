"""Settings from the environment."""

from typing import Any

import pytest

from mainstay.errors import ConfigurationError
from mainstay.retry import RetryPolicy
from mainstay.settings import Config

URL = "postgresql://user@localhost/app"


def test_only_the_database_must_be_named() -> None:
    config = Config.from_env({"DATABASE_URL": URL})

    assert config == Config(database_url=URL)
    assert (config.max_retries, config.vt_seconds) == (3, 30)


def test_every_setting_can_come_from_the_environment() -> None:
    config = Config.from_env(
        {
            "DATABASE_URL": URL,
            "MAX_RETRIES": "7",
            "VT_SECONDS": "45",
            "BACKOFF_BASE": "1.5",
            "BACKOFF_MULTIPLIER": "3",
            "MAX_BACKOFF": "60",
            "UNRELATED": "x",
        }
    )

    assert config == Config(URL, 7, 45, 1.5, 3.0, 60.0)
    assert config.retry_policy() == RetryPolicy.exponential(max_attempts=7, base=1.5, multiplier=3, maximum=60)


def test_the_process_environment_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("MAX_RETRIES", "9")

    assert Config.from_env().max_retries == 9


def test_an_empty_number_means_the_default() -> None:
    assert Config.from_env({"DATABASE_URL": URL, "MAX_RETRIES": ""}).max_retries == 3


@pytest.mark.parametrize("environ", [{}, {"DATABASE_URL": ""}])
def test_a_missing_database_is_said_by_name(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not set"):
        Config.from_env(environ)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("MAX_RETRIES", "many", "MAX_RETRIES must be a whole number, not 'many'"),
        ("MAX_RETRIES", "1.5", "MAX_RETRIES must be a whole number"),
        ("VT_SECONDS", "30s", "VT_SECONDS must be a whole number"),
        ("BACKOFF_BASE", "ten", "BACKOFF_BASE must be a number"),
        ("MAX_RETRIES", "0", "max_retries must be >= 1, not 0"),
        ("VT_SECONDS", "4", "vt_seconds must be >= 5, not 4"),
        ("BACKOFF_MULTIPLIER", "0.5", "multiplier must be at least 1"),
        ("BACKOFF_BASE", "-1", "finite and not negative"),
        ("MAX_BACKOFF", "nan", "finite and not negative"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(name: str, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Config.from_env({"DATABASE_URL": URL, name: text})


def test_a_config_cannot_be_empty_or_changed() -> None:
    config: Any = Config(URL)

    with pytest.raises(ConfigurationError, match="database_url"):
        Config("")
    with pytest.raises(AttributeError):
        config.max_retries = 1
