"""What do a codec's books carry: linear probes for phoneme and speaker, and mutual information.

The question that MCRVQ exists for (Language-Codec, arXiv 2402.12208): plain RVQ packs the most into its
first book, masked books share it out, so that the book a language model writes first asks less of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..data_prep.manifest import Utterance, read_manifest
from ..errors import CorpusError
from ..tokenizer.codec import CodecModel
from ..tokenizer.codes import CodecIdentity
from .alignments import SILENCE, entropy_bits, mutual_information_bits
from .labelled_frames import EncodedUtterance, PhonemeLabels, encode_utterance
from .linear_probe import LEARNING_RATE, MAX_EPOCHS, PATIENCE, Examples, LinearProbe, fit_probe
from .metrics import CodebookUsage
from .report import Report, Row

LEADING_BOOKS = 3  # the number of masked books; taken of a codec without any, to stand beside it
FOLDS = 5  # of the speaker probe, so that each utterance is tested once
_DEV_SHARE = 0.1  # of the training speakers
_TEST_SHARE = 1 / 3  # of the utterances, where their number is limited
_EMBEDDING, _ONE_HOT = "embedding", "one-hot"


@dataclass(frozen=True)
class _Input:
    """What a probe is given; `features(item)` are `[T, D]` vectors or `[T, k]` codes."""

    name: str
    form: str
    features: Callable[[EncodedUtterance], Tensor]

    @property
    def key(self) -> str:
        return f"{self.name}, {self.form}"


@dataclass
class _Tally:
    """Right and wrong answers by utterance, for a rate with its standard error."""

    right: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def add(self, item: EncodedUtterance, correct: Tensor) -> None:
        name = item.utterance.id
        self.right[name], self.asked[name] = int(correct.sum()), len(correct)
        self.groups[name] = item.group

    def rate(self) -> dict[str, float | None]:
        """Accuracy, and its standard error with speakers as the independent units."""
        total = sum(self.asked.values())
        accuracy = sum(self.right.values()) / total
        excess: dict[str, float] = {}
        for name, group in self.groups.items():
            surprise = self.right[name] - accuracy * self.asked[name]
            excess[group] = excess.get(group, 0.0) + surprise
        units = len(excess)
        spread = sum(value**2 for value in excess.values()) * units / max(1, units - 1)
        return {
            "accuracy": accuracy,
            "standard_error": spread**0.5 / total if units > 1 else None,
        }


def evaluate_probes(
    folder: Path,
    out: Path,
    *,
    codec: CodecModel,
    limit: int | None = None,
    seed: int = 0,
    max_epochs: int = MAX_EPOCHS,
) -> dict[str, Any]:
    """Read phoneme and speaker off book 1, the leading books, all books, and the latent.

    The embedding of several books is the sum of their codebook vectors: what the decoder gets, and
    for masked books the same as their slices side by side. One-hot codes of book 1 are the ceiling
    of what any embedding of them shows a linear probe, a language model's own table included, where
    there are frames enough to learn an entry for each code. Phonemes are
    probed frame by frame, on speakers of other splits than `train`; speakers by the mean over an
    utterance, on other utterances of the same speakers.

    Durations may run late or early, and a causal codec behind its input; so the labels are first
    moved by the lag, within 150 ms, at which the leading books share the most information with them
    on the training utterances. The report states it.

    Args:
        folder: Folder that `prepare` wrote, or its manifest. Phonemes are probed where utterances
            have durations, speakers where they are named.
        out: Folder of the report: `report.json`, `report.md`, and `items.jsonl` with the right
            answers of each tested utterance.
        codec: The codec to judge, in evaluation mode.
        limit: At most so many utterances, a third of them held out; speakers stay whole but the
            last one. None for all.
        seed: Draws speakers, folds and the order of training.
        max_epochs: Passes that a probe's training may take.

    Returns:
        What `report.json` holds: the tables `phoneme_probe`, `speaker_probe` and `books`.

    Raises:
        CorpusError: If the manifest is not readable, or lacks training or held-out utterances.
        UnsupportedAudio: If a recording cannot be read.
    """
    begun = perf_counter()
    manifest = folder / "manifest.jsonl" if folder.is_dir() else folder
    chosen = _choose_utterances(manifest, limit, seed)
    identity = codec.identity
    report = Report(out, f"Probes of codec {identity.codec_id}")
    items = [
        encode_utterance(codec, each) for each in tqdm(chosen, desc="probes", unit="utterance")
    ]
    inputs = _inputs(codec)
    report.facts = {
        "codec": asdict(identity),
        "utterances": len(items),
        "seconds": sum(item.utterance.seconds for item in items),
        "speakers": len({item.utterance.speaker for item in items if item.utterance.speaker}),
        "seed": seed,
        "probe": f"logistic regression by Adam, learning rate {LEARNING_RATE}, at most {max_epochs} "
        f"epochs, stopped after {PATIENCE} without a better loss on the development part",
    }
    train = [item for item in items if item.utterance.split == "train"]
    labels = PhonemeLabels.aligned(items, train, _leading(identity))
    answers: dict[str, Row] = {}
    how = {"seed": seed, "max_epochs": max_epochs}
    _probe_phonemes(report, answers, items, labels, inputs, how)
    _probe_speakers(report, answers, items, inputs, how)
    report.tables["books"] = _book_rows(items, labels)
    report.items = [answers[i.utterance.id] for i in items if i.utterance.id in answers]
    report.facts["wall_seconds"] = perf_counter() - begun
    return report.save()


def _choose_utterances(manifest: Path, limit: int | None, seed: int) -> list[Utterance]:
    utterances = read_manifest(manifest)
    train = [utterance for utterance in utterances if utterance.split == "train"]
    held_out = [utterance for utterance in utterances if utterance.split != "train"]
    if not train or not held_out:
        raise CorpusError(
            f"{manifest} has {len(train)} utterances to train probes on and {len(held_out)} held "
            "out, and both are needed; run `speechlm prepare` with a share of held-out speakers."
        )
    if limit is None or limit >= len(utterances):
        return [*train, *held_out]
    tested = min(len(held_out), max(1, round(limit * _TEST_SHARE)))
    return [
        *_whole_speakers(train, max(1, limit - tested), seed),
        *_whole_speakers(held_out, tested, seed),
    ]


def _whole_speakers(utterances: Sequence[Utterance], count: int, seed: int) -> list[Utterance]:
    """Speaker after speaker in drawn order, until there are `count` utterances."""
    drawn = _shuffled(sorted({utterance.speaker for utterance in utterances}), seed)
    ordered = [u for speaker in drawn for u in utterances if u.speaker == speaker]
    return ordered[:count]


def _shuffled(values: Sequence[Any], seed: int) -> list[Any]:
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    return [values[index] for index in order.tolist()]


def _leading(identity: CodecIdentity) -> int:
    return min(identity.num_masked_books or LEADING_BOOKS, identity.num_codebooks)


def _inputs(codec: CodecModel) -> list[_Input]:
    most = codec.identity.num_codebooks
    leading = _leading(codec.identity)
    names = {leading: f"first {leading} books", 1: "book 1"}
    if most > 1:
        names[most] = f"all {most} books"
    codebooks = codec.quantizer.codebooks

    def embedding(num_books: int) -> Callable[[EncodedUtterance], Tensor]:
        return lambda item: torch.stack(
            [F.embedding(c, codebooks[b]) for b, c in enumerate(item.codes.item(0)[:num_books])]
        ).sum(0)

    counts = sorted(names)
    return [
        *(_Input(names[count], _EMBEDDING, embedding(count)) for count in counts),
        _Input("latent", "unquantized", lambda item: item.latent),
        # of one book only: the table of several outgrows the frames that there are to fill it
        _Input(names[1], _ONE_HOT, lambda item: item.codes.item(0)[:1].T),
    ]


def _probe_phonemes(
    report: Report,
    answers: dict[str, Row],
    items: Sequence[EncodedUtterance],
    labels: PhonemeLabels,
    inputs: Sequence[_Input],
    how: dict[str, int],
) -> None:
    """Fill the table `phoneme_probe`: trained on speakers of `train`, tested on all others."""
    known = [item for item in items if item.utterance.id in labels.of]
    seen = [item for item in known if item.utterance.split == "train"]
    test = [item for item in known if item.utterance.split != "train"]
    groups = sorted({item.group for item in seen})
    if len(groups) < 2 or not test:
        report.note("Phonemes are not probed: too few utterances have durations.")
        return
    held = set(_shuffled(groups, how["seed"])[: max(1, round(_DEV_SHARE * len(groups)))])
    parts = {
        "train": [item for item in seen if item.group not in held],
        "development": [item for item in seen if item.group in held],
        "test": test,
    }

    def examples(part: Sequence[EncodedUtterance], given: _Input) -> Examples:
        label = torch.cat([labels.of[item.utterance.id] for item in part])
        features = torch.cat([given.features(item) for item in part])
        return Examples(features, label).select(label >= 0)

    rows: list[Row] = []
    for given in inputs:
        train, dev = examples(parts["train"], given), examples(parts["development"], given)
        size = test[0].codes.identity.codebook_size if given.form == _ONE_HOT else 0
        probe = fit_probe(train, dev, len(labels.classes), codebook_size=size, **how)
        tally = _Tally()
        for item in test:
            wanted = examples([item], given)
            correct = probe.predict(wanted.features) == wanted.labels
            tally.add(item, correct)
            row = answers.setdefault(item.utterance.id, _answer_row(item))
            row["frames"] = len(correct)
            row.setdefault("phonemes_right", {})[given.key] = int(correct.sum())
        whole = examples(test, given)
        rows.append(
            {
                "input": given.name,
                "form": given.form,
                **tally.rate(),
                "majority": float((whole.labels == train.labels.mode().values).float().mean()),
                "information_bits": _information_bits(probe, train, whole, len(labels.classes)),
                "epochs": probe.epochs,
            }
        )
    report.tables["phoneme_probe"] = rows
    silence = labels.classes.index(SILENCE) if SILENCE in labels.classes else -2
    every = torch.cat([labels.of[item.utterance.id] for item in known])
    report.facts |= {
        "phoneme_classes": len(labels.classes),
        "label_lag_s": labels.lag_s,
        "frames_without_phoneme": int((every < 0).sum()),
        "silence_share": float((every == silence).sum() / (every >= 0).sum()),
    }
    for name, part in parts.items():
        frames = sum(int((labels.of[item.utterance.id] >= 0).sum()) for item in part)
        speakers = len({item.group for item in part})
        report.facts[f"phoneme_{name}"] = {"frames": frames, "speakers": speakers}


def _information_bits(
    probe: LinearProbe, train: Examples, test: Examples, num_classes: int
) -> float:
    """How many bits of a label the probe saves against knowing the training's frequencies."""
    counts = torch.bincount(train.labels, minlength=num_classes).double() + 1
    prior = -(counts / counts.sum()).log()[test.labels].mean()
    return (float(prior) - probe.loss(test)) / float(torch.tensor(2.0).log())


