"""`Muon`: hidden matrices step along the nearest orthogonal matrix of their momentum, all else by AdamW.

After Jordan et al. 2024 (Muon: an optimizer for hidden layers in neural networks). A step is scaled by
0.2 * sqrt(the longer side), after Liu et al. 2025 (Muon is scalable for LLM training), so that it is as large
as AdamW's: one learning rate and one weight decay serve both halves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan's: singular values come to lie in about 0.7 to 1.2
_ITERATIONS = 5
_ADAM_SIZE = 0.2  # root mean square of AdamW's steps, as Liu et al. found it
_FEWEST_ROWS = 16
_PACKED = {"query_key_value": 3, "gate_and_value": 2}  # matrices on top of each other in one layer
_OUTPUTS = (
    "logits"  # layers of this name write class scores; like embeddings they are no hidden matrices
)


class Muon(torch.optim.AdamW):
    """Both halves in one optimizer, so that it is prepared, saved and resumed as any other.

    Args:
        groups: Parameter groups; `num_matrices` above 0 marks those that step along orthogonal matrices,
            of which each parameter holds so many on top of each other.
        momentum: Of the hidden matrices, with Nesterov's look-ahead.
        precision: Type in which matrices are orthogonalised.
        others: Arguments of AdamW.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        momentum: float = 0.95,
        precision: torch.dtype = torch.float32,
        **others: Any,
    ) -> None:
        super().__init__([{"num_matrices": 0, **group} for group in groups], **others)
        self.momentum, self.precision = momentum, precision

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Step all parameters that have a gradient."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["num_matrices"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for parameter in group["params"] if group["num_matrices"] else ():
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take in a saved state; AdamW looks for its count of steps everywhere."""
        for found in state.get("state", {}).values():
            found.setdefault("step", torch.tensor(0.0))
        super().__setstate__(state)

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean = state["momentum"]
        mean.lerp_(gradient, 1 - self.momentum)
        ahead = torch.lerp(gradient, mean, self.momentum).flatten(1)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        for matrix, update in zip(
            parameter.flatten(1).chunk(group["num_matrices"]),
            ahead.chunk(group["num_matrices"]),
            strict=True,
        ):
            size = _ADAM_SIZE * max(update.shape) ** 0.5
            step = orthogonalized(update, self.precision).to(matrix.dtype)
            matrix.add_(step, alpha=-group["lr"] * size)


def orthogonalized(matrix: Tensor, precision: torch.dtype = torch.float32) -> Tensor:
    """Near the orthogonal matrix nearest to `[N, D]`, by Newton and Schulz's iteration; same shape."""
    a, b, c = _COEFFICIENTS
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = (x / x.norm().clamp_min(1e-12)).to(precision)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def hidden_matrices(model: nn.Module) -> dict[str, int]:
    """Names of hidden layers' weights, outputs left out, and how many matrices each holds."""
    found = {}
    for name, module in model.named_modules():
        own = name.split(".")[-1]
        if not isinstance(module, (nn.Linear, nn.Conv1d)) or own == _OUTPUTS:
            continue
        if min(module.weight.flatten(1).shape) >= _FEWEST_ROWS and module.weight.requires_grad:
            found[f"{name}.weight"] = _PACKED.get(own, 1)
    return found
