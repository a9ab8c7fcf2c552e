"""A linear probe: multinomial logistic regression that reads a label off given features.

What a linear classifier finds is there for any model to use at no cost; what it misses may still be
there (Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_EPOCHS = 200
PATIENCE = 6  # epochs without a better loss on the development part
_LEAST_GAIN = 1e-3  # nats; separable labels would go on for ever
LEARNING_RATE = 0.01
_MAX_BATCH = 1024
_MIN_BATCH = 16
_STEPS_PER_EPOCH = 32  # of a small set; the batch size follows


@dataclass(frozen=True)
class Examples:
    """Features with labels.

    Attributes:
        features: float32 `[N, D]`, which the probe standardises; or int64 `[N, k]`, one code of each
            of k books, which it takes as k one-hot vectors side by side.
        labels: int64 `[N]`.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Tensor) -> Examples:
        """Some of the examples, by index `[n]` or bool `[N]`."""
        return Examples(self.features[index], self.labels[index])


class LinearProbe:
    """Weights, bias, and the standardisation that belongs to them.

    Args:
        train: What will be fitted; the mean and deviation of each channel come from here.
        num_classes: Number of labels.
        codebook_size: V, for one-hot features.

    Attributes:
        epochs: Passes over the data that the weights come from.
    """

    def __init__(self, train: Examples, num_classes: int, codebook_size: int = 0) -> None:
        books = train.features.shape[1]
        self.is_one_hot = not train.features.is_floating_point()
        width = books * codebook_size if self.is_one_hot else books
        self.offsets = codebook_size * torch.arange(books)
        if not self.is_one_hot:
            deviation, self.mean = torch.std_mean(train.features, dim=0, correction=0)
            # a channel that never changes (hidden by a mask) stays at zero
            self.scale = torch.where(deviation > 1e-8, deviation, 1.0).reciprocal()
        self.weight = torch.zeros(width, num_classes)
        self.bias = torch.zeros(num_classes)
        self.epochs = 0

    def logits(self, features: Tensor) -> Tensor:
        """Features as in `Examples` -> float32 `[N, classes]`."""
        if self.is_one_hot:
            return F.embedding_bag(features + self.offsets, self.weight, mode="sum") + self.bias
        return (features - self.mean) * self.scale @ self.weight + self.bias

    @torch.no_grad()
    def loss(self, examples: Examples) -> float:
        """Mean cross-entropy in nats."""
        return float(F.cross_entropy(self.logits(examples.features), examples.labels))

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """The likeliest label of each, int64 `[N]`."""
        return self.logits(features).argmax(-1)


def fit_probe(
    train: Examples,
    dev: Examples,
    num_classes: int,
    *,
    codebook_size: int = 0,
    seed: int = 0,
    max_epochs: int = MAX_EPOCHS,
) -> LinearProbe:
    """Fit by Adam on cross-entropy, and keep the weights of the epoch that does best on `dev`.

    From zero weights, learning rate 0.01, in batches of at most 1024, until `PATIENCE` passes have
    brought no loss on `dev` better by 0.001 nats. No weight decay: the early stop is what holds
    back features of many dimensions.

    Args:
        train: What is fitted, at least one example.
        dev: What decides when to stop; other speakers or utterances than those of `train`.
        num_classes: Labels are `[0, num_classes)`.
        codebook_size: V, if the features are codes.
        seed: Of the order of the examples.
        max_epochs: Passes over `train` at most.
    """
    probe = LinearProbe(train, num_classes, codebook_size)
    parameters = [probe.weight.requires_grad_(), probe.bias.requires_grad_()]
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    size = min(_MAX_BATCH, max(_MIN_BATCH, len(train) // _STEPS_PER_EPOCH))
    least, best = probe.loss(dev), [parameter.detach().clone() for parameter in parameters]
    for epoch in range(1, max_epochs + 1):
        for index in torch.randperm(len(train), generator=generator).split(size):
            batch = train.select(index)
            optimizer.zero_grad()
            F.cross_entropy(probe.logits(batch.features), batch.labels).backward()
            optimizer.step()
        if (loss := probe.loss(dev)) < least - _LEAST_GAIN:
            least, probe.epochs = loss, epoch
            best = [parameter.detach().clone() for parameter in parameters]
        elif epoch - probe.epochs >= PATIENCE:
            break
    probe.weight, probe.bias = best
    return probe
