"""The adversary of codec training: families of discriminators, and the losses both sides get from them.

Hinge (Lim and Ye 2017) or least squares (Mao et al. 2017), with feature matching (Larsen et al. 2016), as
HiFi-GAN, Vocos, DAC and Language-Codec combine them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .codec_recipe import AdversarialSettings, DiscriminatorSettings
from .discriminators import Verdict, discriminator_family


def judge_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """What a discriminator minimises, from its logits of real and of decoded audio: a scalar."""
    if kind == "hinge":
        return F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()
    return (1 - real.float()).square().mean() + fake.float().square().mean()


def deceive_loss(fake: Tensor, kind: str) -> Tensor:
    """What the codec minimises, from a discriminator's logits of its audio: a scalar."""
    if kind == "hinge":
        return F.relu(1 - fake.float()).mean()
    return (1 - fake.float()).square().mean()


def feature_distance(real: Verdict, fake: Verdict) -> Tensor:
    """Mean L1 distance of each hidden layer's activations, summed over layers: a scalar."""
    return torch.stack(
        [
            F.l1_loss(ours.float(), theirs.detach().float())
            for ours, theirs in zip(fake.features, real.features, strict=True)
        ]
    ).sum()


class Adversary(nn.Module):
    """All discriminators of a run; called with real and decoded audio, it gives its own loss.

    Args:
        settings: Section `adversarial` of the run's configuration.

    Attributes:
        heard: Real and decoded audio of the last `codec_loss`, detached: what it learns from.
    """

    heard: tuple[Tensor, ...] = ()

    def __init__(self, settings: AdversarialSettings) -> None:
        super().__init__()
        self.settings = settings
        self.families = nn.ModuleList(
            discriminator_family(each.family, each.channels) for each in settings.discriminators
        )

    def forward(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminators' loss on waveforms `[B, L]`; no gradient reaches the waveforms.

        Returns:
            Scalar loss and the parts to log.
        """
        both = torch.cat([real, fake]).detach()
        parts: dict[str, Tensor] = {}
        total = both.new_zeros(())
        for each, members in self._families():
            losses = []
            for member in members:
                ours, theirs = member(both).logits.chunk(2)
                losses.append(judge_loss(ours, theirs, each.loss))
            found = _reduced(losses, each.reduction)
            _add(parts, f"{each.family}_judge", found)
            total = total + found
        return total, parts

    def codec_loss(self, real: Tensor, fake: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """What the discriminators ask of the codec; only `fake` gets a gradient, no weight of theirs.

        Args:
            real, fake: `[B, L]`.
            step: Of the run; the terms rise linearly over `ramp_steps` from `start_step` on.

        Returns:
            Weighted scalar, and its parts to log, without weights.
        """
        settings = self.settings
        self.heard = (real.detach(), fake.detach())
        parts: dict[str, Tensor] = {}
        total = fake.new_zeros(())
        wanted = [parameter for parameter in self.parameters() if parameter.requires_grad]
        for parameter in wanted:
            parameter.requires_grad_(False)
        try:
            for each, members in self._families():
                deceive, match = [], []
                for member in members:
                    with torch.no_grad():
                        true: Verdict = member(real)
                    decoded: Verdict = member(fake)
                    deceive.append(deceive_loss(decoded.logits, each.loss))
                    match.append(feature_distance(true, decoded))
                wrong, distance = (
                    _reduced(deceive, each.reduction),
                    _reduced(match, each.reduction),
                )
                _add(parts, f"{each.family}_deceive", wrong)
                _add(parts, f"{each.family}_features", distance)
                total = total + each.weight * (wrong + settings.feature_weight * distance)
        finally:
            for parameter in wanted:
                parameter.requires_grad_(True)
        return self._ramp(step) * total, parts

    def _families(self) -> list[tuple[DiscriminatorSettings, nn.ModuleList]]:
        return list(zip(self.settings.discriminators, self.families, strict=True))  # type: ignore[arg-type]

    def _ramp(self, step: int) -> float:
        settings = self.settings
        return min(1.0, (step - settings.start_step + 1) / max(1, settings.ramp_steps))


def _reduced(losses: list[Tensor], how: str) -> Tensor:
    total = torch.stack(losses)
    return total.mean() if how == "mean" else total.sum()


def _add(parts: dict[str, Tensor], name: str, value: Tensor) -> None:
    """Two families of one kind, such as the two sets of period discriminators, share a line of the log."""
    parts[name] = parts.get(name, torch.zeros_like(value)) + value.detach()
