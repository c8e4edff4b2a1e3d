"""Undo and redo as events, author by author, against a stack per author written plainly."""

from hypothesis import given
from hypothesis import strategies as st

from rehearsal.history import Deed, History


def deed(number: int, author: str, undoes: str | None = None) -> Deed:
    if undoes is not None:
        return Deed(f"d{number}", author, number, "undo", {"undoes": undoes})
    return Deed(f"d{number}", author, number, "place_screw", {"number": number})


def test_a_redo_is_an_undo_of_an_undo() -> None:
    history = History((deed(0, "a"), deed(1, "a")))
    history = history.plus(deed(2, "a", "d1"))
    assert [d.id for d in history.edits()] == ["d0"]
    target = history.redo_target("a")
    assert target is not None
    assert target.id == "d2"
    history = history.plus(deed(3, "a", "d2"))
    assert [d.id for d in history.edits()] == ["d0", "d1"]
    assert history.redo_target("a") is None


def test_nobody_takes_back_what_another_did() -> None:
    history = History((deed(0, "a"), deed(1, "b")))
    target = history.undo_target("a")
    assert target is not None
    assert target.id == "d0"
    assert history.undo_target("c") is None


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["edit", "undo", "redo"])), max_size=40))
def test_the_fold_is_what_plain_stacks_say(words: list[tuple[str, str]]) -> None:
    history = History()
    done: dict[str, list[str]] = {"a": [], "b": []}
    undone: dict[str, list[str]] = {"a": [], "b": []}
    order: list[str] = []
    for number, (author, word) in enumerate(words):
        if word == "edit":
            history = history.plus(deed(number, author))
            done[author].append(f"d{number}")
            undone[author].clear()
            order.append(f"d{number}")
            continue
        target = history.undo_target(author) if word == "undo" else history.redo_target(author)
        source, goal = (done, undone) if word == "undo" else (undone, done)
        assert (target is None) == (not source[author])
        if target is not None:
            history = history.plus(deed(number, author, target.id))
            goal[author].append(source[author].pop())
    standing = {*done["a"], *done["b"]}
    assert [d.id for d in history.edits()] == [name for name in order if name in standing]
