"""Options with values that are none, for every option; and commands that cannot be."""

from case import Case

from effft.cli.options import FIELDS, fields_of, flag, metavar
from effft.strategies.strategy import NAMED, compose

SEARCH = "search --task {task} --model {models}/llama --per-label 2"
ZERO_IS_MEANT = {
    "seed", "data_seed", "demo_seed", "order_seed", "overlap_strength", "ood_distance", "shots", "lora_dropout",
    "kl_weight", "unlabelled", "steps", "warmup", "weight_decay", "clip_norm", "patience", "evaluation_limit",
    "bootstrap", "threads",
}  # fmt: skip
"""Numbers that may be 0."""

WRONG = {
    "INT": ("x", "nan", "-1", "1.5", "99999999999999999999", "9" * 5000),
    "FLOAT": ("x", "nan", "-1", "inf", "1e300"),
    "true|false": ("perhaps", "2"),
}


def owner(name: str) -> str:
    """A strategy that has the field."""
    return next(s for s in NAMED if name in fields_of(compose(s)))


def number(name: str, value: str) -> Case:
    """`--rank=x`: refused, whatever the rest."""
    shown = value if len(value) < 50 else value[:20]
    says = (f"{name}={shown}", f"(flag {flag(name)})", ": must be")
    return Case(f"number: {name}={value[:25]}", says, {flag(name)[2:]: value}, owner(name))


def all_numbers() -> list[Case]:
    found = []
    for name in FIELDS:
        kind = metavar(name)
        values = WRONG.get(kind, ("liner",) if "|" in kind else ())
        values += ("0",) if kind in ("INT", "FLOAT") and name not in ZERO_IS_MEANT else ()
        found += [number(name, value) for value in values]
    return found


def option(name: str, options: dict[str, str], *says: str, strategy: str = "vanilla") -> Case:
    """A value that only the task or the strategy can judge."""
    return Case(f"option: {name}", says, options, strategy)


def line(text: str, *says: str) -> Case:
    """A whole command."""
    return Case(f"command: {text.replace(SEARCH, 'search')}", says, words=tuple(text.split()))


