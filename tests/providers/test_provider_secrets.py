"""Keys: where they are found, what can't be one, and that they show themselves nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.providers.secrets import Secret, SecretMissing, is_present, resolve
from pipeline.settings import Settings

REFERENCE = "{{secrets/my-scope/api.key}}"
VARIABLE = "SLUICE_SECRET_MY_SCOPE_API_KEY"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my-scope").mkdir()
    return tmp_path


def test_the_environment_comes_before_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my-scope" / "api.key").write_text("from-the-folder\n")
    settings = Settings(secrets=folder)
    assert resolve(REFERENCE, settings).reveal() == "from-the-folder"
    monkeypatch.setenv(VARIABLE, "from-the-environment")
    assert resolve(REFERENCE, settings).reveal() == "from-the-environment"


def test_a_changed_file_counts_at_the_next_call(folder: Path) -> None:
    settings = Settings(secrets=folder)
    for value in ("first", "second"):
        (folder / "my-scope" / "api.key").write_text(value)
        assert resolve(REFERENCE, settings).reveal() == value


def test_a_missing_key_is_told_with_both_places(folder: Path) -> None:
    with pytest.raises(SecretMissing) as raised:
        resolve(REFERENCE, Settings(secrets=folder))
    for words in (REFERENCE, VARIABLE, f"{folder}/my-scope/api.key"):
        assert words in raised.value.message
    assert not is_present(REFERENCE, Settings(secrets=folder))


@pytest.mark.parametrize("value", ["", "\n", "two\nlines", "with space", "umlaut-ü", "nul\x00", "tab\t", "two-ends\n\n"])
def test_a_value_that_no_header_can_carry_counts_as_missing_and_is_not_repeated(folder: Path, value: str) -> None:
    (folder / "my-scope" / "api.key").write_text(value)
    with pytest.raises(SecretMissing) as raised:
        resolve(REFERENCE, Settings(secrets=folder))
    assert not value.strip() or value not in raised.value.message


def test_bytes_that_are_no_text_count_as_missing(folder: Path) -> None:
    (folder / "my-scope" / "api.key").write_bytes(b"\xff\xfe")
    assert not is_present(REFERENCE, Settings(secrets=folder))


@pytest.mark.parametrize(
    "reference", ["{{secrets/../passwd}}", "{{secrets/./key}}", "{{secrets/a/..}}", "{{secrets/a/b/c}}", "{{secrets/a}}", "sk-plain", ""]
)
def test_no_reference_leads_out_of_the_folder(folder: Path, reference: str) -> None:
    (folder / "passwd").write_text("outside")
    with pytest.raises(SecretMissing) as raised:
        resolve(reference, Settings(secrets=folder / "my-scope"))
    assert "sk-plain" not in raised.value.message


def test_a_secret_shows_stars_wherever_it_is_printed() -> None:
    secret = Secret("sk-hidden")
    shown = f"{secret} {secret!r} {[secret]} { ({'key': secret}) }"
    assert "sk-hidden" not in shown
    assert "***" in shown
