"""What is compared with a teacher."""

import torch.nn.functional as F
from torch import Tensor


def distill_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) over the labels, summed over the batch; both (batch, labels). Zero when they agree.

    Both are renormalised over the labels; times temperature squared, so that gradients keep their size
    (Hinton et al. 2015, arXiv 1503.02531, section 2).
    """
    return temperature**2 * F.kl_div(
        (student / temperature).log_softmax(dim=-1),
        (teacher / temperature).log_softmax(dim=-1),
        reduction="sum",
        log_target=True,
    )
