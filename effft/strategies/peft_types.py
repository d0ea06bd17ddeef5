"""What is known of peft's types of adapters, one line each; a type that is not here is taken with `UNLISTED`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from effft.strategies.search_space import PowersOfTwo

RANKS = PowersOfTwo(1, 64)
SHARED_RANKS = PowersOfTwo(16, 256)
"""Where random matrices are shared and only vectors train, ranks are higher."""

Limit = Literal["side", "divisor", "area", "sparse"]
"""Of the linear maps: the smallest side, a common divisor of all sides, inputs x outputs, that / (inputs + outputs)."""

Bf16 = Literal["beside", "with", "never"]


@dataclass(frozen=True)
class PeftType:
    """Facts of one type; tests/strategies/test_peft.py compares them with what peft does.

    Attributes:
        about: what trains.
        rate: the default learning rate at width 768.
        width_power: the power of 1 / width with which it falls in wider models: 0 for vectors (scales, norms, biases,
            embeddings), see `effft.strategies.parts.scaled_rate`.
        merges: whether it can be added to the weights; None: it is tried.
        starts_equal: whether it changes nothing at first, up to rounding.
        conv1d: whether it works on GPT-2's linear maps, which are of the class Conv1D.
        bf16: how it goes with a backbone in bf16: its parameters stay in fp32 beside it, are with it bf16 copies of
            fp32 masters, or it never does.
        place: where it goes: the blocks' linear maps, those that peft itself names for IA3, the norms, the embedding,
            or virtual tokens before the text, as embeddings or as keys and values of every block.
        rank: the options that `--rank` sets, with a factor; {} where there is no rank.
        ranks: where a search looks for the rank.
        options: what differs from peft's own defaults.
        limits: options whose default is lowered to what the linear maps allow.
    """

    about: str
    rate: float = 1e-3
    merges: bool | None = True
    starts_equal: bool = True
    conv1d: bool = False
    bf16: Bf16 = "beside"
    place: Literal["linear", "ia3", "norms", "embedding", "tokens", "keys"] = "linear"
    rank: Mapping[str, float] = field(default_factory=dict)
    ranks: PowersOfTwo = RANKS
    options: Mapping[str, object] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    width_power: float = 0.5

    @property
    def virtual(self) -> bool:
        """Whether it puts virtual tokens before the text."""
        return self.place in ("tokens", "keys")


R = {"r": 1.0}
SIDE: dict[str, Limit] = {"r": "side"}
ZERO = {"init_weights": True}
TOKENS = {"num_virtual_tokens": 20}
UNLISTED = PeftType("an adapter of peft", merges=None, conv1d=True)

TYPES = {
    "adalora": PeftType(
        "low-rank deltas that lose rank where it matters least",
        1e-3, conv1d=True, rank={"target_r": 1, "init_r": 1.5}, options={"total_step": 10**6},
    ),
    "adamss": PeftType(
        "low-rank deltas in subspaces of the weights", 2e-3, bf16="never", options={"r": 100}, limits=SIDE,
    ),
    "beft": PeftType("biases of the linear maps", width_power=0),
    "boft": PeftType("butterfly rotations of the weights", limits={"boft_block_size": "divisor"}),
    "c3a": PeftType("circular convolutions", 5e-2, options=ZERO, limits={"block_size": "divisor"}),
    "cartridge": PeftType(
        "keys and values of virtual tokens", 1e-2, False, False, True, place="keys", options=TOKENS, width_power=0,
    ),
    "deft": PeftType("projections of the weights and deltas in their place", 3e-4, conv1d=True, rank=R, limits=SIDE),
    "delora": PeftType("low-rank deltas of bounded norm", rank=R, options={"delora_lambda": 1}, limits=SIDE),
    "fourierft": PeftType(
        "some frequencies of the deltas", 5e-3, conv1d=True, options=ZERO, limits={"n_frequency": "area"},
    ),
    "frod": PeftType(
        "rotations that all layers share, scaled and sparse", 1e-3, conv1d=True, options={"progressbar": False},
    ),
    "glora": PeftType("scales, shifts and low-rank deltas of weights and biases", rank=R, limits=SIDE),
    "gralora": PeftType("low-rank deltas in blocks of the weights", 3e-4, conv1d=True, limits=SIDE),
    "hira": PeftType("low-rank deltas times the weights (high rank)", conv1d=True, rank=R, limits=SIDE),
    "hra": PeftType("reflections of the weights (Householder)", rank=R, limits=SIDE),
    "ia3": PeftType("scales of keys, values and feed-forward states", 5e-3, conv1d=True, place="ia3", width_power=0),
    "lily": PeftType("low-rank deltas whose halves layers share", merges=False, rank=R, limits=SIDE),
    "ln_tuning": PeftType("the norms", 1e-3, conv1d=True, bf16="with", place="norms", width_power=0),
    "loha": PeftType("products of two low-rank deltas", 2e-3, rank=R, limits=SIDE),
    "lokr": PeftType("Kronecker products", 2e-3, rank=R, limits=SIDE),
    "lora": PeftType(
        "low-rank deltas; the strategy `lora` has flags for them", 5e-4, conv1d=True, rank={"r": 1}, limits=SIDE,
    ),
    "miss": PeftType("one small matrix repeated over the weights", 3e-4, rank=R, limits={"r": "divisor"}),
    "oft": PeftType("rotations of the weights in blocks", 1e-4, limits={"oft_block_size": "divisor"}),
    "osf": PeftType("the lower singular directions of the weights", 1e-4),
    "p_tuning": PeftType(
        "virtual tokens from a small network", 1e-3, False, False, True, place="tokens", options=TOKENS,
    ),
    "peanut": PeftType("deltas that a small network makes of the weights", 3e-4, rank=R, limits=SIDE),
    "prefix_tuning": PeftType(
        "keys and values of virtual tokens", 1e-2, False, False, True, place="keys", options=TOKENS, width_power=0,
    ),
    "prompt_tuning": PeftType(
        "embeddings of virtual tokens", 1e-2, False, False, True, place="tokens", options=TOKENS, width_power=0,
    ),
    "psoft": PeftType("rotations in the main directions of the weights", rank=R, limits=SIDE),
    "pvera": PeftType(
        "VeRA with noise in training", 5e-3, conv1d=True, rank=R, ranks=SHARED_RANKS, width_power=0,
    ),
    "randlora": PeftType("sums of random low-rank deltas, scaled", 1e-4, conv1d=True, rank=R, limits=SIDE),
    "road": PeftType("rotations of pairs of outputs", 5e-3, limits={"group_size": "divisor"}),
    "shira": PeftType("some entries of the weights", rank=R, limits={"r": "sparse"}),
    "supertuning": PeftType("the largest entries of the weights"),
    "tinylora": PeftType("a few numbers in the main directions of the weights", 1e-3, conv1d=True),
    "trainable_tokens": PeftType("embeddings of chosen tokens", conv1d=True, place="embedding", width_power=0),
    "unilora": PeftType(
        "one vector that all low-rank deltas are made of", 5e-3, starts_equal=False, conv1d=True, rank=R,
    ),
    "vblora": PeftType(
        "a bank of vectors that all low-rank deltas are made of",
        5e-3, starts_equal=False, conv1d=True, rank=R, limits={"vector_length": "divisor"},
    ),
    "vera": PeftType(
        "scales of shared random low-rank deltas", 5e-3, conv1d=True, rank=R, ranks=SHARED_RANKS, width_power=0,
    ),
    "waveft": PeftType("some wavelet coefficients of the deltas", 1e-4, conv1d=True, limits={"n_frequency": "area"}),
}  # fmt: skip
"""Name, in lower case, -> facts."""

UNFIT = {
    "adaption_prompt": "it rewrites the attention of three architectures by name",
    "cpt": "it needs a prompt of labelled examples as its starting point, which `icl` and `context_distillation` read",
    "multitask_prompt_tuning": "it needs several tasks at once",
    "poly": "it needs several tasks at once",
    "shadow": "it runs a second, smaller model beside the first",
    "xlora": "it mixes LoRA adapters that were trained before",
}
"""Types that do not fit a run of one task and one model, and why."""