CASES = [
    *all_numbers(),
    option("more than there is", {"per-label": "999"}, "per_label=999", "train.csv", "--per-label"),
    option("all shots and more", {"shots": "99"}, "shots=99: only 4 labelled examples", "--shots", strategy="icl"),
    option("teacher's shots", {"teacher-shots": "99"}, "lower --teacher-shots", strategy="context_distillation"),
    option("unknown pattern", {"pattern": "minimall"}, "unknown pattern", "Did you mean 'minimal'?", strategy="pbft"),
    option("unknown metric", {"metric": "mc"}, "metric=mc: must be one of 'accuracy'", "Did you mean 'mcc'?"),
    option("too few words", {"label-words": "Yes"}, "label_words=Yes: one word per label", strategy="pbft"),
    option("equal words", {"label-words": "Yes,Yes"}, "same word", "bad, good", strategy="pbft"),
    option("no room", {"max-length": "2"}, "max_length=2: the pattern alone takes", "--max-length", strategy="pbft"),
    option("difficulty of no builtin", {"lexicon-size": "9"}, "has no setting lexicon_size", "--lexicon-size"),
    option("the teacher's word for it", {"shots": "99"}, "has no parameter", strategy="lora"),
    option(
        "foreign option",
        {"shots": "3"},
        "no parameter --shots (strategies that have it: pbft, ",
        "parameters of its own: --",
    ),
    option("training that is none", {"epochs": "3"}, "'icl' trains nothing, so --epochs", strategy="icl"),
    option("an order of nothing", {"demo-order": "by-label"}, "'pbft' shows no demonstrations", strategy="pbft"),
    option("a draw of nothing", {"demo-seed": "5"}, "'zero_shot' shows no", "give --shots", strategy="zero_shot"),
    option("store that is a folder", {"tracking-uri": "sqlite:///sub"}, "it is a folder", "--tracking-uri"),
    option("store without folder", {"tracking-uri": "sqlite:///a/b.db"}, "does not exist", "--tracking-uri"),
    option("store that is text", {"tracking-uri": "sqlite:///train.csv"}, "no sqlite database", "name another file"),
    option("store of no kind", {"tracking-uri": "ftp://x/y"}, "tracking", "--tracking-uri"),
    line("rnu", "unknown command 'rnu'", "Did you mean 'run'?"),
    line("--hlep", "Did you mean '--help'?"),
    line("run lroa", "unknown strategy 'lroa'", "Did you mean 'lora'?"),
    line("run lora+vanilla", "both set the trainable"),
    line("run lora --rnak 3", "unknown option '--rnak'. Did you mean '--rank'?"),
    line("run lora --rank", "'--rank' requires an argument"),
    line("run lora extra", "extra"),
    line("run lora --per_label 0", "per_label=0: must be at least 1 (flag --per-label)"),
    line("run lora --rank x --epochs 0", "rank=x: must be a whole number", "epochs=0: must be at least 1"),
    line("compare --strategies lora,lroa", "Did you mean 'lora'?"),
    line("compare --strategies ,", "--strategies is empty"),
    line("compare --strategies lora --layers 1", "none of the strategies compared (lora)", "'layers'"),
    line("compare --strategies icl,zero_shot --epochs 5", "'icl' trains nothing, so --epochs has no meaning"),
    line("estimate --strategies icl --epochs 5", "'icl' trains nothing, so --epochs has no meaning"),
    line("compare --trials 3", "trials=3: counts with --tuned true only"),
    line("compare --strategies lora --log-model true --no-tracking", "log_model=true: without tracking no model"),
    line("compare --strategies lora --out kept --no-tracking", "out=kept: without tracking there is no report"),
    line("run lora --log-model true --no-tracking", "log_model=true: without tracking no model is kept"),
    line("compare --per-label 16,x", "per_label=x: must be a whole number"),
    line("compare --seeds 0", "--seeds"),
    line("compare --seeds x", "--seeds"),
    line("compare --seed -1", "seed=-1: must be at least 0"),
    line("completion tcsh", "'SHELL': 'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    line(f"{SEARCH} --strategy lroa", "unknown strategy 'lroa'", "Did you mean 'lora'?"),
    line(f"{SEARCH} --strategy icl --epochs 5", "'icl' trains nothing, so --epochs has no meaning"),
    line(f"{SEARCH} --finals-share 0.2", "finals_share=0.2: counts with --minutes only"),
    line(f"{SEARCH} --trials 0", "--trials"),
    line(f"{SEARCH} --trials nan", "--trials"),
    line(f"{SEARCH} --folds 1", "folds=1", "at least 2 (flag --folds)"),
    line(f"{SEARCH} --folds -2", "folds=-2", "at least 2 (flag --folds)"),
    line(f"{SEARCH} --sampler gpp", "unknown sampler 'gpp'", "Did you mean 'gp'?"),
    line(f"{SEARCH} --executor proceses", "unknown executor 'proceses'", "Did you mean 'processes'?"),
    line(f"{SEARCH} --objectives speed", "unknown objective 'speed'", "known: "),
    line(f"{SEARCH} --max-memory -1", "max_memory=-1: must be a number above 0 (flag --max-memory)"),
    line(f"{SEARCH} --rank 8:4", "rank", "8:4"),
    line(f"{SEARCH} --rank 0:8", "rank", "0:8"),
    line(f"{SEARCH} --learning-rate 0:1:log", "learning_rate", "0:1:log"),
    line(f"{SEARCH} --learning-rate nan:1", "learning_rate", "nan:1"),
    line(f"{SEARCH} --learning-rate 1e-4:x", "learning_rate", "1e-4:x"),
    line(f"{SEARCH} --seed 1:3", "seed"),
    line(f"{SEARCH} --space none.yaml", "none.yaml"),
    line(f"{SEARCH} --space train.csv", "train.csv"),
    line(f"{SEARCH} --storage sqlite:///train.csv", "train.csv", "--storage"),
    line("predict --model nowhere --text x", "nowhere"),
    line("report --task nothing", "nothing"),
    line("estimate --model ./nowhere", "no such folder"),
    line("show {task} --split ood/x --model {models}/llama --per-label 2", "unknown split 'ood/x'"),
    line("show {task} --examples 0", "--examples"),
]