def _probe_speakers(
    report: Report,
    answers: dict[str, Row],
    items: Sequence[EncodedUtterance],
    inputs: Sequence[_Input],
    how: dict[str, int],
) -> None:
    """Fill the table `speaker_probe`: five folds of utterances, all with the same speakers."""
    of_speaker: dict[str, list[EncodedUtterance]] = {}
    for item in items:
        if item.utterance.speaker:
            of_speaker.setdefault(item.utterance.speaker, []).append(item)
    of_speaker = {name: own for name, own in of_speaker.items() if len(own) >= FOLDS}
    if len(of_speaker) < 2:
        report.note(f"Speakers are not probed: fewer than two have {FOLDS} utterances or more.")
        return
    drawn = [
        (item, label, place % FOLDS)
        for label, own in enumerate(of_speaker.values())
        for place, item in enumerate(_shuffled(own, how["seed"]))
    ]
    labels = torch.tensor([label for _, label, _ in drawn])
    folds = torch.tensor([fold for _, _, fold in drawn])
    rows: list[Row] = []
    for given in inputs:
        if given.form == _ONE_HOT:
            continue
        means = torch.stack([given.features(item).mean(0) for item, _, _ in drawn])
        examples, tally, epochs = Examples(means, labels), _Tally(), []
        for fold in range(FOLDS):
            dev = (fold + 1) % FOLDS
            train = examples.select((folds != fold) & (folds != dev))
            probe = fit_probe(train, examples.select(folds == dev), len(of_speaker), **how)
            epochs.append(probe.epochs)
            for index in torch.nonzero(folds == fold)[:, 0].tolist():
                correct = probe.predict(means[index, None]) == labels[index]
                item = drawn[index][0]
                tally.add(item, correct)
                row = answers.setdefault(item.utterance.id, _answer_row(item))
                row.setdefault("speaker_right", {})[given.key] = bool(correct)
        rows.append(
            {
                "input": given.name,
                "form": given.form,
                **tally.rate(),
                "chance": 1 / len(of_speaker),
                "epochs": max(epochs),
            }
        )
    report.tables["speaker_probe"] = rows
    report.facts["probed_speakers"] = len(of_speaker)
    report.facts["probed_speakers_utterances"] = len(drawn)


