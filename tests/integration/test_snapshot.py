"""The snapshot of the schema, which reviewers read."""

import pytest

from mainstay.storage.postgres import snapshot


@pytest.mark.thorough
def test_an_outdated_snapshot_is_shown_and_written_anew(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(snapshot, "_FOLDER", tmp_path)

    assert snapshot.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert "+CREATE TABLE mainstay.migration (\n" in said
    assert "+column\tmainstay.migration\thash\talter table mainstay.migration add column hash text not null\n" in said
    assert said.count("out of date: run `make schema`") == 2

    assert snapshot.main([]) == 0
    assert snapshot.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_other_arguments_are_refused(capsys) -> None:
    with pytest.raises(SystemExit) as raised:
        snapshot.main(["nonsense"])

    assert raised.value.code == 2
    assert "nonsense" in capsys.readouterr().err
