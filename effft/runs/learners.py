"""The learner of a plan, before it is adapted, and what calibrates it once it is."""

from collections.abc import Sequence

import torch
from torch import Tensor

from effft.data.examples import Example
from effft.models.backbone import Backbone
from effft.models.flops import count_too
from effft.progress import ProgressCallback, silent
from effft.runs.plan import Plan, prompt_encoders
from effft.strategies.calibration import Calibration, calibrate
from effft.strategies.learner import Learner
from effft.strategies.parts import Verbalizer
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict_apart


def shared_backbone(plan: Plan) -> Backbone | None:
    """A frozen backbone that the run shares all weights with; None where it changes some, or no other run follows."""
    if not (plan.session.keep and plan.strategy.trainable.shares_weights):
        return None
    return plan.session.frozen_backbone(plan.config, plan.strategy.needs_lm_head, plan.resolved.precision)


def build_learner(plan: Plan, frozen: Backbone | None) -> tuple[Learner, PromptEncoder | None]:
    """The learner before training, and the encoder of its teacher's prompts where it has a teacher."""
    config = plan.config
    backbone = plan.session.working_backbone(config, plan.strategy.needs_lm_head, frozen)
    encoder, teacher = prompt_encoders(plan.strategy, plan.task, backbone, config, plan.demonstrations)
    generator = torch.Generator().manual_seed(config.seed)
    learner = Learner(plan.strategy, plan.task, backbone, encoder, generator, plan.resolved.precision)
    count_too(backbone.model, learner.head)
    return learner, teacher


def calibration_of(plan: Plan, learner: Learner, progress: ProgressCallback = silent) -> Calibration | None:
    """What calibrates the scores of a learner that is ready to answer; None for nothing."""
    if not isinstance(plan.strategy.head, Verbalizer):
        return None

    def score(examples: Sequence[Example], leave_out: bool) -> Tensor:
        return predict_apart(learner, learner.items(examples, leave_out=leave_out), progress, "calibrate")

    return calibrate(plan.strategy.head.calibration, plan.draw.train, plan.demo_seed, score)
