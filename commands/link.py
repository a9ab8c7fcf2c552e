"""Speech over a network that loses packets: `transmit`, `send` and `receive`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import CodecFolder, Seed

if TYPE_CHECKING:
    from ..tokenizer.codec import CodecModel
    from ..transmission.link.channel import ChannelFaults

app = typer.Typer(rich_markup_mode=None)

_Profile = Annotated[
    str,
    typer.Option(
        help="default, low-delay, redundant-10, redundant-30, lean, layered, or a .json file of fields."
    ),
]
_Loss = Annotated[
    str,
    typer.Option(
        help="A share (0.1), wlan, gilbert:RATE,BURST, outage:SECONDS,EVERY or trace:FILE."
    ),
]
_Jitter = Annotated[float, typer.Option(min=0, help="Delay packets by up to so many seconds.")]
_Reorder = Annotated[float, typer.Option(min=0, max=1, help="Share that comes 50 ms late.")]
_Duplicate = Annotated[float, typer.Option(min=0, max=1, help="Share that comes twice.")]
_Conceal = Annotated[
    Literal["model", "repeat", "silence"], typer.Option(help="What is played for lost frames.")
]
_Model = Annotated[
    Path | None,
    typer.Option("--model", help="Masked model's folder, the same at both ends; else what ships."),
]
_Table = Annotated[
    Path | None,
    typer.Option(
        "--table", help="Entropy model of base codes, the same at both ends; else what ships."
    ),
]
_Session = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Number that tells streams apart.")
]
_Speed = Annotated[
    float, typer.Option(min=0.1, max=100, help="Times real time; the same at both ends.")
]
_Log = Annotated[
    Path | None, typer.Option(help="Write what happens as JSON lines, one about a second.")
]


@app.command()
def transmit(
    audio: Annotated[Path, typer.Argument(metavar="IN", help="Recording of any format and rate.")],
    out: Annotated[Path, typer.Argument(help="Audio file; the suffix chooses the format.")],
    loss: _Loss = "0.1",
    seed: Seed = 0,
    profile: _Profile = "default",
    conceal: _Conceal = "model",
    jitter: _Jitter = 0.0,
    reorder: _Reorder = 0.0,
    duplicate: _Duplicate = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Say all counts as JSON.")] = False,
    model: _Model = None,
    table: _Table = None,
    codec: CodecFolder = None,
) -> None:
    """Send a recording over a lossy network that is simulated, and write what is heard at its end."""
    _prefer_one_thread()
    from ..tokenizer.paths import require_audio_target, require_model_folder, require_recording

    require_recording(audio)
    require_audio_target(out)
    require_model_folder(codec)
    require_model_folder(model)
    from ..transmission.link.loss import parse_loss
    from ..transmission.link.profile import load_profile

    losses, chosen = parse_loss(loss, seed), load_profile(profile)
    faults = _faults(jitter, reorder, duplicate)
    from ..tokenizer.audio import read_audio, write_audio
    from ..tokenizer.codec import load_codec
    from ..transmission.link.latency import latency_budget
    from ..transmission.link.models import load_concealer
    from ..transmission.link.transmit import receive_signal, send_signal

    loaded = load_codec(codec)
    budget = latency_budget(loaded, chosen)
    waveform = read_audio(audio, loaded.config.sampling_rate)
    sent = send_signal(loaded, waveform, chosen, **_coders(loaded, model, table))
    heard = receive_signal(
        loaded,
        sent,
        loss=losses,
        faults=faults,
        seed=seed,
        concealer=load_concealer(conceal, loaded, model),
    )
    write_audio(out, heard.waveform, loaded.config.sampling_rate)
    told, rate = heard.statistics, loaded.config.frame_rate_hz
    payload = sent.statistics.bits_per_second(rate, with_headers=False)
    total = sent.statistics.bits_per_second(rate)
    if as_json:
        report = {
            "seconds": sent.num_samples / loaded.config.sampling_rate,
            "payload_bits_per_second": payload,
            "total_bits_per_second": total,
            "latency": budget.to_dict(),
            **told.to_dict(),
        }
        typer.echo(json.dumps(report, indent=1))
        return
    typer.echo(
        f"{out}: {told.received} packets of {told.received + told.lost + told.late} in time, "
        f"{told.lost} lost, {told.late} late; of {told.played} frames {told.repaired} repaired, "
        f"{told.late_frames} too late, {told.concealed} concealed; "
        f"{payload:.0f} bits per second, {total:.0f} with headers; "
        f"latency {1000 * budget.algorithmic:.0f} ms and {1000 * budget.jitter:.0f} ms of jitter buffer"
    )


@app.command()
def send(
    audio: Annotated[Path, typer.Argument(metavar="IN", help="Recording of any format and rate.")],
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="Where `receive` listens already.")
    ],
    profile: _Profile = "default",
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Choose copies and levels by what the receiver reports.")
    ] = False,
    loss: _Loss = "0",
    seed: Seed = 0,
    jitter: _Jitter = 0.0,
    reorder: _Reorder = 0.0,
    duplicate: _Duplicate = 0.0,
    repeat: Annotated[int, typer.Option(min=1, help="Send the recording so many times.")] = 1,
    session: _Session = None,
    speed: _Speed = 1.0,
    log: _Log = None,
    model: _Model = None,
    table: _Table = None,
    codec: CodecFolder = None,
) -> None:
    """Send a recording as RTP over UDP in real time; loss and delays may be added on the way out."""
    _prefer_one_thread()
    from ..tokenizer.paths import require_model_folder, require_recording

    require_recording(audio)
    require_model_folder(codec)
    require_model_folder(model)
    from ..transmission.link.channel import Channel
    from ..transmission.link.loss import parse_loss
    from ..transmission.link.profile import load_profile
    from ..transmission.link.udp import open_socket, parse_address, send_stream

    target = parse_address(address)
    faults = _faults(jitter, reorder, duplicate)
    chosen, channel = load_profile(profile), Channel(parse_loss(loss, seed), faults, seed)
    from ..tokenizer.audio import read_audio
    from ..tokenizer.codec import load_codec
    from ..transmission.link.recording import LinkLog
    from ..transmission.link.reports import Adaptation, ladder_of
    from ..transmission.link.sender import Sender

    loaded = load_codec(codec)
    waveform = read_audio(audio, loaded.config.sampling_rate)
    sender = Sender(loaded, chosen, session=session, **_coders(loaded, model, table))
    blocks = (
        block for _ in range(repeat) for block in waveform.split(loaded.config.sampling_rate // 100)
    )
    host = "::" if ":" in target[0] else "0.0.0.0"  # noqa: S104 - any free port, to send from
    adaptation = None
    if adapt:
        adaptation = Adaptation(ladder_of(chosen), num_levels=sender.num_levels)
    told, rate = sender.statistics, loaded.config.frame_rate_hz
    with open_socket(host, 0) as link, LinkLog(log) as lines:
        sending = send_stream(
            sender,
            blocks,
            link,
            target,
            channel=channel,
            adaptation=adaptation,
            speed=speed,
            on_report=lambda seconds, report: lines.write(
                seconds=seconds,
                place_seconds=told.num_frames / rate,
                report=report,
                profile=sender.profile,
            ),
        )
        lines.write(
            sample_0_spoken_at=sending.clock.start,
            most_behind_seconds=sending.most_behind,
            statistics=told,
        )
    typer.echo(
        f"{told.num_packets} packets, {told.num_frames / rate:.2f} s, {told.bits_per_second(rate):.0f} bits "
        f"per second with headers; packets left at most {1000 * sending.most_behind:.0f} ms after their time"
    )
    if sending.most_behind > chosen.max_jitter_seconds:
        typer.echo(
            f"This machine fell {sending.most_behind:.1f} s behind, more than the "
            f"{chosen.max_jitter_seconds:g} s that a receiver of this profile waits: it heard gaps. Give "
            "the sender more of a processor core.",
            err=True,
        )


@app.command()
def receive(
    out: Annotated[Path, typer.Argument(help="Audio file: WAV, FLAC or OGG.")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="UDP port; 0 for a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    profile: _Profile = "default",
    conceal: _Conceal = "model",
    session: _Session = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a first packet.")] = 60.0,
    idle: Annotated[float, typer.Option(min=0.1, help="End after so many silent seconds.")] = 5.0,
    clock_ppm: Annotated[
        float, typer.Option(min=-1000, max=1000, help="Let the clock run wrong by so much.")
    ] = 0.0,
    speed: _Speed = 1.0,
    log: _Log = None,
    model: _Model = None,
    table: _Table = None,
    codec: CodecFolder = None,
) -> None:
    """Play what `send` sends into a file, in real time, until the stream ends."""
    _prefer_one_thread()
    from ..tokenizer.paths import require_audio_target, require_model_folder

    require_audio_target(out)
    require_model_folder(codec)
    require_model_folder(model)
    from ..transmission.link.profile import load_profile
    from ..transmission.link.udp import StreamPlayer, open_socket

    chosen = load_profile(profile)
    from ..tokenizer.codec import load_codec
    from ..transmission.link.models import load_concealer
    from ..transmission.link.receiver import Receiver
    from ..transmission.link.recording import GrowingRecording, LinkLog

    loaded = load_codec(codec)
    concealer = load_concealer(conceal, loaded, model)
    coders = _coders(loaded, model, table)
    receiver = Receiver(loaded, chosen, concealer=concealer, session=session, **coders)
    told, rate = receiver.statistics, loaded.config.sampling_rate
    with (
        open_socket(host, port) as link,
        GrowingRecording(out, rate) as recording,
        LinkLog(log) as lines,
    ):
        typer.echo(f"listening on {link.getsockname()[1]}")
        sys.stdout.flush()
        player = StreamPlayer(receiver, link, speed=speed, clock_ppm=clock_ppm)
        player.run(
            recording.write,
            wait_seconds=wait,
            idle_seconds=idle,
            on_second=lambda seconds: lines.write(
                seconds=seconds, place_seconds=receiver.place_seconds, statistics=told
            ),
        )
        lines.write(
            sample_0_heard_at=player.sample_0_heard_at,
            num_malformed=player.num_malformed,
            statistics=told,
        )
    typer.echo(
        f"{out}: {recording.num_samples / rate:.2f} s; {told.received} packets in time, {told.lost} lost, "
        f"{told.late} late, {told.duplicate} twice, {told.corrupt + player.num_malformed} damaged, "
        f"{told.foreign} foreign; {told.late_frames} frames too late, {told.repaired} repaired, "
        f"{told.concealed} concealed"
    )


def _prefer_one_thread() -> None:
    """Compute in one thread unless OMP_NUM_THREADS says otherwise: a packet's products are small.

    On two virtual cores a sender took 2.5 times as long with two threads, and both ends could not keep up.
    torch and numpy's BLAS read it as they are imported, later neither can be told for good.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _faults(jitter: float, reorder: float, duplicate: float) -> ChannelFaults | None:
    """What was asked for, or None if nothing was."""
    from ..transmission.link.channel import ChannelFaults

    if not (jitter or reorder or duplicate):
        return None
    return ChannelFaults(jitter_seconds=jitter, reordered=reorder, duplicated=duplicate)


def _coders(codec: CodecModel, model: Path | None, table: Path | None) -> dict[str, Any]:
    """Coders of what was asked for by name; those that ship are found without."""
    from ..transmission.link.models import load_base_coder, load_fine_coder

    made: dict[str, Any] = {}
    if table is not None:
        made["base_coder"] = load_base_coder(table, codec.identity)
    if model is not None:
        made["fine_coder"] = load_fine_coder(model, codec.identity)
    return made
