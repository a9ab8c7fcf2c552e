"""What a run says is about the run: no word of libraries that it does not use."""

from __future__ import annotations

import logging

import pytest

from speechlm.train.sharded import quiet_deepspeed


@pytest.mark.parametrize(
    ("asked", "heard"), [("false", ["failed"]), ("true", ["no GPU", "failed"])]
)
def test_deepspeed_speaks_only_of_runs_that_use_it(
    asked: str, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", asked)
    logger, told = logging.getLogger("DeepSpeed"), list[str]()
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: told.append(record.getMessage()))
    logger.addHandler(handler)
    try:
        quiet_deepspeed()
        quiet_deepspeed()
        logger.warning("no GPU")
        logger.error("failed")
    finally:
        logger.removeHandler(handler)
    assert told == heard
    assert len(logger.filters) == 1


def test_deepspeed_writes_under_the_name_that_is_quieted() -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.utils import logger

    assert logger.name == "DeepSpeed"
