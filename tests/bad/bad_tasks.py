"""Task files that are none."""

from case import TASK, Case, odd

LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


def edit(name: str, old: str, new: str, *says: str, strategy: str = "vanilla") -> Case:
    """A task file with `new` for `old`."""
    return Case(f"task: {name}", ("mood.yaml", *says), task=(old, new), strategy=strategy)


def elsewhere(name: str, old: str, new: str, *says: str) -> Case:
    """As `edit`; the file named is the one that the task file leads to."""
    return Case(f"task: {name}", says, task=(old, new))


def whole(name: str, content: str | bytes, *says: str) -> Case:
    """Another task file."""
    return Case(f"task: {name}", ("mood.yaml", *says), task=content)


TRAINED = "train: train.csv"
CASES = [
    edit("missing key", "fields: [text]\n", "", "fields: this key is missing", "at the top level"),
    edit("mistyped key", "fields: [text]", "feilds: [text]", "line 2", "'feilds'", "Did you mean 'fields'?"),
    edit(
        "unknown key", "name: mood", "name: mood\nmetrik: mcc", "line 2: metrik: unknown key", "Did you mean 'metric'?"
    ),
    edit("key twice", "name: mood", "name: mood\nname: mood", "line 2", "key 'name' stands there twice; keep one"),
    edit("unknown metric", "name: mood", "name: mood\nmetric: mc", "metric: unknown value 'mc'", "Did you mean 'mcc'?"),
    edit("name with a slash", "name: mood", "name: a/b", "name 'a/b': use 1 to 60 letters"),
    edit("newer version", "name: mood", "name: mood\nversion: 2", "version", "must be at most 1, not '2'"),
    edit(
        "duplicate label", "labels: [bad, good]", "labels: [bad, bad]", "label 'bad' is named twice", "each label once"
    ),
    edit("one label", "labels: [bad, good]", "labels: [bad]", "labels", "needs at least 2, not"),
    edit("empty label", "labels: [bad, good]", "labels: [bad, ' ']", "empty name; name every label"),
    edit("word for no label", 'bad: " No"', 'bd: " No"', "line 4: label_words names 'bd'", "Did you mean 'bad'?"),
    edit("label without word", 'bad: " No", ', "", "no word for label 'bad'; add one"),
    edit("same word twice", '" No"', '" Yes"', "'bad' and 'good' have the same word ' Yes'; each its own"),
    edit("pattern without a field", "{text} ?", "Good?", "leaves out the field {text}; add it"),
    edit("unknown field", "{text} ?", "{txt} {text}", "has {txt}", "Did you mean 'text'?"),
    edit("two answer slots", "{text} ?", "{text}{answer}{answer}", "2 answer slots; keep one {answer}"),
    edit("open brace", "{text} ?", "{text", "'minimal'", "write a real brace"),
    edit("conversion", "{text} ?", "{text!r}", "no format and no conversion; write {text}"),
    edit("attribute", "{text} ?", "{text.__class__} {text}", "has {text.__class__}", "known: text, answer"),
    edit("field that is a slot", "fields: [text]", "fields: [answer]", "field 'answer' cannot", "use another name"),
    edit("unknown source key", TRAINED, "train: {fle: train.csv}", "unknown key 'fle'", "Did you mean 'file'?"),
    edit("two sources", TRAINED, "train: {file: a.csv, hub: b}", "exactly one of", "names file and hub"),
    edit("no source", TRAINED, "train: {rows: [0, 2]}", "exactly one of file, hub, url, builtin", "names none"),
    edit(
        "key of another source", TRAINED, "train: {file: a.csv, config: b}", "'config' means nothing for", "remove it"
    ),
    edit("file above", TRAINED, "train: ../secret.csv", "'../secret.csv' leaves the task's folder", "--allow-outside"),
    edit("file anywhere", TRAINED, "train: /etc/passwd.csv", "leaves the task's folder", "--allow-outside"),
    edit("rows backwards", TRAINED, "train: {file: train.csv, rows: [3, 1]}", "rows [3, 1] must be [first, one after"),
    edit("rows of words", TRAINED, "train: {file: train.csv, rows: [0, x]}", "line 6", "rows", "not 'x'"),
    Case(
        "task: rows outside",
        ("train.csv: rows [0, 99] go past its end; it has 10 rows",),
        task=(TRAINED, "train: {file: train.csv, rows: [0, 99]}"),
    ),
    edit("no header, no columns", TRAINED, "train: {file: train.csv, header: false}", "name its columns"),
    edit(
        "long delimiter", TRAINED, "train: {file: train.csv, delimiter: '||'}", "delimiter '||' must be one character"
    ),
    elsewhere(
        "unknown slice",
        "slices: [label,",
        "slices: [knd,",
        "test.csv: slice 'knd' is no column",
        "Did you mean 'kind'?",
    ),
    elsewhere(
        "where that keeps nothing", TRAINED, "train: {file: train.csv, where: {label: z}}", "change `where: {label: z}`"
    ),
    elsewhere(
        "where without column", TRAINED, "train: {file: train.csv, where: {lable: z}}", "'lable'", "mean 'label'?"
    ),
    edit("map to no label", '"1": good', '"1": god', "'god'", "Did you mean 'good'?"),
    edit("text field of no name", "fields: {text: body}", "fields: {txt: body}", "'txt'", "Did you mean 'text'?"),
    elsewhere("no such file", TRAINED, "train: none.csv", "no file of it lies in", "none.csv"),
    edit(
        "alias",
        "labels: [bad, good]",
        "labels: &x [bad, good]\ndescription: *x",
        "line 4",
        "no aliases",
        "write it out",
    ),
    edit("cyclic", "labels: [bad, good]", "labels: &x [bad, *x]", "line 3", "no aliases (*x)", "write it out"),
    edit("open list", "labels: [bad, good]", "labels: [bad, good", "no valid YAML"),
    edit("python object", "name: mood", "name: !!python/object/apply:os.system ['touch ran']", "line 1", "name"),
    edit("half a pair", "name: mood", 'name: mood\ndescription: "\\ud800"', "line 2", "is no text", "write it out"),
    edit("tab", "fields: [text]", "\tfields: [text]", "line 2", "no valid YAML"),
    edit("address that is not https", TRAINED, "train: {url: 'http://example.com/x.tsv'}", "only https addresses"),
    edit("unknown generator", TRAINED, "train: {builtin: agrement, split: train, size: 8}", "mean 'agreement'?"),
    whole("list", "- a\n- b\n", "is a mapping of keys (name, fields, labels, train)"),
    whole("empty", "\n", "is a mapping of keys (name"),
    whole("deep", "[" * 5000, "nested too deeply"),
    whole("huge", "#" * (1 << 20) + "\n" + TASK, "262,144 are the most"),
    whole("many laughs", LAUGHS + TASK, "no aliases (*a)", "write it out"),
    whole(
        "not UTF-8", TASK.replace("mood", "m\xf6\xf6d").encode("latin-1"), "no UTF-8 text (byte 7)", "save it as UTF-8"
    ),
    whole("NUL", TASK.replace("mood", "mo\0od"), "no valid YAML", "special characters are not allowed"),
    whole("too many labels", TASK.replace("[bad, good]", f"{list(map(str, range(1001)))}"), "1,001 where 1,000 are"),
    edit(
        "size of a generator", TRAINED, "train: {builtin: agreement, split: train, size: 1000000000}", "at most 100000"
    ),
    edit(
        "file of 5,000 characters", TRAINED, f"train: {'x' * 5000}.csv", "line 6", "longer than names of files can be"
    ),
    *(
        edit(f"OOD set {name[:9]}", "  tweets:", f"  {name!r}:", "use 1 to 60 letters")
        for name in (".", "..", "a" * 300)
    ),
    *(
        Case(
            f"task: {kind}",
            (f"odd.yaml: this is a {kind}",),
            {"task": "odd.yaml"},
            make=odd(kind, "yaml"),
        )
        for kind in ("pipe (FIFO)", "socket", "device")
    ),
    Case(
        "task: loop of links", ("odd.yaml: cannot be read: Too many",), {"task": "odd.yaml"}, make=odd("loop", "yaml")
    ),
    Case("task: 5,000 characters", ("x... (5,005 characters): no such file",), {"task": "x" * 5000 + ".yaml"}),
    Case(
        "task: relative",
        ("nowhere/mood.yaml: no such file. It was looked for at /", "`mlflow run` works in the project's folder"),
        {"task": "nowhere/mood.yaml"},
    ),
    Case("task: another name", ("modo.yaml", "no such file", "Did you mean 'mood.yaml'?"), {"task": "modo.yaml"}),
    Case("task: folder", ("task file sub", "is a folder; name the file in it"), {"task": "./sub"}),
    Case("task: unknown name", ("unknown task 'colla'", "Did you mean 'cola'?"), {"task": "colla"}),
    Case(
        "task: words that begin alike",
        ("label words ' Yes No' and ' Yes' begin with the same token", "--label-score mean"),
        {"label-score": "first"},
        strategy="pbft",
        task=('" No"', '" Yes No"'),
    ),
    Case(
        "task: words unknown to the model",
        ("label word ' Maybe' is unknown to the vocabulary", "--label-words"),
        strategy="pbft",
        task=('" No"', '" Maybe"'),
    ),
    Case(
        "task: words of the same tokens",
        ("are the same tokens in", "usable here", "--label-words"),
        strategy="pbft",
        task=('{bad: " No", good: " Yes"}', '{bad: " Yes", good: "  Yes"}'),
    ),
    Case(
        "task: train without labels",
        ("train has no labels (label: none)", "only ood and unlabelled"),
        task=("train: train.csv", "train: {file: train.csv, label: none}"),
    ),
    Case(
        "task: slices by a label that is not there",
        ("ood set 'tweets' has slices by label and no labels", "remove one"),
        task=('label: {column: mood, map: {"-1": bad, "1": good}, drop: "0"}', "label: none, slices: [label]"),
    ),
    Case(
        "task: no patterns",
        ("task 'mood' has no patterns", "add `patterns"),
        strategy="pbft",
        task=('patterns: {minimal: "{text} ?"}\n', ""),
    ),
    Case(
        "task: slot in the middle",
        ("goes on after its answer slot", "--pattern"),
        strategy="pbft",
        task=("{text} ?", "{answer} {text} ?"),
    ),
]
