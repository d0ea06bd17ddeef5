"""Files of rows that are no task: `--data FILE`."""

from collections.abc import Sequence

from case import Case

BODY = [f"the cat number {n} sees old dogs" for n in range(8)]


def table(*columns: tuple[str, Sequence[str]]) -> str:
    rows = zip(*(values for _, values in columns), strict=True)
    return "\n".join([",".join(name for name, _ in columns), *map(",".join, rows)]) + "\n"


RUN = ("run", "vanilla", "--data", "rows.csv", "--test", "rows.csv", "--model", "{models}/llama")


def file(name: str, content: str, *says: str, flags: Sequence[str] = ()) -> Case:
    """A run on such a file."""
    return Case(f"file: {name}", says, files={"rows.csv": content}, words=(*RUN, *flags))


def command(name: str, said: str, *words: str, **files: str) -> Case:
    """A whole command."""
    return Case(f"file: {name}", (said,), files=files, words=words)


TWO = table(("body", BODY), ("stars", ["1", "2"] * 4), ("shop", ["a", "b"] * 4))
CASES = [
    file("unknown text column", TWO, "no column 'bdy' (flag --text)", "body, stars, shop", flags=["--text", "bdy"]),
    file("unknown label column", TWO, "no column 'star' (flag --label)", "'stars'?", flags=["--label", "star"]),
    file("one column for both", TWO, "one column cannot be both", flags=["--text", "body", "--label", "body"]),
    file(
        "labels in two columns",
        table(("body", BODY), ("mood", ["x", "y"] * 4), ("shop", ["a", "b"] * 4)),
        "which column has the labels? Its columns are body, mood, shop; 'mood' and 'shop' could all be the label",
        "--label",
    ),
    file("no text", table(("a", ["1", "2"] * 4), ("label", ["x", "y"] * 4)), "which column has the texts?", "--text"),
    file("one class", table(("text", BODY), ("label", ["x"] * 8)), "one label only ('x')", "second one"),
    file("a class of one row", table(("text", BODY), ("label", [*"xyyyyyyy"])), "label 'x' has one row", "add rows"),
    file("texts all empty", table(("text", [""] * 8), ("label", ["x", "y"] * 4)), "'text' is empty in every row"),
    file("labels all empty", table(("text", BODY), ("label", [""] * 8)), "'label' is empty in every row", "--label"),
    file(
        "10,001 labels",
        table(("text", ["old cat"] * 10_001), ("label", [str(n) for n in range(10_001)])),
        "10,001 different labels; 150 are the most",
        "--label",
    ),
    Case(
        "file: labels that are no words here",
        ("label word ' thumbs up sign' is unknown to the vocabulary", "usable here", "--label-words"),
        files={"rows.csv": table(("text", BODY), ("label", ["👍", "👎"] * 4))},
        words=("run", "pbft", *RUN[2:], "--per-label", "1"),
    ),
    Case(
        "file: unknown label in test",
        ("test.csv, line 3: label 'godd' is not among those of --data: bad, good.", "'good'?", "remove it"),
        files={"test.csv": "text,label\na,bad\nb,godd\n"},
        words=("run", "vanilla", "--data", "train.csv", "--test", "test.csv", "--model", "{models}/llama"),
    ),
    Case(
        "file: missing columns in test",
        ("test.csv: no column text", "it has: x, label"),
        files={"test.csv": "x,label\na,bad\n"},
        words=("run", "vanilla", "--data", "train.csv", "--test", "test.csv", "--model", "{models}/llama"),
    ),
    Case(
        "file: not there",
        ("data trian.csv: no such file", "'train.csv'?", "whole path"),
        words=("run", "lora", "--data", "trian.csv"),
    ),
    command("a folder", "data=./sub: this is a folder; name a file in it (tweets.jsonl)", "show", "--data", "./sub"),
    command("unknown format", "'.xlsx'; known: .csv", "show", "--data", "a.xlsx", **{"a.xlsx": ""}),
    command("not on the hub", "could not be read", "show", "--data", "nowhere/at-all"),
    command("of a hub repository", "name the data set alone", "show", "--data", "hf://datasets/a/b/c.csv"),
    command("with a task", "task=cola and data=a.csv: give one", "run", "lora", "--task", "cola", "--data", "a.csv"),
    command("columns without data", "label=x: it belongs to --data", "run", "lora", "--label", "x"),
    command("show of nothing", "show needs a task or data", "show"),
    *(
        command(words[0], "no column 'x' (flag --text)", *words, "train.csv", "--text", "x")
        for words in (("compare", "--data"), ("search", "--data"), ("estimate", "--data"), ("show",), ("task", "new"))
    ),
]
