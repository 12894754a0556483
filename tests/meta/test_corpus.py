"""What was written stays readable, so what was written stays as it was."""

from __future__ import annotations

from pathlib import Path

from support import corpus


def test_corpus_is_frozen() -> None:
    assert corpus.problems() == []


def test_corpus_check_tells_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "DIGESTS").touch()
    assert corpus.problems(str(tmp_path)) == []
    for name in ("changed", "kept", "removed"):
        (tmp_path / name).write_text(name)
    assert corpus.add(str(tmp_path)) == ["changed", "kept", "removed"]
    assert corpus.problems(str(tmp_path)) == []
    (tmp_path / "changed").write_text("other")
    (tmp_path / "removed").unlink()
    (tmp_path / "new").touch()
    assert corpus.problems(str(tmp_path)) == ["new is not in DIGESTS", "removed was removed", "changed was changed"]
    assert corpus.add(str(tmp_path)) == ["new"]
    assert corpus.problems(str(tmp_path)) == ["removed was removed", "changed was changed"]
