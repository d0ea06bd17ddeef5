"""What is computed once is what would be computed every time: shared starts, frozen blocks."""

import random
from pathlib import Path

import pytest
import torch
from backbones import CONFIGS, DECODERS, save_backbone
from helpers import EXAMPLES, learner_on

from effft.config import RunConfig
from effft.models.forward.attention import NARROW
from effft.models.forward.shared_prefix import SharedPrefix, common_prefix
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose
from effft.training.loop import private_randomness, train


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_backbone(tmp_path_factory.mktemp(kind), kind) for kind in CONFIGS}


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("spec", ["icl", "pattern+classifier"])
@pytest.mark.parametrize("wide", [False, True])  # then our attention, and the last block makes the answers alone
def test_a_shared_start_gives_the_scores_of_the_plain_prompt(
    folders: dict[str, Path], kind: str, spec: str, wide: bool, tmp_path: Path
) -> None:
    folder = save_backbone(tmp_path, kind, std=0.05, width=NARROW) if wide else folders[kind]
    strategy = compose(spec).with_parameters({"shots": 4})
    learner = learner_on(folder, strategy, demos=EXAMPLES[:4], dtype=torch.float64)
    items = learner.items(EXAMPLES)
    size = common_prefix([item.prompt.ids for item in items])
    assert learner.shares_starts
    assert size > 20
    start = SharedPrefix(learner.backbone, items[0].prompt.ids[:size])
    with torch.inference_mode():
        learner.packs_sequences = False
        plain = torch.cat([learner.scores(learner.collate([item])) for item in items])
        shared = learner.scores_after(start, items)
        again = learner.scores_after(start, items[::-1])  # the start is as it was
    torch.testing.assert_close(shared, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(again.flip(0), plain, rtol=1e-10, atol=1e-10)
    learner.packs_sequences = wide
    torch.testing.assert_close(predict(learner, items), plain.float())


def test_predict_reads_a_common_start_once(folders: dict[str, Path]) -> None:
    learner = learner_on(folders["llama"], compose("icl").with_parameters({"shots": 4}), demos=EXAMPLES[:4])
    read: list[tuple[int, ...]] = []
    learner.backbone.model.get_input_embeddings().register_forward_pre_hook(
        lambda _module, inputs: read.append(tuple(inputs[0].shape))
    )
    items = learner.items(EXAMPLES)
    predict(learner, items)
    start = common_prefix([item.prompt.ids for item in items])
    assert read[0] == (1, start)
    assert sum(rows * length for rows, length in read) < sum(len(item.prompt.ids) for item in items) - 2 * start


def test_encoders_and_windows_read_prompts_whole(folders: dict[str, Path]) -> None:
    assert not learner_on(folders["bert"], compose("icl")).shares_starts
    learner = learner_on(folders["llama"], compose("icl"))
    learner.backbone.model.config.sliding_window = 16
    assert not learner.shares_starts


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("spec", ["adaptive", "probe", "adaptive+pbft", "adaptive+distill"])
def test_kept_states_change_nothing(folders: dict[str, Path], kind: str, spec: str) -> None:
    found = []
    for keep in (False, True):
        strategy = compose(spec)
        learner = learner_on(
            folders[kind],
            strategy.with_parameters({"layers": 1} if "layers" in strategy.parameters else {}),
            dtype=torch.float64,
        )
        items = learner.items(EXAMPLES)
        if "distill" in spec:
            items = [item._replace(teacher=(-1.0 - i, -2.0)) for i, item in enumerate(items)]
        items = learner.frozen_features(items) if keep else items
        apart = ("adaptive" in spec and kind == "t5") or ("adaptive+" in spec and kind == "bart")  # blocks read more
        assert all((item.state is not None) == (keep and not apart) for item in items)
        config = RunConfig(steps=4, batch_size=4, schedule="constant", warmup=0)
        with private_randomness(0):  # dropout above the frozen part draws the same masks
            losses = [s.loss for s in train(learner, items, config, 1e-3, random.Random(0))]
        found.append((losses, predict(learner, items), predict(learner, learner.items(EXAMPLES))))
        assert all(
            not hasattr(block, "__dict__") or "forward" not in vars(block) for block in learner.backbone.layout.blocks
        )
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-10)
    for kept, plain in zip(found[1][1:], found[0][1:], strict=True):
        torch.testing.assert_close(kept, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ("vanilla", {}),
        ("lora", {}),
        ("bitfit", {}),
        ("adaptive", {"train_embeddings": True}),
        ("adaptive", {"layers": 3}),
    ],
)
def test_nothing_is_kept_where_the_bottom_moves(folders: dict[str, Path], spec: str, values: dict[str, object]) -> None:
    learner = learner_on(folders["opt"], compose(spec).with_parameters(values))
    assert all(item.state is None for item in learner.frozen_features(learner.items(EXAMPLES)))