def _answer_row(item: EncodedUtterance) -> Row:
    return {"id": item.utterance.id, "speaker": item.utterance.speaker}


def _book_rows(items: Sequence[EncodedUtterance], labels: PhonemeLabels) -> list[Row]:
    """Perplexity and usage of each book, and what it shares with the phonemes."""
    identity = items[0].codes.identity
    usage = CodebookUsage(identity, identity.num_codebooks)
    for item in items:
        usage.add(item.codes)
    codes, phonemes = labels.beside_codes(items)
    # of other utterances, yet as alike from frame to frame as codes are, which shuffling would undo
    elsewhere = phonemes.roll(len(phonemes) // 2)
    rows: list[Row] = []
    for book, (perplexity, share) in enumerate(zip(usage.perplexity, usage.usage, strict=True)):
        row: Row = {
            "book": book + 1,
            "kind": "masked" if book < identity.num_masked_books else "residual",
            "perplexity": perplexity,
            "usage": share,
            "frames": usage.num_frames,
        }
        if len(phonemes):
            row["phoneme_bits"] = mutual_information_bits(codes[book], phonemes)
            row["chance_bits"] = mutual_information_bits(codes[book], elsewhere)
            row["phoneme_entropy_bits"] = entropy_bits(phonemes)
        rows.append(row)
    return rows
